-- Places an order with psql: its row and its event are in one transaction. Variables: `order`, `expected`, and how it ends.
\set ON_ERROR_STOP on
\set VERBOSITY verbose
BEGIN;
INSERT INTO orders (id) VALUES (:'order');
SELECT ensue.append('Order', :'order', 'OrderPlaced', '{"total": 5.5}', :expected) AS version;
:end;

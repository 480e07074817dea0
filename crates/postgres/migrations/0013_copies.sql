-- A logical copy of the database goes on where the original stood, and functions that whoever owns the tables calls call none of somebody else's.

-- Sequences are not copied along with tables (`CREATE SUBSCRIPTION`): tickets that were given would be given again, where nobody looks for
-- them any more. Whether it is so here.
CREATE FUNCTION ensue.is_copy() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT is_called AND EXISTS (SELECT FROM ensue.records)
        OR last_value < greatest(log.mark_ticket, (SELECT max(lower(tickets)) - 1 FROM unnest(log.unseen) AS tickets))
        OR EXISTS (SELECT FROM ensue.staged WHERE NOT ticket <@ log.unseen)
    FROM ensue.ticket, ensue.log
$$;

-- Has a logical copy go on behind what was given. Whoever is to use it calls this before anybody writes; events that were appended nevertheless are
-- found, too. On a store that is none it changes nothing that anybody notices.
CREATE FUNCTION ensue.take_over() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state ensue.log;
BEGIN
    SELECT * INTO STRICT state FROM ensue.log FOR UPDATE;
    PERFORM setval('ensue.ticket', greatest(last_value, state.mark_ticket,
        (SELECT max(lower(tickets)) FROM unnest(state.unseen) AS tickets),
        (SELECT max(ticket) FROM ensue.staged), (SELECT max(revision) FROM ensue.records))) FROM ensue.ticket;
    PERFORM setval('ensue.partitions_partition_seq', greatest(last_value, (SELECT max(partition) FROM ensue.partitions)))
    FROM ensue.partitions_partition_seq;
    UPDATE ensue.log SET unseen = '{[1,)}', mark_xid = NULL;
END $$;

ALTER FUNCTION ensue.catch_up() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensue.look_up() SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensue.load_batch SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensue.write_batch SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensue.await SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensue.take SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensue.import SET search_path = pg_catalog, pg_temp;

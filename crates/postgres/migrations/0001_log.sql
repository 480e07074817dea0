-- The log and what stands beside it. README.md says why it is laid out like this.
--
-- Writers outside of Ensue's own processes put events into `staged`; whoever holds the row of `log` moves them into `events`
-- and gives them their positions. Nothing but the functions of this schema writes to these tables.

-- Numbers for staged commits and for revisions of records. A number is taken only while the rows it orders are locked.
CREATE SEQUENCE ensue.ticket;

-- One row. Its lock is the right to give positions, and is held until the transaction that gave them has committed.
CREATE TABLE ensue.log (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    head bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    -- Tickets under which something may still turn up in `staged`.
    unseen int8multirange NOT NULL DEFAULT '{[1,)}',
    -- Once every transaction below `mark_xid` is over, nothing more can turn up at or below `mark_ticket`.
    mark_ticket bigint NOT NULL DEFAULT 0,
    mark_xid xid8
) WITH (fillfactor = 10);
INSERT INTO ensue.log DEFAULT VALUES;

CREATE TABLE ensue.heads (
    topic text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (topic, key)
) WITH (fillfactor = 80);

CREATE TABLE ensue.staged (
    ticket bigint NOT NULL,
    ordinal integer NOT NULL,
    version bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    metadata jsonb NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (ticket, ordinal)
);

CREATE TABLE ensue.events (
    position bigint PRIMARY KEY CHECK (position > 0),
    version bigint NOT NULL CHECK (version > 0),
    recorded_at timestamptz NOT NULL,
    topic text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    flow text COLLATE "C" NOT NULL,
    metadata jsonb NOT NULL,
    data bytea NOT NULL,
    UNIQUE (topic, key, version)
);
CREATE INDEX events_by_type ON ensue.events (event_type, position);
CREATE INDEX events_by_flow ON ensue.events (flow, position);

CREATE TABLE ensue.tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);

CREATE TABLE ensue.records (
    space text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    revision bigint NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (space, key)
) WITH (fillfactor = 80);

-- The log and what stands beside it, in the application's own file. Only Ensue writes to these tables; anybody may read them.
-- The time of record is in microseconds since 1970. No statement here depends on a setting of the connection.

-- One row: what the next commit goes on from. `head` is the last position; whoever adds or removes rows of `ensue_events`
-- by hand is found out by it.
CREATE TABLE ensue_log (
    single INTEGER PRIMARY KEY CHECK (single = 1),
    head INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
INSERT INTO ensue_log VALUES (1, 0, 0, 0);

CREATE TABLE ensue_events (
    position INTEGER PRIMARY KEY CHECK (position > 0),
    version INTEGER NOT NULL CHECK (version > 0),
    recorded_at INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    event_type TEXT NOT NULL,
    flow TEXT NOT NULL,
    metadata TEXT NOT NULL,
    -- JSON bodies are text, so that `data ->> '$.total'` works; others are blobs.
    data ANY NOT NULL,
    UNIQUE (topic, key, version)
) STRICT;
-- Every index ends with the position, because that is the row's own id.
CREATE INDEX ensue_events_by_type ON ensue_events (event_type);
CREATE INDEX ensue_events_by_flow ON ensue_events (flow);

CREATE TRIGGER ensue_events_never_change BEFORE UPDATE ON ensue_events
BEGIN SELECT RAISE(ABORT, 'events never change: append another one'); END;
CREATE TRIGGER ensue_events_never_go BEFORE DELETE ON ensue_events
BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;

CREATE TABLE ensue_tags (
    tag TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE ensue_records (
    space TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    revision INTEGER NOT NULL,
    -- RFC 3339 with nine digits of a second, so that it sorts and no time is out of range.
    expires_at TEXT,
    PRIMARY KEY (space, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX ensue_records_lapsing ON ensue_records (expires_at) WHERE expires_at IS NOT NULL;

-- What stands beside `ensue.append`. Made in a fresh database for each run, by psql.

-- The application's own.
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    total numeric NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);

-- An outbox as it is written by hand: no versions, no order that a reader could rely on.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    event_type text NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The shape that message-db has made known: a stream is a category and an id, a lock on the category orders its writers, so that
-- its readers miss nothing, and the version is the last row of the stream.
CREATE TABLE messages (
    global_position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text NOT NULL,
    version bigint NOT NULL,
    id uuid NOT NULL UNIQUE,
    event_type text NOT NULL,
    data jsonb NOT NULL,
    metadata jsonb,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (stream, version)
);
CREATE INDEX messages_by_category ON messages (split_part(stream, '-', 1), global_position);

CREATE FUNCTION write_message(
    stream text, event_type text, data jsonb, expected bigint DEFAULT NULL, metadata jsonb DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(split_part(write_message.stream, '-', 1), 0));
    SELECT max(messages.version) INTO last FROM messages WHERE messages.stream = write_message.stream;
    last := coalesce(last, -1);
    IF last <> expected THEN
        RAISE EXCEPTION 'expected version % of %, found %', expected, write_message.stream, last;
    END IF;
    INSERT INTO messages (stream, version, id, event_type, data, metadata)
    VALUES (write_message.stream, last + 1, gen_random_uuid(), write_message.event_type, write_message.data, write_message.metadata);
    RETURN last + 1;
END $$;

-- The naive log: a lock on the table makes the order of commits that of positions.
CREATE TABLE log (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    event_type text NOT NULL,
    data jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

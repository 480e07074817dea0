-- An append costs what it writes to the log of the server, in everybody's transaction: so it writes less. Beside a plain insert into an outbox
-- table of 480 bytes it wrote 800: of these 120 were attributes that say nothing which the row does not say, and 50 a lock on the row of the
-- stream before it is changed, and a promise to insert it.

-- When it was appended, of an event without attributes: they are made when it gets its position.
ALTER TABLE ensue.staged ADD COLUMN appended_at timestamptz;
ALTER TABLE ensue.staged DROP CONSTRAINT staged_is_an_event, ADD CONSTRAINT staged_is_an_event
    CHECK (version > 0 AND (metadata->>'id' IS NOT NULL OR metadata = '{}' AND appended_at IS NOT NULL)) NOT VALID;

-- The attributes of an event that was appended without any.
CREATE FUNCTION ensue.plain_attributes(appended_at timestamptz) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', gen_random_uuid(), 'source', 'sql',
        'time', to_char(appended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
$$;

-- How many bytes get their positions in one step, about: large events are moved in well under a second too.
CREATE FUNCTION ensue.step_bytes() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 16777216';

-- As before, by their bytes too, and each event goes where its topic says, with attributes where it was appended without any.
CREATE OR REPLACE FUNCTION ensue.number_step(state ensue.log, fresh_mark bigint, OUT head bigint, OUT is_behind boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    oldest xid8 := pg_snapshot_xmin(pg_current_snapshot());
    first bigint;
    last bigint;
    moved bigint;
    seen int8multirange;
BEGIN
    -- A little more than a step, to see whether there is more, and which is the first that is too many.
    SELECT min(ticket), min(ticket) FILTER (WHERE place > ensue.step() OR bytes > ensue.step_bytes()) INTO first, last FROM (
        SELECT near.ticket, row_number() OVER in_order AS place, sum(near.bytes) OVER in_order AS bytes
        FROM unnest(state.unseen) AS tickets, LATERAL (
            SELECT staged.ticket, staged.ordinal, octet_length(staged.data) AS bytes FROM ensue.staged
            WHERE staged.ticket >= lower(tickets)
                AND staged.ticket < coalesce(upper(tickets), 9223372036854775807)
            ORDER BY staged.ticket, staged.ordinal LIMIT ensue.step() + 1
        ) AS near
        WINDOW in_order AS (ORDER BY near.ticket, near.ordinal)
        ORDER BY near.ticket, near.ordinal LIMIT ensue.step() + 1
    ) AS nearest;
    is_behind := last IS NOT NULL;
    -- It is left for the next step, with the whole of its ticket, unless there is no other one.
    last := CASE WHEN NOT is_behind THEN 9223372036854775807 ELSE greatest(last, first + 1) END;
    state.recorded_at := greatest(state.recorded_at, clock_timestamp());
    WITH taken AS (
        DELETE FROM ensue.staged USING unnest(state.unseen) AS tickets
        WHERE staged.ticket >= lower(tickets)
            AND staged.ticket < least(coalesce(upper(tickets), 9223372036854775807), last)
        RETURNING staged.*
    ), numbered AS (
        SELECT ticket, version, topic, key, event_type, data, state.head + row_number() OVER (ORDER BY ticket, ordinal) AS position,
            CASE WHEN metadata = '{}' THEN ensue.plain_attributes(appended_at) ELSE metadata END AS metadata
        FROM taken
    ), inserted AS (
        INSERT INTO ensue.events
            (position, version, recorded_at, topic, key, event_type, flow, metadata, data, partition)
        SELECT position, version, state.recorded_at, topic, key, event_type,
            coalesce(metadata->>'correlationid', metadata->>'id'), metadata, data, coalesce(partition, 0)
        FROM numbered LEFT JOIN ensue.retention USING (topic)
    ), tagged AS (
        INSERT INTO ensue.tags (tag, position)
        SELECT DISTINCT tag, position FROM numbered, ensue.tags_of(metadata) AS tag
    )
    SELECT count(*), range_agg(int8range(ticket, ticket, '[]')) INTO moved, seen FROM numbered;
    state.head := state.head + moved;
    state.unseen := state.unseen - coalesce(seen, '{}');
    -- Tickets of transactions that rolled back never turn up; they are forgotten once nobody can hold them any more. What a step has
    -- left for the next one has turned up.
    IF state.mark_xid IS NULL AND state.mark_ticket = fresh_mark THEN
        state.mark_xid := pg_current_xact_id();
    ELSIF state.mark_xid IS NULL OR state.mark_xid > pg_current_xact_id() THEN
        -- A copy of the database may have come to a server that counts from below.
        state.mark_xid := NULL;
    ELSIF oldest >= state.mark_xid AND NOT is_behind THEN
        state.unseen := state.unseen * int8multirange(int8range(state.mark_ticket, NULL, '()'));
        state.mark_xid := NULL;
        SELECT last_value INTO STRICT state.mark_ticket FROM ensue.ticket;
    END IF;
    UPDATE ensue.log SET head = state.head, recorded_at = state.recorded_at, unseen = state.unseen,
        mark_ticket = state.mark_ticket, mark_xid = state.mark_xid;
    head := state.head;
END $$;

-- As before; most streams that take any event are there already, and are changed without a look at them before.
CREATE OR REPLACE FUNCTION ensue.advance(topic text, key text, expected bigint, events bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    last bigint;
BEGIN
    IF expected IS DISTINCT FROM 0 THEN
        UPDATE ensue.heads SET version = version + events
        WHERE topic = advance.topic AND key = advance.key AND (expected IS NULL OR version = expected)
        RETURNING version INTO last;
    END IF;
    IF last IS NULL AND coalesce(expected, 0) = 0 THEN
        INSERT INTO ensue.heads AS heads (topic, key, version) VALUES (advance.topic, advance.key, events)
        ON CONFLICT (topic, key) DO UPDATE SET version = heads.version + events
            WHERE expected IS NULL OR heads.version = expected
        RETURNING version INTO last;
    END IF;
    RETURN last - events;
END $$;

-- As before, without attributes where none are given.
CREATE OR REPLACE FUNCTION ensue.append(
    topic text, key text, event_type text, data jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    body bytea := convert_to(data::text, 'UTF8');
    last bigint;
BEGIN
    IF (ensue.is_event_type(event_type) AND ensue.is_size(body, metadata)
        AND ensue.is_name(topic) AND NOT ensue.is_reserved(topic) AND ensue.is_key(key)) IS NOT TRUE THEN
        PERFORM ensue.check_event(event_type, body), ensue.check_stream(topic, key), ensue.check_size(body, metadata);
    END IF;
    last := ensue.advance(topic, key, expected_version, 1);
    IF last IS NULL THEN
        IF ensue.stands_at(topic, key, expected_version + 1, metadata) THEN
            RETURN expected_version + 1;
        END IF;
        PERFORM ensue.refuse_stale(topic, key, expected_version);
    END IF;
    IF metadata = '{}' THEN
        INSERT INTO ensue.staged (ticket, ordinal, version, topic, key, event_type, metadata, data, appended_at)
        VALUES (nextval('ensue.ticket'), 0, last + 1, topic, key, event_type, metadata, body, clock_timestamp());
    ELSE
        INSERT INTO ensue.staged (ticket, ordinal, version, topic, key, event_type, metadata, data)
        VALUES (nextval('ensue.ticket'), 0, last + 1, topic, key, event_type, ensue.attributes(metadata), body);
    END IF;
    RETURN last + 1;
END $$;

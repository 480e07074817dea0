-- A backlog is worked off in steps, each of which stays; a reader that keeps its transaction open holds up as little as can be; a commit of
-- many events costs as much as its events do; and an event is as large here as everywhere.

-- How many events get their positions in one step, about: so many are moved in well under a second, and others wait for no longer.
CREATE FUNCTION ensue.step() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 10000';

-- Gives positions to what is staged, a step of it, for a caller who holds the lock on the row `log`. Tickets are taken in their order and
-- whole, so a commit becomes visible as one, and the events of a stream in the order of their versions. Every statement here sees what
-- was committed before the statement, so it sees all that was committed before the lock was had.
CREATE FUNCTION ensue.number_step(state ensue.log, fresh_mark bigint, OUT head bigint, OUT is_behind boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    oldest xid8 := pg_snapshot_xmin(pg_current_snapshot());
    first bigint;
    last bigint;
    found bigint;
    moved bigint;
    seen int8multirange;
BEGIN
    -- A little more than a step, to see whether there is more.
    SELECT min(ticket), max(ticket), count(*) INTO first, last, found FROM (
        SELECT near.ticket FROM unnest(state.unseen) AS tickets, LATERAL (
            SELECT staged.ticket FROM ensue.staged
            WHERE staged.ticket >= lower(tickets)
                AND staged.ticket < coalesce(upper(tickets), 9223372036854775807)
            ORDER BY staged.ticket, staged.ordinal LIMIT ensue.step() + 1
        ) AS near
        ORDER BY near.ticket LIMIT ensue.step() + 1
    ) AS nearest;
    is_behind := found > ensue.step();
    -- The last of them is left for the next step, with the whole of its ticket, unless there is no other one.
    last := CASE WHEN NOT is_behind THEN 9223372036854775807 ELSE greatest(last, first + 1) END;
    state.recorded_at := greatest(state.recorded_at, clock_timestamp());
    WITH taken AS (
        DELETE FROM ensue.staged USING unnest(state.unseen) AS tickets
        WHERE staged.ticket >= lower(tickets)
            AND staged.ticket < least(coalesce(upper(tickets), 9223372036854775807), last)
        RETURNING staged.*
    ), numbered AS (
        SELECT *, state.head + row_number() OVER (ORDER BY ticket, ordinal) AS position FROM taken
    ), inserted AS (
        INSERT INTO ensue.events
            (position, version, recorded_at, topic, key, event_type, flow, metadata, data)
        SELECT position, version, state.recorded_at, topic, key, event_type,
            coalesce(metadata->>'correlationid', metadata->>'id'), metadata, data
        FROM numbered
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

-- One step for whoever reads: the head behind it, and whether there is more to number. Its caller commits soon: until then nobody else can
-- give positions. A transaction that cannot write, or may not, is told the head as it sees it.
CREATE FUNCTION ensue.catch_up(OUT head bigint, OUT is_behind boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    state ensue.log;
    fresh_mark bigint;
BEGIN
    SELECT * INTO STRICT state FROM ensue.log;
    head := state.head;
    is_behind := false;
    IF current_setting('transaction_read_only')::boolean
        OR current_setting('transaction_isolation') <> 'read committed'
        OR NOT ensue.has_staged(state.unseen)
        OR NOT has_table_privilege('ensue.log', 'UPDATE') THEN
        RETURN;
    END IF;
    -- A mark that was committed before this transaction had a number is older than that number.
    IF state.mark_xid IS NULL AND pg_current_xact_id_if_assigned() IS NULL THEN
        fresh_mark := state.mark_ticket;
    END IF;
    -- Whoever sits on this lock stops everybody, so an idle session does not keep it.
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true)
        WHERE current_setting('idle_in_transaction_session_timeout')::interval NOT BETWEEN '1ms' AND '10s';
    SELECT * INTO STRICT state FROM ensue.log FOR UPDATE;
    SELECT step.head, step.is_behind INTO STRICT head, is_behind FROM ensue.number_step(state, fresh_mark) AS step;
END $$;

CREATE OR REPLACE FUNCTION ensue.number() RETURNS bigint LANGUAGE sql AS $$
    SELECT head FROM ensue.catch_up()
$$;

-- As before; where more waits for its position than a step takes, the batch is refused, and comes again when that was worked off.
CREATE OR REPLACE FUNCTION ensue.load_batch(
    topics text[], keys text[], spaces text[], record_keys bytea[], tickets integer,
    OUT head bigint, OUT versions bigint[], OUT revisions bigint[], OUT granted bigint[]
) LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    state ensue.log;
    is_behind boolean := false;
BEGIN
    SELECT * INTO STRICT state FROM ensue.log FOR UPDATE;
    WITH wanted AS (
        SELECT * FROM unnest(topics, keys) WITH ORDINALITY AS wanted (topic, key, place)
    ), locked AS (
        SELECT place, heads.version FROM wanted JOIN ensue.heads USING (topic, key)
        FOR UPDATE OF heads SKIP LOCKED
    )
    SELECT array_agg(coalesce(locked.version,
            CASE WHEN EXISTS (SELECT FROM ensue.heads WHERE (heads.topic, heads.key) = (wanted.topic, wanted.key))
            THEN -1 ELSE 0 END) ORDER BY place)
    INTO versions FROM wanted LEFT JOIN locked USING (place);
    WITH wanted AS (
        SELECT * FROM unnest(spaces, record_keys) WITH ORDINALITY AS wanted (space, key, place)
    ), locked AS (
        SELECT place, CASE WHEN records.expires_at <= clock_timestamp() THEN 0 ELSE records.revision END AS revision
        FROM wanted JOIN ensue.records USING (space, key)
        FOR UPDATE OF records SKIP LOCKED
    )
    SELECT array_agg(coalesce(locked.revision,
            CASE WHEN EXISTS (SELECT FROM ensue.records WHERE (records.space, records.key) = (wanted.space, wanted.key))
            THEN -1 ELSE 0 END) ORDER BY place)
    INTO revisions FROM wanted LEFT JOIN locked USING (place);
    -- Whoever held one of these streams before has committed by now, so its events come before ours.
    head := state.head;
    IF ensue.has_staged(state.unseen) THEN
        SELECT step.head, step.is_behind INTO STRICT head, is_behind FROM ensue.number_step(state, NULL) AS step;
    END IF;
    IF is_behind THEN
        RAISE EXCEPTION USING ERRCODE = 'EN003',
            MESSAGE = 'events that others have appended wait for their positions, more than one step of them',
            HINT = 'Try again: whoever reads works them off.';
    END IF;
    granted := ARRAY(SELECT nextval('ensue.ticket') FROM generate_series(1, tickets));
    -- From here on nothing is worth waiting for: everybody else waits for us.
    PERFORM set_config('lock_timeout', '100ms', true),
        set_config('idle_in_transaction_session_timeout', '10s', true);
END $$;

DROP FUNCTION ensue.number_locked(ensue.log, bigint);

-- Events behind a position, in order. What is staged is given positions first, as much as was asked for; but not in a transaction that
-- writes, nor in one that somebody has begun and that finds something to read without it: such a transaction may stay open for long, and
-- until it ends nobody else could give positions.
CREATE OR REPLACE FUNCTION ensue.read(after bigint, max integer)
RETURNS TABLE (
    "position" bigint, topic text, key text, version bigint, event_type text,
    data jsonb, metadata jsonb, recorded_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    step record;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NULL
        AND (now() = statement_timestamp() OR NOT EXISTS (SELECT FROM ensue.events WHERE position > read.after)) THEN
        LOOP
            SELECT * INTO STRICT step FROM ensue.catch_up();
            EXIT WHEN NOT step.is_behind OR step.head - read.after >= read.max;
        END LOOP;
    END IF;
    RETURN QUERY
        SELECT e.position, e.topic, e.key, e.version, e.event_type, body.json,
            CASE WHEN body.json IS NULL
                THEN e.metadata || jsonb_build_object('data_base64', translate(encode(e.data, 'base64'), E'\n', ''))
                ELSE e.metadata END,
            e.recorded_at
        FROM ensue.events AS e, LATERAL ensue.as_json(e.data) AS body (json)
        WHERE e.position > read.after ORDER BY e.position LIMIT read.max;
END $$;

-- As before, append by append: a row for each event that has the whole of its append with it costs the square of their number.
CREATE OR REPLACE FUNCTION ensue.take(commit jsonb) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    appends integer := coalesce(jsonb_array_length(commit->'appends'), 0);
    befores bigint[] := array_fill(0::bigint, ARRAY[appends]);
    repeated boolean := false;
    one record;
    ticket bigint;
    ordinals bigint := 0;
BEGIN
    FOR one IN
        SELECT place, append, append->>'topic' AS topic, append->>'key' AS key,
            append->>'expected_version' AS expected, jsonb_array_length(append->'events') AS events
        FROM jsonb_array_elements(commit->'appends') WITH ORDINALITY AS given (append, place)
        ORDER BY append->>'topic' COLLATE "C", append->>'key' COLLATE "C", place
    LOOP
        befores[one.place] := ensue.advance_to(one.topic, one.key, one.expected, one.events);
        IF befores[one.place] IS NULL THEN
            -- What was taken before is not as expected already at its first append, so nothing has changed yet.
            repeated := ensue.stands(commit);
            EXIT WHEN repeated;
            PERFORM ensue.refuse_version(one.append, one.place - 1);
        END IF;
    END LOOP;
    IF repeated THEN
        SELECT array_agg((append->>'expected_version')::bigint ORDER BY place) INTO befores
        FROM jsonb_array_elements(commit->'appends') WITH ORDINALITY AS given (append, place);
        SELECT max(records.revision) INTO ticket FROM ensue.writes_of(commit) JOIN ensue.records USING (space, key);
    ELSE
        PERFORM ensue.lock_records(commit);
        ticket := nextval('ensue.ticket');
        FOR one IN
            SELECT place, append->>'topic' AS topic, append->>'key' AS key, append->'events' AS events
            FROM jsonb_array_elements(commit->'appends') WITH ORDINALITY AS given (append, place) ORDER BY place
        LOOP
            INSERT INTO ensue.staged (ticket, ordinal, version, topic, key, event_type, metadata, data)
            SELECT ticket, ordinals + place - 1, befores[one.place] + place, one.topic, one.key,
                event->>'event_type', event->'metadata',
                coalesce(decode(event->>'data_base64', 'base64'), convert_to((event->'data')::text, 'UTF8'))
            FROM jsonb_array_elements(one.events) WITH ORDINALITY AS given (event, place);
            ordinals := ordinals + jsonb_array_length(one.events);
        END LOOP;
        PERFORM ensue.write_records(commit, ticket);
    END IF;
    RETURN jsonb_build_object('repeated', repeated,
        'revision', CASE WHEN jsonb_array_length(commit->'records') > 0 THEN coalesce(ticket, 0) ELSE 0 END,
        'appended', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'first_version', befores[place] + 1,
                'last_version', befores[place] + jsonb_array_length(append->'events')) ORDER BY place), '[]')
            FROM jsonb_array_elements(commit->'appends') WITH ORDINALITY AS given (append, place)));
END $$;

CREATE OR REPLACE FUNCTION ensue.stands(commit jsonb) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    one record;
    all_stand boolean := false;
BEGIN
    FOR one IN
        SELECT append->>'topic' AS topic, append->>'key' AS key, append->>'expected_version' AS expected, append->'events' AS events
        FROM jsonb_array_elements(commit->'appends') AS append
    LOOP
        IF one.expected = 'exists' THEN
            RETURN false;
        END IF;
        SELECT bool_and(ensue.stands_at(one.topic, one.key, one.expected::bigint + place, event->'metadata') IS TRUE) INTO all_stand
        FROM jsonb_array_elements(one.events) WITH ORDINALITY AS given (event, place);
        EXIT WHEN all_stand IS NOT TRUE;
    END LOOP;
    RETURN coalesce(all_stand, false);
END $$;
DROP FUNCTION ensue.events_of(jsonb);

-- An event with its attributes has at most as many bytes as in every other store, or it could not be moved there. What attributes are
-- given where nothing is said is below 256 bytes.
CREATE FUNCTION ensue.is_size(data bytea, metadata jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(data) + CASE WHEN metadata = '{}' THEN 0 ELSE octet_length(metadata::text) END <= (1 << 20) - 256 - 255
$$;

CREATE FUNCTION ensue.check_size(data bytea, metadata jsonb) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF NOT ensue.is_size(data, metadata) THEN
        PERFORM ensue.refuse(format('the data has %s bytes and the metadata %s, together at most %s are taken',
            octet_length(data), octet_length(metadata::text), (1 << 20) - 256 - 255));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ensue.completed_event(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    body bytea := coalesce(decode(event->>'data_base64', 'base64'), convert_to((event->'data')::text, 'UTF8'));
BEGIN
    PERFORM ensue.check_members(event, 'an event', 'event_type', 'data', 'data_base64', 'metadata');
    IF event ? 'data' = event ? 'data_base64' THEN
        PERFORM ensue.refuse('an event has either data or data_base64');
    END IF;
    PERFORM ensue.check_event(event->>'event_type', body), ensue.check_size(body, coalesce(event->'metadata', '{}'));
    RETURN event || jsonb_build_object('metadata', ensue.attributes(coalesce(event->'metadata', '{}')));
END $$;

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
    INSERT INTO ensue.staged (ticket, ordinal, version, topic, key, event_type, metadata, data)
    VALUES (nextval('ensue.ticket'), 0, last + 1, topic, key, event_type, ensue.attributes(metadata), body);
    RETURN last + 1;
END $$;

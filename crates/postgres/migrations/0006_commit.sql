-- `ensue.commit`: several appends and changes to records, taken together as part of the caller's transaction.
--
-- `commit` checks and completes what any language gives; `take` does it, and trusts what it is given. README.md has the shape.

-- Where an append or a record write is not as expected, the detail says which and what it is, for programs.
CREATE FUNCTION ensue.refuse_version(append jsonb, place bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    actual bigint := coalesce((
        SELECT version FROM ensue.heads WHERE (heads.topic, heads.key) = (append->>'topic', append->>'key')), 0);
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EN001',
        MESSAGE = format('%s/%s is at version %s, but %s was expected', append->>'topic', append->>'key', actual,
            CASE append->>'expected_version' WHEN 'exists' THEN 'an existing stream'
            ELSE 'version ' || (append->>'expected_version') END),
        DETAIL = jsonb_build_object('append', place, 'actual', actual),
        HINT = 'Read the stream again, decide again, append with the new version.';
END $$;

CREATE FUNCTION ensue.refuse_revision(write jsonb, place bigint, actual bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EN002',
        MESSAGE = format('record %s/%s is at revision %s, but %s was expected',
            write->>'space', coalesce(write->>'key', write->>'key_base64'), actual, write->>'expected_revision'),
        DETAIL = jsonb_build_object('record', place, 'actual', actual),
        HINT = 'Read the record again, decide again, write with the new revision.';
END $$;

-- The bytes that a member holds: as text, or under `…_base64`. NULL where it is absent.
CREATE FUNCTION ensue.bytes_of(object jsonb, member text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(decode(object->>(member || '_base64'), 'base64'), convert_to(object->>member, 'UTF8'))
$$;

-- The events of a commit, in order; places count from one.
CREATE FUNCTION ensue.events_of(commit jsonb)
RETURNS TABLE (append bigint, place bigint, topic text, key text, expected text, event jsonb) LANGUAGE sql IMMUTABLE AS $$
    SELECT appends.place, events.place, append->>'topic', append->>'key', append->>'expected_version', event
    FROM jsonb_array_elements(commit->'appends') WITH ORDINALITY AS appends (append, place),
        jsonb_array_elements(append->'events') WITH ORDINALITY AS events (event, place)
$$;

-- The record writes of a commit, in the order in which records are locked.
CREATE FUNCTION ensue.writes_of(commit jsonb)
RETURNS TABLE (place bigint, space text, key bytea, write jsonb) LANGUAGE sql IMMUTABLE AS $$
    SELECT place, write->>'space', ensue.bytes_of(write, 'key'), write
    FROM jsonb_array_elements(commit->'records') WITH ORDINALITY AS writes (write, place)
    ORDER BY write->>'space' COLLATE "C", ensue.bytes_of(write, 'key')
$$;

-- Takes a commit that is in order as part of the caller's transaction. Streams and then records are locked in the order in
-- which `await` locks them; the ticket is drawn under all of these locks.
CREATE FUNCTION ensue.take(commit jsonb) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    appends integer := coalesce(jsonb_array_length(commit->'appends'), 0);
    befores bigint[] := array_fill(0::bigint, ARRAY[appends]);
    repeated boolean := false;
    one record;
    ticket bigint;
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
        INSERT INTO ensue.staged (ticket, ordinal, version, topic, key, event_type, metadata, data)
        SELECT ticket, row_number() OVER (ORDER BY append, place) - 1, befores[append] + place, topic, key,
            event->>'event_type', event->'metadata',
            coalesce(decode(event->>'data_base64', 'base64'), convert_to((event->'data')::text, 'UTF8'))
        FROM ensue.events_of(commit);
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

-- As `advance`, for what an append of a commit expects: a version, `exists`, or nothing.
CREATE FUNCTION ensue.advance_to(topic text, key text, expected text, events bigint) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    last bigint;
BEGIN
    IF expected IS DISTINCT FROM 'exists' THEN
        RETURN ensue.advance(topic, key, expected::bigint, events);
    END IF;
    UPDATE ensue.heads SET version = version + events
    WHERE topic = advance_to.topic AND key = advance_to.key AND version > 0 RETURNING version INTO last;
    RETURN last - events;
END $$;

-- Whether each event stands exactly where it asks to go: then the commit is a repetition.
CREATE FUNCTION ensue.stands(commit jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(bool_and(CASE WHEN expected <> 'exists'
        THEN ensue.stands_at(topic, key, expected::bigint + place, event->'metadata') END IS TRUE), false)
    FROM ensue.events_of(commit)
$$;

-- Locks the records of a commit, those too that do not exist yet, and checks what is expected of them.
CREATE FUNCTION ensue.lock_records(commit jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
    actual bigint;
BEGIN
    FOR one IN SELECT * FROM ensue.writes_of(commit) LOOP
        LOOP
            INSERT INTO ensue.records (space, key, value, revision) VALUES (one.space, one.key, '', 0)
            ON CONFLICT DO NOTHING;
            SELECT CASE WHEN expires_at <= clock_timestamp() THEN 0 ELSE revision END INTO actual
            FROM ensue.records WHERE space = one.space AND key = one.key FOR UPDATE;
            EXIT WHEN FOUND; -- or somebody has just deleted it
        END LOOP;
        IF (one.write->>'expected_revision')::bigint <> actual THEN
            PERFORM ensue.refuse_revision(one.write, one.place - 1, actual);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION ensue.write_records(commit jsonb, ticket bigint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM ensue.records USING ensue.writes_of(commit) AS gone
    WHERE (records.space, records.key) = (gone.space, gone.key) AND gone.write @> '{"delete": true}';
    UPDATE ensue.records SET value = ensue.bytes_of(write, 'value'), revision = ticket,
        expires_at = (write->>'expires_at')::timestamptz
    FROM ensue.writes_of(commit) AS put
    WHERE (records.space, records.key) = (put.space, put.key) AND NOT put.write @> '{"delete": true}';
END $$;

-- Takes a commit as part of the caller's transaction. Answers with versions in the order of the appends.
CREATE FUNCTION ensue.commit(commit jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN ensue.take(ensue.completed(commit));
END $$;

-- Refuses an object that holds anything but these members: a member that is spelled wrong must not pass as absent.
CREATE FUNCTION ensue.check_members(object jsonb, what text, variadic members text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    stray text;
BEGIN
    IF jsonb_typeof(object) IS DISTINCT FROM 'object' THEN
        PERFORM ensue.refuse(format('%s is not a JSON object', what));
    END IF;
    SELECT name INTO stray FROM jsonb_object_keys(object) AS name WHERE name <> ALL (members) LIMIT 1;
    IF stray IS NOT NULL THEN
        PERFORM ensue.refuse(format('%s has no member %L: there are %s', what, stray, array_to_string(members, ', ')));
    END IF;
END $$;

-- The members of a list, which may be absent but must not be anything else.
CREATE FUNCTION ensue.members_of(object jsonb, list text) RETURNS SETOF jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF coalesce(jsonb_typeof(object->list), 'array') <> 'array' THEN
        PERFORM ensue.refuse(format('%s is not a JSON array', list));
    END IF;
    RETURN QUERY SELECT jsonb_array_elements(object->list);
END $$;

-- The commit with all that is left out filled in; refuses what breaks a rule.
CREATE FUNCTION ensue.completed(commit jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    appends jsonb;
    records jsonb;
BEGIN
    IF commit ? 'condition' THEN
        PERFORM ensue.refuse('a condition cannot be held in a transaction that others do not wait for: give the rule a '
            'stream of its own and expect its version, or commit through the store');
    END IF;
    PERFORM ensue.check_members(commit, 'a commit', 'appends', 'records');
    SELECT coalesce(jsonb_agg(ensue.completed_append(append)), '[]') INTO appends
    FROM ensue.members_of(commit, 'appends') AS append;
    SELECT coalesce(jsonb_agg(ensue.checked_write(write)), '[]') INTO records
    FROM ensue.members_of(commit, 'records') AS write;
    IF (SELECT count(*) > count(DISTINCT (space, key)) FROM ensue.writes_of(jsonb_build_object('records', records))) THEN
        PERFORM ensue.refuse('a record is written twice in one commit');
    ELSIF octet_length(commit::text) > 48 << 20 THEN
        PERFORM ensue.refuse('the commit is too large: split it into several');
    END IF;
    RETURN jsonb_build_object('appends', appends, 'records', records);
END $$;

CREATE FUNCTION ensue.completed_append(append jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    events jsonb;
BEGIN
    PERFORM ensue.check_members(append, 'an append', 'topic', 'key', 'expected_version', 'events');
    PERFORM ensue.check_stream(append->>'topic', append->>'key');
    IF append->>'expected_version' !~ '^(exists|0|[1-9][0-9]{0,17})$' THEN
        PERFORM ensue.refuse(format('%L is no version: expect a number, "exists", or leave it out', append->>'expected_version'));
    END IF;
    SELECT jsonb_agg(ensue.completed_event(event)) INTO events FROM ensue.members_of(append, 'events') AS event;
    IF events IS NULL THEN
        PERFORM ensue.refuse(format('the append to %s/%s has no events', append->>'topic', append->>'key'));
    END IF;
    RETURN append || jsonb_build_object('events', events);
END $$;

CREATE FUNCTION ensue.completed_event(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ensue.check_members(event, 'an event', 'event_type', 'data', 'data_base64', 'metadata');
    IF event ? 'data' = event ? 'data_base64' THEN
        PERFORM ensue.refuse('an event has either data or data_base64');
    END IF;
    PERFORM ensue.check_event(event->>'event_type',
        coalesce(decode(event->>'data_base64', 'base64'), convert_to((event->'data')::text, 'UTF8')));
    RETURN event || jsonb_build_object('metadata', ensue.attributes(coalesce(event->'metadata', '{}')));
END $$;

CREATE FUNCTION ensue.check_event(event_type text, data bytea) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF event_type !~ '^[!-~]{1,255}$' OR event_type IS NULL THEN
        PERFORM ensue.refuse(format('%L is not an event type: use 1 to 255 bytes of visible ASCII without spaces', left(event_type, 60)));
    ELSIF data IS NULL THEN
        PERFORM ensue.refuse('the data is NULL: give a JSON value');
    ELSIF octet_length(data) > 1 << 20 THEN
        PERFORM ensue.refuse(format('the data has %s bytes, at most %s are taken', octet_length(data), 1 << 20));
    END IF;
END $$;

CREATE FUNCTION ensue.checked_write(write jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    key bytea := ensue.bytes_of(write, 'key');
    value bytea := ensue.bytes_of(write, 'value');
BEGIN
    PERFORM ensue.check_members(write, 'a record', 'space', 'key', 'key_base64', 'value', 'value_base64', 'delete',
        'expected_revision', 'expires_at');
    IF write->>'space' !~ '^[A-Za-z0-9._-]{1,255}$' OR write->>'space' IS NULL THEN
        PERFORM ensue.refuse(format('%L is not a record space: use 1 to 255 letters, digits, `.`, `_` and `-`', write->>'space'));
    ELSIF octet_length(key) NOT BETWEEN 1 AND 1024 OR key IS NULL OR write ?& '{key,key_base64}' THEN
        PERFORM ensue.refuse('a record has either key or key_base64, of 1 to 1024 bytes');
    ELSIF (value IS NULL) <> (write @> '{"delete": true}') OR write ?& '{value,value_base64}' THEN
        PERFORM ensue.refuse('a record has either value, value_base64 or "delete": true');
    ELSIF octet_length(value) > 1 << 20 THEN
        PERFORM ensue.refuse(format('the value has %s bytes, at most %s are taken', octet_length(value), 1 << 20));
    ELSIF write->>'expected_revision' !~ '^(0|[1-9][0-9]{0,17})$' THEN
        PERFORM ensue.refuse(format('%L is no revision: expect a number, or leave it out', write->>'expected_revision'));
    END IF;
    RETURN write;
END $$;

-- The rules of names have to be kept for streams that exist, too: a journal of a saga is one.
CREATE OR REPLACE FUNCTION ensue.append(
    topic text, key text, event_type text, data jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    body bytea := convert_to(data::text, 'UTF8');
    last bigint;
BEGIN
    PERFORM ensue.check_event(event_type, body), ensue.check_stream(topic, key);
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

-- Without a check of names, which is the callers'.
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

-- A record that does not exist is held like a stream: by a row of revision zero, which its commit overwrites or deletes, or its
-- refusal rolls back.
CREATE OR REPLACE FUNCTION ensue.await(topics text[], keys text[], spaces text[], record_keys bytea[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
BEGIN
    INSERT INTO ensue.heads (topic, key, version)
    SELECT topic, key, 0 FROM unnest(topics, keys) AS wanted (topic, key) ORDER BY topic COLLATE "C", key COLLATE "C"
    ON CONFLICT DO NOTHING;
    PERFORM FROM ensue.heads JOIN unnest(topics, keys) AS wanted (topic, key) USING (topic, key)
        ORDER BY topic, key FOR UPDATE OF heads;
    INSERT INTO ensue.records (space, key, value, revision)
    SELECT space, key, '', 0 FROM unnest(spaces, record_keys) AS wanted (space, key) ORDER BY space COLLATE "C", key
    ON CONFLICT DO NOTHING;
    PERFORM FROM ensue.records JOIN unnest(spaces, record_keys) AS wanted (space, key) USING (space, key)
        ORDER BY space, key FOR UPDATE OF records;
END $$;

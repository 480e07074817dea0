-- What Ensue's own processes call: a batch of commits is decided by the process, under the lock on the row `log`.

-- Locks the log, then the streams and records that nobody else holds, gives positions to what was staged before, and answers
-- with what the batch is decided by. A version or revision of -1: somebody holds it and may be about to change it.
CREATE FUNCTION ensue.load_batch(
    topics text[], keys text[], spaces text[], record_keys bytea[], tickets integer,
    OUT head bigint, OUT versions bigint[], OUT revisions bigint[], OUT granted bigint[]
) LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    state ensue.log;
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
    head := CASE WHEN ensue.has_staged(state.unseen) THEN ensue.number_locked(state, NULL) ELSE state.head END;
    granted := ARRAY(SELECT nextval('ensue.ticket') FROM generate_series(1, tickets));
    -- From here on nothing is worth waiting for: everybody else waits for us.
    PERFORM set_config('lock_timeout', '100ms', true),
        set_config('idle_in_transaction_session_timeout', '10s', true);
END $$;

-- Waits, before the log is locked, for whoever holds these streams and records. A stream that does not exist is held by a row
-- of version zero, which its commit overwrites or its refusal rolls back.
CREATE FUNCTION ensue.await(topics text[], keys text[], spaces text[], record_keys bytea[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
BEGIN
    INSERT INTO ensue.heads (topic, key, version)
    SELECT topic, key, 0 FROM unnest(topics, keys) AS wanted (topic, key) ORDER BY topic, key
    ON CONFLICT DO NOTHING;
    PERFORM FROM ensue.heads JOIN unnest(topics, keys) AS wanted (topic, key) USING (topic, key)
        ORDER BY topic, key FOR UPDATE OF heads;
    PERFORM FROM ensue.records JOIN unnest(spaces, record_keys) AS wanted (space, key) USING (space, key)
        ORDER BY space, key FOR UPDATE OF records;
END $$;

-- Writes what was decided. Fails as a serialization failure where something came in between that could not be locked because
-- it was not there; then the batch is decided again.
CREATE FUNCTION ensue.write_batch(
    streams_topics text[], streams_keys text[], versions_before bigint[], versions_after bigint[],
    topics text[], keys text[], versions bigint[], event_types text[], flows text[], metadata text[], bodies bytea[],
    tags text[], tagged bigint[],
    put_spaces text[], put_keys bytea[], put_values bytea[], put_revisions bigint[], put_expiries timestamptz[],
    deleted_spaces text[], deleted_keys bytea[]
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    state ensue.log;
    known bigint;
    new bigint;
BEGIN
    SELECT * INTO STRICT state FROM ensue.log;
    UPDATE ensue.heads SET version = after
    FROM unnest(streams_topics, streams_keys, versions_before, versions_after) AS changed (topic, key, before, after)
    WHERE (heads.topic, heads.key, heads.version) = (changed.topic, changed.key, before) AND before > 0;
    GET DIAGNOSTICS known = ROW_COUNT;
    INSERT INTO ensue.heads (topic, key, version)
    SELECT topic, key, after
    FROM unnest(streams_topics, streams_keys, versions_before, versions_after) AS changed (topic, key, before, after)
    WHERE before = 0 ORDER BY topic, key
    ON CONFLICT (topic, key) DO UPDATE SET version = excluded.version WHERE heads.version = 0;
    GET DIAGNOSTICS new = ROW_COUNT;
    PERFORM ensue.insist(known + new = cardinality(streams_topics));

    state.recorded_at := greatest(state.recorded_at, clock_timestamp());
    INSERT INTO ensue.events (position, version, recorded_at, topic, key, event_type, flow, metadata, data)
    SELECT state.head + place, version, state.recorded_at, topic, key, event_type, flow, attributes::jsonb, body
    FROM unnest(topics, keys, versions, event_types, flows, metadata, bodies)
        WITH ORDINALITY AS given (topic, key, version, event_type, flow, attributes, body, place);
    INSERT INTO ensue.tags (tag, position)
    SELECT DISTINCT tag, state.head + place FROM unnest(tags, tagged) AS given (tag, place);
    IF cardinality(topics) > 0 THEN
        UPDATE ensue.log SET head = state.head + cardinality(topics), recorded_at = state.recorded_at;
    END IF;

    DELETE FROM ensue.records USING unnest(deleted_spaces, deleted_keys) AS gone (space, key)
    WHERE (records.space, records.key) = (gone.space, gone.key);
    INSERT INTO ensue.records (space, key, value, revision, expires_at)
    SELECT * FROM unnest(put_spaces, put_keys, put_values, put_revisions, put_expiries)
    ON CONFLICT (space, key) DO UPDATE
        SET value = excluded.value, revision = excluded.revision, expires_at = excluded.expires_at
        WHERE records.revision < excluded.revision;
    GET DIAGNOSTICS new = ROW_COUNT;
    PERFORM ensue.insist(new = cardinality(put_spaces));
END $$;

CREATE FUNCTION ensue.insist(is_as_decided boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT is_as_decided THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
            MESSAGE = 'another transaction came in between the decision and the write';
    END IF;
END $$;

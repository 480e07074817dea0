-- Positions: how events that were committed by anybody come into the log.

-- Moves what is committed and has no position yet into the log; answers with the position of the last event. Its caller
-- commits soon: until then nobody else can give positions. A transaction that cannot write is told the head as it sees it.
CREATE FUNCTION ensue.number() RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    state ensue.log;
    fresh_mark bigint;
BEGIN
    SELECT * INTO STRICT state FROM ensue.log;
    IF current_setting('transaction_read_only')::boolean
        OR current_setting('transaction_isolation') <> 'read committed'
        OR NOT ensue.has_staged(state.unseen) THEN
        RETURN state.head;
    END IF;
    -- A mark that was committed before this transaction had a number is older than that number.
    IF state.mark_xid IS NULL AND pg_current_xact_id_if_assigned() IS NULL THEN
        fresh_mark := state.mark_ticket;
    END IF;
    -- Whoever sits on this lock stops everybody, so an idle session does not keep it.
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true)
        WHERE current_setting('idle_in_transaction_session_timeout') = '0';
    SELECT * INTO STRICT state FROM ensue.log FOR UPDATE;
    RETURN ensue.number_locked(state, fresh_mark);
END $$;

-- Whether something is staged under one of these tickets.
CREATE FUNCTION ensue.has_staged(unseen int8multirange) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM unnest(unseen) AS tickets
        JOIN ensue.staged ON staged.ticket >= lower(tickets)
            AND staged.ticket < coalesce(upper(tickets), 9223372036854775807)
    )
$$;

-- The work of `number`, for a caller who holds the lock on the row `log`. Every statement here sees what was committed
-- before the statement, so it sees all that was committed before the lock was had.
CREATE FUNCTION ensue.number_locked(state ensue.log, fresh_mark bigint) RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    oldest xid8 := pg_snapshot_xmin(pg_current_snapshot());
    moved bigint;
    seen int8multirange;
BEGIN
    state.recorded_at := greatest(state.recorded_at, clock_timestamp());
    WITH taken AS (
        DELETE FROM ensue.staged USING unnest(state.unseen) AS tickets
        WHERE staged.ticket >= lower(tickets)
            AND staged.ticket < coalesce(upper(tickets), 9223372036854775807)
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
    -- Tickets of transactions that rolled back never turn up; they are forgotten once nobody can hold them any more.
    IF state.mark_xid IS NULL AND state.mark_ticket = fresh_mark THEN
        state.mark_xid := pg_current_xact_id();
    ELSIF state.mark_xid IS NULL OR state.mark_xid > pg_current_xact_id() THEN
        -- A copy of the database may have come to a server that counts from below.
        state.mark_xid := NULL;
    ELSIF oldest >= state.mark_xid THEN
        state.unseen := state.unseen * int8multirange(int8range(state.mark_ticket, NULL, '()'));
        state.mark_xid := NULL;
        SELECT last_value INTO STRICT state.mark_ticket FROM ensue.ticket;
    END IF;
    UPDATE ensue.log SET head = state.head, recorded_at = state.recorded_at, unseen = state.unseen,
        mark_ticket = state.mark_ticket, mark_xid = state.mark_xid;
    RETURN state.head;
END $$;

-- The tags of an event as `name:value`. In the metadata they are one text with commas, as CloudEvents carries them.
CREATE FUNCTION ensue.tags_of(metadata jsonb) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
    SELECT tag FROM string_to_table(metadata->>'tags', ',') AS tag
$$;

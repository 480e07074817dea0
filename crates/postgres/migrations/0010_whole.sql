-- Readers in SQL are given what readers in Rust are: nothing beyond the head, and an error where an event is missing.

-- Events behind a position, in order and without a gap. What is staged is given positions first, as much as was asked for; but not in a
-- transaction that writes, nor in one that somebody has begun and that finds something to read without it: such a transaction may stay open
-- for long, and until it ends nobody else could give positions.
CREATE OR REPLACE FUNCTION ensue.read(after bigint, max integer)
RETURNS TABLE (
    "position" bigint, topic text, key text, version bigint, event_type text,
    data jsonb, metadata jsonb, recorded_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    step record;
    last bigint;
    given bigint;
BEGIN
    IF read.after IS NULL OR read.after < 0 THEN
        PERFORM ensue.refuse('the position to read behind is NULL or below zero: give 0 to read from the beginning');
    ELSIF read.max < 0 THEN
        PERFORM ensue.refuse('the number of events to read is below zero: give how many at most');
    END IF;
    IF pg_current_xact_id_if_assigned() IS NULL
        AND (now() = statement_timestamp() OR read.after >= (SELECT head FROM ensue.log)) THEN
        LOOP
            SELECT * INTO STRICT step FROM ensue.catch_up();
            EXIT WHEN NOT step.is_behind OR step.head - read.after >= read.max;
        END LOOP;
    END IF;
    -- The last position of the page: what lies beyond the head of this snapshot was not put there by Ensue.
    SELECT read.after + greatest(least(head - read.after, read.max), 0) INTO STRICT last FROM ensue.log;
    RETURN QUERY
        SELECT e.position, e.topic, e.key, e.version, e.event_type, body.json,
            CASE WHEN body.json IS NULL
                THEN e.metadata || jsonb_build_object('data_base64', translate(encode(e.data, 'base64'), E'\n', ''))
                ELSE e.metadata END,
            e.recorded_at
        FROM ensue.events AS e, LATERAL ensue.as_json(e.data) AS body (json)
        WHERE e.position > read.after AND e.position <= last ORDER BY e.position;
    GET DIAGNOSTICS given = ROW_COUNT;
    IF given < last - read.after THEN
        PERFORM ensue.miss(read.after, last);
    END IF;
END $$;

-- Names the first position that is missing up to the last.
CREATE FUNCTION ensue.miss(after bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    missing bigint := (
        SELECT min(next) FROM (
            SELECT after + 1 UNION ALL SELECT position + 1 FROM ensue.events WHERE position > after AND position < last
        ) AS following (next)
        WHERE NOT EXISTS (SELECT FROM ensue.events WHERE position = next));
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'XX001',
        MESSAGE = format('the event at position %s is missing, although the log goes on', missing),
        HINT = 'Somebody has removed it by hand: restore it from a backup, or read on behind it.';
END $$;

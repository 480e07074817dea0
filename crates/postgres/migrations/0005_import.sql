-- Moving a store: events as another store has recorded them.

-- Takes over events that follow the head without a gap, with their positions, versions and times; answers with the new
-- head. NULL where they do not follow, or where something waits for its position: then none of them is taken.
CREATE FUNCTION ensue.import(
    first_position bigint, topics text[], keys text[], versions bigint[], event_types text[],
    times timestamptz[], metadata text[], bodies bytea[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    state ensue.log;
    last bigint := first_position + cardinality(topics) - 1;
BEGIN
    SELECT * INTO STRICT state FROM ensue.log FOR UPDATE;
    IF state.head <> first_position - 1 OR ensue.has_staged(state.unseen) THEN
        RETURN NULL;
    END IF;
    WITH given AS (
        SELECT first_position + place - 1 AS position, version, recorded_at, topic, key, event_type, body,
            event_metadata::jsonb AS attributes
        FROM unnest(topics, keys, versions, event_types, times, metadata, bodies) WITH ORDINALITY
            AS event (topic, key, version, event_type, recorded_at, event_metadata, body, place)
    ), inserted AS (
        INSERT INTO ensue.events
            (position, version, recorded_at, topic, key, event_type, flow, metadata, data)
        SELECT position, version, recorded_at, topic, key, event_type,
            coalesce(attributes->>'correlationid', attributes->>'id'), attributes, body
        FROM given
    ), tagged AS (
        INSERT INTO ensue.tags (tag, position)
        SELECT DISTINCT tag, position FROM given, ensue.tags_of(attributes) AS tag
    )
    INSERT INTO ensue.heads AS heads (topic, key, version)
    SELECT topic, key, max(version) FROM given GROUP BY topic, key
    ON CONFLICT (topic, key) DO UPDATE SET version = excluded.version;
    UPDATE ensue.log SET head = last, recorded_at = greatest(state.recorded_at, times[cardinality(times)]);
    RETURN last;
END $$;

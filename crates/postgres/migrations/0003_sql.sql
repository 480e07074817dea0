-- What any language calls inside its own transaction: `ensue.append`, `ensue.commit`, `ensue.read`.
--
-- SQLSTATEs: EN001 a stale version, EN002 a stale record, EN003 a condition that no longer holds, EN004 a rule that was broken.

CREATE FUNCTION ensue.refuse(reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EN004', MESSAGE = reason;
END $$;

-- The rules of names, as ensue-core has them.
CREATE FUNCTION ensue.check_stream(topic text, key text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF topic !~ '^[A-Za-z0-9._-]{1,249}$' OR topic IS NULL THEN
        PERFORM ensue.refuse(format('%L is not a topic: use 1 to 249 letters, digits, `.`, `_` and `-`', topic));
    ELSIF topic ~ '^(command|dead|ensue|saga)\.' THEN
        PERFORM ensue.refuse(format('topic %L is reserved: only Ensue writes to it', topic));
    ELSIF key IS NULL OR key = '' OR octet_length(key) > 512 OR key ~ '[/\u0001-\u001F\u007F-\u009F]' THEN
        PERFORM ensue.refuse(format('%L is not a key: use 1 to 512 bytes of text without `/` and control characters', left(key, 60)));
    END IF;
END $$;

CREATE FUNCTION ensue.check_text(what text, value text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF value = '' OR octet_length(value) > 1024 OR value ~ '[\u0001-\u001F\u007F-\u009F]' THEN
        PERFORM ensue.refuse(format('%L is not %s: use 1 to 1024 bytes of text without control characters', left(value, 60), what));
    END IF;
END $$;

-- The tags of the metadata as one text: given as that, or as an array of `name:value`.
CREATE FUNCTION ensue.tags_text(tags jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE jsonb_typeof(tags)
        WHEN 'array' THEN (
            SELECT string_agg(replace(replace(tag, '%', '%25'), ',', '%2C'), ',' ORDER BY place)
            FROM jsonb_array_elements_text(tags) WITH ORDINALITY AS given (tag, place))
        ELSE tags #>> '{}'
    END
$$;

CREATE FUNCTION ensue.check_tags(tags text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    tag text;
BEGIN
    FOREACH tag IN ARRAY string_to_array(tags, ',') LOOP
        IF tag !~ '^[A-Za-z0-9._-]{1,249}:[^\u0001-\u001F\u007F-\u009F]+$' OR octet_length(tag) > 762 THEN
            PERFORM ensue.refuse(format('%L is not a tag: write NAME:VALUE, such as `customer_id:CUST-3`', left(tag, 60)));
        END IF;
    END LOOP;
END $$;

-- The attributes of an event, complete: what is absent is filled in. Names are those of CloudEvents 1.0.
CREATE FUNCTION ensue.attributes(metadata jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    whole jsonb := metadata;
    name text;
    value text;
BEGIN
    IF jsonb_typeof(metadata) IS DISTINCT FROM 'object' THEN
        PERFORM ensue.refuse('metadata is not a JSON object');
    END IF;
    FOR name, value IN SELECT * FROM jsonb_each_text(metadata) LOOP
        IF name !~ '^[a-z0-9]+$' OR name IN ('data', 'type', 'subject', 'partitionkey', 'topic', 'position', 'streamversion', 'recordedat') THEN
            PERFORM ensue.refuse(format('metadata cannot hold %L: names are lower-case letters and digits, and not those of the event itself', name));
        ELSIF name <> 'tags' AND jsonb_typeof(metadata->name) NOT IN ('string', 'number', 'boolean') THEN
            PERFORM ensue.refuse(format('metadata holds an object, array or null under %L: give a text, number or boolean', name));
        ELSIF name IN ('id', 'source', 'correlationid', 'causationid', 'datacontenttype') THEN
            PERFORM ensue.check_text(format('the %s of an event', name), value);
        ELSIF name = 'schemaversion' AND value !~ '^[1-9][0-9]{0,8}$' THEN
            PERFORM ensue.refuse(format('%L is not a schema version: use a whole number from 1', value));
        ELSIF name = 'time' AND value !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$' THEN
            PERFORM ensue.refuse(format('%L is not an RFC 3339 time, such as `2024-01-15T10:30:00Z`', value));
        END IF;
    END LOOP;
    IF metadata ? 'tags' THEN
        whole := whole || jsonb_build_object('tags', coalesce(ensue.tags_text(metadata->'tags'), ''));
        PERFORM ensue.check_tags(whole->>'tags');
    END IF;
    IF NOT whole ? 'id' THEN
        whole := whole || jsonb_build_object('id', gen_random_uuid());
    END IF;
    IF NOT whole ? 'source' THEN
        whole := whole || '{"source": "sql"}';
    END IF;
    IF NOT whole ? 'time' THEN
        whole := whole || jsonb_build_object('time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
    END IF;
    RETURN whole;
END $$;

-- Locks the stream, checks what is expected of it, and counts `events` more: the version before them, or NULL if the stream
-- is not as expected. NULL expects nothing, zero that the stream does not exist.
CREATE FUNCTION ensue.advance(topic text, key text, expected bigint, events bigint) RETURNS bigint
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
        PERFORM ensue.check_stream(topic, key);
        INSERT INTO ensue.heads AS heads (topic, key, version) VALUES (advance.topic, advance.key, events)
        ON CONFLICT (topic, key) DO UPDATE SET version = heads.version + events
            WHERE expected IS NULL OR heads.version = expected
        RETURNING version INTO last;
    END IF;
    RETURN last - events;
END $$;

-- Appends one event as part of the caller's transaction. Answers with its version in the stream.
CREATE FUNCTION ensue.append(
    topic text, key text, event_type text, data jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    IF event_type !~ '^[!-~]{1,255}$' OR event_type IS NULL THEN
        PERFORM ensue.refuse(format('%L is not an event type: use 1 to 255 bytes of visible ASCII without spaces', left(event_type, 60)));
    ELSIF data IS NULL THEN
        PERFORM ensue.refuse('the data is NULL: give a JSON value');
    END IF;
    last := ensue.advance(topic, key, expected_version, 1);
    IF last IS NULL THEN
        IF ensue.stands_at(topic, key, expected_version + 1, metadata) THEN
            RETURN expected_version + 1;
        END IF;
        PERFORM ensue.refuse_stale(topic, key, expected_version);
    END IF;
    INSERT INTO ensue.staged (ticket, ordinal, version, topic, key, event_type, metadata, data)
    VALUES (nextval('ensue.ticket'), 0, last + 1, topic, key, event_type,
        ensue.attributes(metadata), convert_to(data::text, 'UTF8'));
    RETURN last + 1;
END $$;

-- Whether an event of this id stands there: then the append is a repetition.
CREATE FUNCTION ensue.stands_at(topic text, key text, version bigint, metadata jsonb) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT metadata ? 'id' AND EXISTS (
        SELECT FROM (
            SELECT events.metadata FROM ensue.events
            WHERE (events.topic, events.key, events.version) = ($1, $2, $3)
            UNION ALL
            SELECT staged.metadata FROM ensue.staged
            WHERE (staged.topic, staged.key, staged.version) = ($1, $2, $3)
        ) AS there (metadata)
        WHERE there.metadata->>'id' = $4->>'id'
            AND there.metadata->>'source' = coalesce($4->>'source', 'sql')
    )
$$;

CREATE FUNCTION ensue.refuse_stale(topic text, key text, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    actual bigint := coalesce((
        SELECT version FROM ensue.heads WHERE (heads.topic, heads.key) = (refuse_stale.topic, refuse_stale.key)), 0);
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EN001',
        MESSAGE = format('%s/%s is at version %s, but version %s was expected', topic, key, actual, expected),
        HINT = 'Read the stream again, decide again, append with the new version.';
END $$;

-- The data as JSON; NULL where it is not JSON that this server can hold.
CREATE FUNCTION ensue.as_json(data bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(data, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- At most `max` events after a position, oldest first. Data that is no JSON is `data_base64` in the metadata.
CREATE FUNCTION ensue.read(after bigint, max integer)
RETURNS TABLE (
    "position" bigint, topic text, key text, version bigint, event_type text,
    data jsonb, metadata jsonb, recorded_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- Not in a transaction that writes: that one may stay open for long, and would keep others from numbering.
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM ensue.number();
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

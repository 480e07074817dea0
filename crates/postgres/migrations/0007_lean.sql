-- The same rules, cheaper: an append stands in a transaction of the application, so its time is everybody's.
--
-- A regular expression that counts, such as `{1,249}`, has a state for each count, and PostgreSQL builds these anew at each call: 10 µs
-- for a short name, where `+` and a length take 1 µs. `PERFORM` runs a statement, an expression in `IF` does not.

-- Of a topic or a tag.
CREATE FUNCTION ensue.is_name(name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(name) <= 249 AND name ~ '^[A-Za-z0-9._-]+$'
$$;

CREATE FUNCTION ensue.is_reserved(topic text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT topic ~ '^(command|dead|ensue|saga)\.'
$$;

CREATE FUNCTION ensue.is_key(name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(name) <= 512 AND name ~ '^[^/\u0001-\u001F\u007F-\u009F]+$'
$$;

CREATE FUNCTION ensue.is_event_type(name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(name) <= 255 AND name ~ '^[!-~]+$'
$$;

CREATE FUNCTION ensue.is_body(data bytea) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(data) <= 1 << 20
$$;

-- These two say which rule was broken.
CREATE OR REPLACE FUNCTION ensue.check_stream(topic text, key text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF ensue.is_name(topic) IS NOT TRUE THEN
        PERFORM ensue.refuse(format('%L is not a topic: use 1 to 249 letters, digits, `.`, `_` and `-`', topic));
    ELSIF ensue.is_reserved(topic) THEN
        PERFORM ensue.refuse(format('topic %L is reserved: only Ensue writes to it', topic));
    ELSIF ensue.is_key(key) IS NOT TRUE THEN
        PERFORM ensue.refuse(format('%L is not a key: use 1 to 512 bytes of text without `/` and control characters', left(key, 60)));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ensue.check_event(event_type text, data bytea) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF ensue.is_event_type(event_type) IS NOT TRUE THEN
        PERFORM ensue.refuse(format('%L is not an event type: use 1 to 255 bytes of visible ASCII without spaces', left(event_type, 60)));
    ELSIF data IS NULL THEN
        PERFORM ensue.refuse('the data is NULL: give a JSON value');
    ELSIF NOT ensue.is_body(data) THEN
        PERFORM ensue.refuse(format('the data has %s bytes, at most %s are taken', octet_length(data), 1 << 20));
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ensue.check_tags(tags text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    tag text;
BEGIN
    FOREACH tag IN ARRAY string_to_array(tags, ',') LOOP
        IF NOT ensue.is_name(split_part(tag, ':', 1)) OR tag !~ '^[^:]+:[^\u0001-\u001F\u007F-\u009F]+$' OR octet_length(tag) > 762 THEN
            PERFORM ensue.refuse(format('%L is not a tag: write NAME:VALUE, such as `customer_id:CUST-3`', left(tag, 60)));
        END IF;
    END LOOP;
END $$;

-- The attributes of an event, complete: what is absent is filled in. Names are those of CloudEvents 1.0.
CREATE OR REPLACE FUNCTION ensue.attributes(metadata jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    whole jsonb := jsonb_build_object('id', gen_random_uuid(), 'source', 'sql',
        'time', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'));
    name text;
    value text;
BEGIN
    IF metadata = '{}' THEN
        RETURN whole;
    ELSIF jsonb_typeof(metadata) IS DISTINCT FROM 'object' THEN
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
    whole := whole || metadata;
    IF metadata ? 'tags' THEN
        whole := whole || jsonb_build_object('tags', coalesce(ensue.tags_text(metadata->'tags'), ''));
        PERFORM ensue.check_tags(whole->>'tags');
    END IF;
    RETURN whole;
END $$;

-- One statement where a stream may be new: to look for it first costs as much as to count it.
CREATE OR REPLACE FUNCTION ensue.advance(topic text, key text, expected bigint, events bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    last bigint;
BEGIN
    IF coalesce(expected, 0) = 0 THEN
        INSERT INTO ensue.heads AS heads (topic, key, version) VALUES (advance.topic, advance.key, events)
        ON CONFLICT (topic, key) DO UPDATE SET version = heads.version + events
            WHERE expected IS NULL OR heads.version = expected
        RETURNING version INTO last;
    ELSE
        UPDATE ensue.heads SET version = version + events
        WHERE topic = advance.topic AND key = advance.key AND version = expected RETURNING version INTO last;
    END IF;
    RETURN last - events;
END $$;

-- Appends one event as part of the caller's transaction. Answers with its version in the stream.
CREATE OR REPLACE FUNCTION ensue.append(
    topic text, key text, event_type text, data jsonb,
    expected_version bigint DEFAULT NULL, metadata jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    body bytea := convert_to(data::text, 'UTF8');
    last bigint;
BEGIN
    IF (ensue.is_event_type(event_type) AND ensue.is_body(body)
        AND ensue.is_name(topic) AND NOT ensue.is_reserved(topic) AND ensue.is_key(key)) IS NOT TRUE THEN
        PERFORM ensue.check_event(event_type, body), ensue.check_stream(topic, key);
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

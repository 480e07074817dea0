-- What keeps hands off, and what SQL is given that readers would not understand.

CREATE FUNCTION ensue.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EN004', MESSAGE = 'events never change and never go',
        HINT = 'Append an event that says what is different.';
END $$;
CREATE TRIGGER events_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ensue.events
    FOR EACH STATEMENT EXECUTE FUNCTION ensue.keep();

-- Without an id it could get no flow, and nothing behind it a position.
ALTER TABLE ensue.staged ADD CONSTRAINT staged_is_an_event CHECK (version > 0 AND metadata->>'id' IS NOT NULL) NOT VALID;

-- Whether a text is a time as RFC 3339 has it and as every program can hold it.
CREATE FUNCTION ensue.is_time(value text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN value ~ '^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$'
        AND value::timestamptz BETWEEN '0001-01-02T00:00:00Z' AND '9999-12-30T00:00:00Z';
EXCEPTION WHEN data_exception THEN
    RETURN false;
END $$;

-- As before; a tag whose value is longer than any program takes, or holds other escapes than those for comma and percent sign, is none.
CREATE OR REPLACE FUNCTION ensue.check_tags(tags text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    tag text;
BEGIN
    FOREACH tag IN ARRAY string_to_array(tags, ',') LOOP
        IF NOT ensue.is_name(split_part(tag, ':', 1)) OR tag !~ '^[^:]+:[^\u0001-\u001F\u007F-\u009F]+$'
            OR octet_length(regexp_replace(substr(tag, strpos(tag, ':') + 1), '%(25|2C)', 'x', 'gi')) > 512 THEN
            PERFORM ensue.refuse(format('%L is not a tag: write NAME:VALUE, such as `customer_id:CUST-3`', left(tag, 60)));
        ELSIF tag ~* '%(?!25|2C)' THEN
            PERFORM ensue.refuse(format('%L is not a tag: a percent sign is written %%25 and a comma %%2C, and nothing else so', left(tag, 60)));
        END IF;
    END LOOP;
END $$;

-- As before, and the values are such that the event can be read by every program.
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
        ELSIF value ~ '[\u0001-\u001F\u007F-\u009F]' THEN
            PERFORM ensue.refuse(format('the attribute %L holds a control character', name));
        ELSIF name = 'datacontenttype' AND octet_length(value) > 255 THEN
            PERFORM ensue.refuse(format('%L is not a content type: use at most 255 bytes', left(value, 60)));
        ELSIF name IN ('id', 'source', 'correlationid', 'causationid', 'datacontenttype') THEN
            PERFORM ensue.check_text(format('the %s of an event', name), value);
        ELSIF name = 'specversion' AND value <> '1.0' THEN
            PERFORM ensue.refuse(format('%L is not the version of CloudEvents that is spoken here: it is 1.0', value));
        ELSIF name = 'schemaversion' AND value !~ '^[1-9][0-9]{0,8}$' THEN
            PERFORM ensue.refuse(format('%L is not a schema version: use a whole number from 1', value));
        ELSIF name = 'time' AND NOT ensue.is_time(value) THEN
            PERFORM ensue.refuse(format('%L is not an RFC 3339 time, such as `2024-01-15T10:30:00Z`', value));
        END IF;
    END LOOP;
    whole := whole || (metadata - 'specversion');
    IF metadata ? 'tags' THEN
        whole := whole || jsonb_build_object('tags', coalesce(ensue.tags_text(metadata->'tags'), ''));
        PERFORM ensue.check_tags(whole->>'tags');
    END IF;
    RETURN whole;
END $$;

-- As before, and an expiry is a time.
CREATE OR REPLACE FUNCTION ensue.checked_write(write jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
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
    ELSIF NOT ensue.is_time(write->>'expires_at') THEN
        PERFORM ensue.refuse(format('%L is not an RFC 3339 time, such as `2024-01-15T10:30:00Z`', write->>'expires_at'));
    END IF;
    RETURN write;
END $$;

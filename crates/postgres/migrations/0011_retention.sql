-- Retention: a topic that does not keep its events for ever has them in partitions of their own, one after the other. When all events of the
-- oldest one are past their time, it is dropped as a whole. Everything else stays in one partition, `events_kept`.
--
-- Positions are never given twice, so a log that has dropped events has gaps; `dropped` says which. A reader that meets a gap which is not
-- written there knows that somebody has removed a row by hand.

ALTER TABLE ensue.events RENAME TO events_kept;
ALTER TABLE ensue.events_kept ADD COLUMN partition integer NOT NULL DEFAULT 0;
CREATE TABLE ensue.events (LIKE ensue.events_kept INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY LIST (partition);
ALTER TABLE ensue.events ATTACH PARTITION ensue.events_kept FOR VALUES IN (0);
CREATE TRIGGER events_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ensue.events
    FOR EACH STATEMENT EXECUTE FUNCTION ensue.keep();

-- Makes a table belong to whom another one belongs to, and lets everybody do with it what he may do with that.
CREATE FUNCTION ensue.adopt(made regclass, alike regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    EXECUTE format('ALTER TABLE %s OWNER TO %s', made, (SELECT relowner::regrole FROM pg_class WHERE oid = alike));
    FOR one IN
        SELECT privilege_type || columns AS privilege, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee,
            CASE WHEN is_grantable THEN 'WITH GRANT OPTION' ELSE '' END AS option
        FROM (
            SELECT relacl, '' FROM pg_class WHERE oid = alike
            UNION ALL
            SELECT attacl, format('(%I)', attname) FROM pg_attribute WHERE attrelid = alike
        ) AS given (acl, columns), aclexplode(acl) AS item
        WHERE grantee <> (SELECT relowner FROM pg_class WHERE oid = alike)
    LOOP
        EXECUTE format('GRANT %s ON %s TO %s %s', one.privilege, made, one.grantee, one.option);
    END LOOP;
END $$;
SELECT ensue.adopt('ensue.events', 'ensue.events_kept');

-- The topics that do not keep their events for ever.
CREATE TABLE ensue.retention (
    topic text COLLATE "C" PRIMARY KEY,
    keep interval NOT NULL,
    -- What takes new events.
    partition integer NOT NULL,
    -- Events of before are among those that are kept, at positions beyond `swept` and up to `until`.
    swept bigint NOT NULL DEFAULT 0,
    until bigint NOT NULL
);

-- The partitions besides that of what is kept: `events_1` and so on.
CREATE TABLE ensue.partitions (
    partition integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    topic text COLLATE "C" NOT NULL,
    -- Its events are at positions beyond `after`, and once it takes no more up to `until`, recorded no later than `closed_at`.
    after bigint NOT NULL,
    until bigint,
    closed_at timestamptz
);

-- Positions whose events are gone, of each ten thousand positions.
CREATE TABLE ensue.dropped (
    chunk bigint PRIMARY KEY,
    positions int8multirange NOT NULL
);

-- Whoever reads or gives positions looks here. What stands here decides what is dropped, so who does not own it changes nothing, whatever he
-- was granted. Nor does he by tables of his own that are called as what is looked up here.
SELECT ensue.adopt(made, 'ensue.migrations') FROM unnest('{ensue.retention,ensue.partitions,ensue.dropped}'::regclass[]) AS made;
CREATE FUNCTION ensue.check_owner() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'ensue.events'::regclass), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'must be owner of the table ensue.events',
            HINT = 'To say how long events are kept, and to drop them, takes who owns the tables.';
    END IF;
END $$;
CREATE FUNCTION ensue.keep_retention() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ensue.check_owner();
    RETURN NULL;
END $$;
CREATE TRIGGER only_its_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ensue.retention
    FOR EACH STATEMENT EXECUTE FUNCTION ensue.keep_retention();
CREATE TRIGGER only_its_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ensue.partitions
    FOR EACH STATEMENT EXECUTE FUNCTION ensue.keep_retention();
CREATE TRIGGER only_its_owner BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ensue.dropped
    FOR EACH STATEMENT EXECUTE FUNCTION ensue.keep_retention();
GRANT SELECT ON ensue.retention, ensue.partitions, ensue.dropped TO PUBLIC;

CREATE FUNCTION ensue.chunk_of("position" bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT "position" / 10000';

-- Which of the positions beyond `after` and up to `last` were dropped, in order.
CREATE FUNCTION ensue.dropped_ranges(after bigint, last bigint) RETURNS SETOF int8range LANGUAGE sql STABLE AS $$
    SELECT unnest(range_agg(positions) * int8multirange(int8range(after, last, '(]'))) FROM ensue.dropped
    WHERE chunk BETWEEN ensue.chunk_of(after) AND ensue.chunk_of(last)
$$;

-- How many of the positions beyond `after` and up to `last` were dropped.
CREATE FUNCTION ensue.dropped_in(after bigint, last bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(upper(positions) - lower(positions)), 0)::bigint
    FROM ensue.dropped_ranges(after, last) AS positions
$$;

-- Only retention removes events, and only in the hands of who owns them.
CREATE OR REPLACE FUNCTION ensue.keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('ensue.is_trimming', true) = 'yes'
        AND pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'EN004', MESSAGE = 'events never change and never go',
        HINT = 'Append an event that says what is different; `ensue.retain` says how long a topic keeps its events.';
END $$;

-- A partition for the events of a topic behind this position; the caller holds the lock on the row `log`.
CREATE FUNCTION ensue.open_partition(topic text, after bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    made integer;
    name text;
BEGIN
    INSERT INTO ensue.partitions (topic, after) VALUES (open_partition.topic, open_partition.after)
    RETURNING partition INTO STRICT made;
    name := format('ensue.events_%s', made);
    EXECUTE format('CREATE TABLE %s (LIKE ensue.events_kept INCLUDING ALL)', name);
    EXECUTE format('CREATE TRIGGER events_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
        FOR EACH STATEMENT EXECUTE FUNCTION ensue.keep()', name);
    PERFORM ensue.adopt(name::regclass, 'ensue.events');
    -- Whoever writes events next waits until this is committed, and so knows of the partition. Everybody writes through this table; those below it
    -- may be in the hands of the server's own upkeep for hours.
    LOCK TABLE ONLY ensue.events IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format('ALTER TABLE ensue.events ATTACH PARTITION %s FOR VALUES IN (%s)', name, made);
    RETURN made;
END $$;

-- A partition takes no more events; the caller holds the lock on the row `log`.
CREATE FUNCTION ensue.close_partition(partition integer) RETURNS void LANGUAGE sql AS $$
    UPDATE ensue.partitions SET until = log.head, closed_at = log.recorded_at FROM ensue.log
    WHERE partitions.partition = close_partition.partition
$$;

-- Changes of retention come one after the other.
CREATE FUNCTION ensue.lock_retention() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(x'72657461696e'::bigint)
$$;

-- How long a topic keeps its events, at least; NULL for ever. Nothing is dropped by this: `ensue.trim` does it. Others wait for both while they
-- wait for others, so they do not wait for long. And only who owns the tables comes so far: he calls what the server itself comes with, whoever
-- may make functions that are called the same.
CREATE FUNCTION ensue.retain(topic text, keep interval) RETURNS void
LANGUAGE plpgsql SET lock_timeout = '500ms' SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    head bigint;
    open integer;
BEGIN
    PERFORM ensue.check_owner();
    PERFORM ensue.check_stream(retain.topic, 'any');
    IF retain.keep <= '0' OR extract(month FROM retain.keep) < 0 OR extract(year FROM retain.keep) < 0
        OR extract(day FROM retain.keep) < 0 OR retain.keep - date_trunc('day', retain.keep) < '0' THEN
        PERFORM ensue.refuse('events are kept for some time: give an interval such as ''30 days'', or NULL to keep them for ever');
    ELSIF retain.keep > '1000 years' THEN
        PERFORM ensue.refuse('that is more than a thousand years: give NULL to keep events for ever');
    END IF;
    PERFORM ensue.lock_retention();
    SELECT log.head INTO STRICT head FROM ensue.log FOR UPDATE;
    IF retain.keep IS NULL THEN
        DELETE FROM ensue.retention WHERE topic = retain.topic RETURNING partition INTO open;
        PERFORM ensue.close_partition(open);
        RETURN;
    END IF;
    UPDATE ensue.retention SET keep = retain.keep WHERE topic = retain.topic;
    IF NOT FOUND THEN
        INSERT INTO ensue.retention (topic, keep, partition, until)
        VALUES (retain.topic, retain.keep, ensue.open_partition(retain.topic, head), head);
    END IF;
END $$;

-- The next step of retention: to open a partition for new events of a topic, then nothing is gone; to drop one that is past its time; or to remove
-- a part of the events of before the topic had partitions. Answers with how many events are gone, and up to where. Nobody needs events up to `upto` any
-- more. Call it until it answers with no topic, each time in a transaction of its own: writers wait while a partition is opened, and readers
-- while one is dropped.
--
-- A topic loses its events in their order, so that a stream always ends where it ended. The last event of the log stays, and says where
-- that is.
CREATE FUNCTION ensue.trim(upto bigint, OUT topic text, OUT events bigint, OUT "until" bigint)
LANGUAGE plpgsql SET lock_timeout = '500ms' SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    one ensue.retention;
    oldest ensue.partitions;
    horizon timestamptz;
    head bigint;
BEGIN
    IF trim.upto IS NULL OR trim.upto < 0 THEN
        PERFORM ensue.refuse('give the position up to which nobody needs events any more');
    END IF;
    PERFORM ensue.check_owner();
    PERFORM ensue.lock_retention();
    SELECT log.head INTO STRICT head FROM ensue.log;
    -- Nobody who reads holds this up.
    FOR one IN SELECT * FROM ensue.retention ORDER BY retention.topic LOOP
        -- Where none can be dropped the last one grows: each costs whoever plans a query.
        CONTINUE WHEN (SELECT count(*) FROM ensue.partitions WHERE partitions.topic = one.topic) > 16;
        IF ensue.turn_partition(one, clock_timestamp() - one.keep / 8) THEN
            topic := one.topic;
            events := 0;
            RETURN;
        END IF;
    END LOOP;
    FOR one IN SELECT * FROM ensue.retention ORDER BY retention.topic LOOP
        horizon := clock_timestamp() - one.keep;
        topic := one.topic;
        SELECT * INTO oldest FROM ensue.partitions
        WHERE partitions.topic = one.topic AND partitions.until IS NOT NULL ORDER BY partition LIMIT 1;
        until := least(one.until, coalesce(oldest.after, one.until));
        IF one.swept < until THEN
            SELECT swept.events, swept.until INTO STRICT events, one.swept
            FROM ensue.sweep(one, least(until, trim.upto, head - 1), horizon) AS swept;
            IF events > 0 THEN
                until := one.swept;
                RETURN;
            END IF;
        END IF;
        IF one.swept >= until AND oldest.closed_at <= horizon AND oldest.until <= least(trim.upto, head - 1) THEN
            until := oldest.until;
            events := ensue.drop_partition(oldest.partition);
            RETURN;
        END IF;
    END LOOP;
    SELECT NULL, NULL, NULL INTO topic, events, until;
END $$;

-- New events go into a new partition, once the first one in that which is open is older than this. Answers with whether it was.
CREATE FUNCTION ensue.turn_partition(one ensue.retention, before timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz;
    head bigint;
BEGIN
    EXECUTE format('SELECT recorded_at FROM ensue.events_%s ORDER BY position LIMIT 1', one.partition) INTO first;
    IF first <= before THEN
        SELECT log.head INTO STRICT head FROM ensue.log FOR UPDATE;
        PERFORM ensue.close_partition(one.partition);
        UPDATE ensue.retention SET partition = ensue.open_partition(one.topic, head) WHERE retention.topic = one.topic;
    END IF;
    RETURN coalesce(first <= before, false);
END $$;

-- Removes events that came before the topic had partitions, recorded up to the horizon, at positions up to `last`; at most some thousand.
CREATE FUNCTION ensue.sweep(one ensue.retention, last bigint, horizon timestamptz, OUT events bigint, OUT "until" bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    younger bigint;
BEGIN
    until := one.swept;
    events := 0;
    IF NOT EXISTS (SELECT FROM ensue.events_kept WHERE events_kept.topic = one.topic) THEN
        until := one.until;
    END IF;
    WHILE events = 0 AND until < last AND younger IS NULL LOOP
        one.swept := until;
        until := least(last, one.swept + 10000);
        SELECT min(position) INTO younger FROM (
            SELECT position FROM ensue.events_kept
            WHERE position > one.swept AND position <= until AND recorded_at > horizon ORDER BY position LIMIT 1
        ) AS found;
        until := coalesce(younger - 1, until);
        PERFORM set_config('ensue.is_trimming', 'yes', true);
        WITH gone AS (
            DELETE FROM ensue.events_kept
            WHERE position > one.swept AND position <= until AND topic = one.topic RETURNING position, metadata
        ), untagged AS (
            DELETE FROM ensue.tags USING gone, ensue.tags_of(gone.metadata) AS its (name)
            WHERE tags.tag = its.name AND tags.position = gone.position
        ), noted AS (
            SELECT ensue.note_dropped(array_agg(position)) AS events FROM gone GROUP BY ensue.chunk_of(position)
        )
        SELECT coalesce(sum(noted.events), 0) INTO STRICT events FROM noted;
        PERFORM set_config('ensue.is_trimming', '', true);
    END LOOP;
    UPDATE ensue.retention SET swept = sweep.until WHERE retention.topic = one.topic;
END $$;

-- Drops a partition that takes no more events; answers with how many there were. Who reads the log is waited for at the end alone.
CREATE FUNCTION ensue.drop_partition(partition integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    name text := format('ensue.events_%s', partition);
    gone bigint;
BEGIN
    EXECUTE format('SELECT coalesce(sum(events), 0) FROM (
        SELECT ensue.note_dropped(array_agg(position)) AS events FROM %s GROUP BY ensue.chunk_of(position)) AS noted', name)
    INTO STRICT gone;
    EXECUTE format('DELETE FROM ensue.tags USING %s AS gone, ensue.tags_of(gone.metadata) AS its (name)
        WHERE tags.tag = its.name AND tags.position = gone.position', name);
    DELETE FROM ensue.partitions WHERE partitions.partition = drop_partition.partition;
    EXECUTE format('DROP TABLE %s', name);
    RETURN gone;
END $$;

-- Puts on record that events at these positions of one chunk are gone; answers with how many.
CREATE FUNCTION ensue.note_dropped(gone bigint[]) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO ensue.dropped AS dropped (chunk, positions)
    SELECT ensue.chunk_of(min(position)), range_agg(int8range(position, position, '[]')) FROM unnest(gone) AS position
    ON CONFLICT (chunk) DO UPDATE SET positions = dropped.positions + excluded.positions
    RETURNING cardinality(gone)::bigint
$$;

-- What a reader begins with: the head behind a step of numbering, whether there is more to number, and the partitions besides that of
-- what is kept. They are looked up after the head, so they hold every event up to it that was not dropped.
CREATE FUNCTION ensue.look_up(
    OUT head bigint, OUT is_behind boolean,
    OUT partitions integer[], OUT topics text[], OUT afters bigint[], OUT untils bigint[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT step.head, step.is_behind INTO STRICT head, is_behind FROM ensue.catch_up() AS step;
    SELECT array_agg(one.partition), array_agg(one.topic), array_agg(one.after), array_agg(coalesce(one.until, 9223372036854775807))
    INTO STRICT partitions, topics, afters, untils FROM ensue.partitions AS one;
END $$;

-- As before, and each event goes where its topic says.
DROP FUNCTION ensue.write_batch;
CREATE FUNCTION ensue.write_batch(
    streams_topics text[], streams_keys text[], versions_before bigint[], versions_after bigint[],
    topics text[], keys text[], versions bigint[], event_types text[], flows text[], metadata text[], bodies bytea[],
    tags text[], tagged bigint[],
    put_spaces text[], put_keys bytea[], put_values bytea[], put_before bigint[], put_revisions bigint[], put_expiries timestamptz[],
    deleted_spaces text[], deleted_keys bytea[], deleted_before bigint[]
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
    INSERT INTO ensue.events (position, version, recorded_at, topic, key, event_type, flow, metadata, data, partition)
    SELECT state.head + place, version, state.recorded_at, topic, key, event_type, flow, attributes::jsonb, body, coalesce(partition, 0)
    FROM unnest(topics, keys, versions, event_types, flows, metadata, bodies)
        WITH ORDINALITY AS given (topic, key, version, event_type, flow, attributes, body, place)
    LEFT JOIN ensue.retention USING (topic);
    INSERT INTO ensue.tags (tag, position)
    SELECT DISTINCT tag, state.head + place FROM unnest(tags, tagged) AS given (tag, place);
    IF cardinality(topics) > 0 THEN
        UPDATE ensue.log SET head = state.head + cardinality(topics), recorded_at = state.recorded_at;
    END IF;

    -- What was not there (`before` is zero) may have lapsed, or be the place that this transaction itself has taken, of revision zero; anything else
    -- somebody has put meanwhile, for it had no row to lock.
    DELETE FROM ensue.records USING unnest(deleted_spaces, deleted_keys, deleted_before) AS gone (space, key, before)
    WHERE (records.space, records.key) = (gone.space, gone.key)
        AND (records.revision = before OR before = 0 AND records.expires_at <= clock_timestamp());
    UPDATE ensue.records SET value = put.value, revision = put.revision, expires_at = put.expires_at
    FROM unnest(put_spaces, put_keys, put_values, put_before, put_revisions, put_expiries)
        AS put (space, key, value, before, revision, expires_at)
    WHERE (records.space, records.key, records.revision) = (put.space, put.key, before) AND before > 0;
    GET DIAGNOSTICS known = ROW_COUNT;
    INSERT INTO ensue.records (space, key, value, revision, expires_at)
    SELECT space, key, value, revision, expires_at
    FROM unnest(put_spaces, put_keys, put_values, put_before, put_revisions, put_expiries)
        AS put (space, key, value, before, revision, expires_at)
    WHERE before = 0 ORDER BY space, key
    ON CONFLICT (space, key) DO UPDATE
        SET value = excluded.value, revision = excluded.revision, expires_at = excluded.expires_at
        WHERE records.revision = 0 OR records.expires_at <= clock_timestamp();
    GET DIAGNOSTICS new = ROW_COUNT;
    PERFORM ensue.insist(known + new = cardinality(put_spaces));
END $$;

-- As before, and each event goes where its topic says.
CREATE OR REPLACE FUNCTION ensue.import(
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
            (position, version, recorded_at, topic, key, event_type, flow, metadata, data, partition)
        SELECT position, version, recorded_at, topic, key, event_type,
            coalesce(attributes->>'correlationid', attributes->>'id'), attributes, body, coalesce(partition, 0)
        FROM given LEFT JOIN ensue.retention USING (topic)
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

-- As before; a page has as many events as were asked for, also behind events that were dropped.
CREATE OR REPLACE FUNCTION ensue.read(after bigint, max integer)
RETURNS TABLE (
    "position" bigint, topic text, key text, version bigint, event_type text,
    data jsonb, metadata jsonb, recorded_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    step record;
    behind bigint := read.after;
    head bigint;
    last bigint;
    given bigint;
    lost bigint;
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
    -- Behind events that were dropped there may be others: a page that holds none is the end.
    LOOP
        -- What lies beyond the head was not put there by Ensue.
        SELECT greatest(log.head, behind) INTO STRICT head FROM ensue.log;
        -- Who has read before in his transaction is told of new partitions by the next lock that he does not hold yet: this takes one, and lets go
        -- of it.
        PERFORM pg_relation_size('ensue.migrations');
        last := ensue.end_of_page(behind, head, read.max);
        RETURN QUERY
            SELECT e.position, e.topic, e.key, e.version, e.event_type, body.json,
                CASE WHEN body.json IS NULL
                    THEN e.metadata || jsonb_build_object('data_base64', translate(encode(e.data, 'base64'), E'\n', ''))
                    ELSE e.metadata END,
                e.recorded_at
            FROM ensue.events AS e, LATERAL ensue.as_json(e.data) AS body (json)
            WHERE e.position > behind AND e.position <= last ORDER BY e.position;
        GET DIAGNOSTICS given = ROW_COUNT;
        lost := last - behind - given;
        IF lost > 0 AND lost > ensue.dropped_in(behind, last) THEN
            PERFORM ensue.miss(behind, last);
        END IF;
        EXIT WHEN given > 0 OR last = behind;
        behind := last;
    END LOOP;
END $$;

-- The last position of a page of so many events up to the head.
CREATE FUNCTION ensue.end_of_page(after bigint, head bigint, max integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    events bigint;
    last bigint;
BEGIN
    IF max IS NULL OR NOT EXISTS (SELECT FROM ensue.dropped WHERE chunk >= ensue.chunk_of(after)) THEN
        RETURN after + least(head - after, max);
    END IF;
    -- Not every position has an event.
    SELECT count(*), max(position) INTO STRICT events, last FROM (
        SELECT position FROM ensue.events WHERE position > after AND position <= head ORDER BY position LIMIT end_of_page.max
    ) AS next;
    RETURN CASE WHEN events < end_of_page.max THEN head ELSE coalesce(last, after) END;
END $$;

-- Names the first position up to the last that is missing and was not dropped.
CREATE OR REPLACE FUNCTION ensue.miss(after bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    missing bigint := (
        SELECT min(next) FROM (
            SELECT after + 1 UNION ALL SELECT position + 1 FROM ensue.events WHERE position > after AND position < last
            UNION ALL SELECT upper(positions) FROM ensue.dropped_ranges(after, last) AS positions
        ) AS following (next)
        WHERE next <= last AND NOT EXISTS (SELECT FROM ensue.events WHERE position = next)
            AND ensue.dropped_in(next - 1, next) = 0);
BEGIN
    IF missing IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
            MESSAGE = 'events were moved or dropped while they were read', HINT = 'Read again, in a transaction of its own.';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'XX001',
        MESSAGE = format('the event at position %s is missing, although the log goes on', missing),
        HINT = 'Somebody has removed it by hand: restore it from a backup, or read on behind it.';
END $$;

-- What tracks and undoes changes in a PostgreSQL test database. It lives in a schema
-- of its own, and knows three things: which tables were written to (dirty), what rows
-- they had (saved), and which tables there are (tables).
--
-- A table has up to three levels of saved rows: 1, as migrations left it; 2, as a test
-- class left it for its tests, if the class wrote to it; and 3, as it was at a checkpoint
-- within a test, if the test had written to it.

CREATE SCHEMA txtest;

-- Unlogged, and without an index: writers are not to wait for each other here.
CREATE UNLOGGED TABLE txtest.dirty (relid oid NOT NULL, truncated boolean);

-- Their position is the order in which a query without ORDER BY found them.
CREATE TABLE txtest.saved (
    relid oid NOT NULL, level int NOT NULL, contents text NOT NULL, position bigint NOT NULL
);
CREATE INDEX ON txtest.saved (relid, level, position);

-- Unlogged too: a crash of the server empties it, and "dirty", so that what tracks the
-- changes is known to be incomplete and made anew.
CREATE UNLOGGED TABLE txtest.tables (
    relid oid PRIMARY KEY,
    kind "char" NOT NULL,       -- as in pg_class; materialised views are here too
    root oid NOT NULL,          -- of a partition: where its rows are saved; else itself
    source text NOT NULL,       -- to read and delete from: its name, with ONLY
    target text NOT NULL,       -- to insert into: its name
    columns text NOT NULL,      -- those that can be written to
    types text NOT NULL,        -- of all columns
    numbers text NOT NULL,      -- of all columns: they change when one is made anew
    fields text NOT NULL,       -- the same, of a composite value
    has_key boolean NOT NULL,
    level int NOT NULL,         -- the highest that it has rows of
    is_empty boolean            -- at that level; null: a view without data
);

-- The two of all levels. The lowest is that which the table was created for.
CREATE UNLOGGED TABLE txtest.levels (
    relid oid NOT NULL, level int NOT NULL, is_empty boolean,
    PRIMARY KEY (relid, level)
);

-- Tables whose rows may be in another order than those that were saved.
CREATE UNLOGGED TABLE txtest.disordered (relid oid PRIMARY KEY);

-- What else has to be put back, or looked at, when a table was written to.
CREATE UNLOGGED TABLE txtest.reach (written oid NOT NULL, reached oid NOT NULL);
CREATE INDEX ON txtest.reach (written);

-- Large objects, which have no triggers, so that each level has all of them.
CREATE TABLE txtest.objects (
    id oid NOT NULL, level int NOT NULL, contents bytea NOT NULL
);

-- Where the sequences are at level 3; the other levels leave them where they get to.
CREATE UNLOGGED TABLE txtest.sequences (
    id oid NOT NULL, value bigint NOT NULL, is_called boolean NOT NULL
);

-- What the rows of level 1 were saved of.
CREATE TABLE txtest.state (
    migrations text NOT NULL,
    level int NOT NULL DEFAULT 1,       -- the highest that there is
    schema text NOT NULL DEFAULT '',
    sees_ddl boolean NOT NULL DEFAULT false
);

CREATE VIEW txtest.current_tables AS
SELECT c.oid AS relid, c.relkind AS kind,
       CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END AS root,
       CASE c.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END
           || format('%I.%I', n.nspname, c.relname) AS source,
       format('%I.%I', n.nspname, c.relname) AS target,
       a.columns, b.types, b.numbers, a.fields,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
           AS has_key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT coalesce(string_agg(format('%I', attname), ', ' ORDER BY attnum), '') AS columns,
           coalesce(string_agg(format('(r).%I', attname), ', ' ORDER BY attnum), '') AS fields
    FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
) a
CROSS JOIN LATERAL (
    SELECT coalesce(string_agg(format('%I %s %s', attname, atttypid, atttypmod),
                               ', ' ORDER BY attnum), '') AS types,
           coalesce(string_agg(attnum::text, ' ' ORDER BY attnum), '') AS numbers
    FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
) b
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e');

-- Security definer: whoever may write to a table may also mark it.
CREATE FUNCTION txtest.mark() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO txtest.dirty VALUES (TG_RELID, TG_OP = 'TRUNCATE');
    RETURN NULL;
END $$;

-- "Always": also for a session that plays the replica.
CREATE FUNCTION txtest.watch(wanted txtest.tables) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER zz_txtest_mark '
        'AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
        'FOR EACH STATEMENT EXECUTE FUNCTION txtest.mark()', wanted.target);
    EXECUTE format(
        'ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_txtest_mark', wanted.target);
END $$;

-- For the rest of the transaction, has values written in one way that loses nothing,
-- whatever the settings of the session and the role are.
CREATE FUNCTION txtest.write_exactly() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('datestyle', 'ISO, YMD', true),
            set_config('intervalstyle', 'postgres', true),
            set_config('timezone', 'UTC', true),
            set_config('extra_float_digits', '1', true),
            set_config('bytea_output', 'hex', true),
            set_config('lc_monetary', 'C', true),
            set_config('xmloption', 'content', true);
END $$;

-- Returns whether there is nothing to save, or null for a view without data.
CREATE FUNCTION txtest.save_rows(wanted txtest.tables, at_level int) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    afterwards text[];
    statement text;
    n bigint;
BEGIN
    IF wanted.root <> wanted.relid THEN
        RETURN true;
    ELSIF wanted.kind = 'm'
          AND NOT (SELECT relispopulated FROM pg_class WHERE oid = wanted.relid) THEN
        RETURN NULL;
    END IF;
    afterwards := txtest.policies_off(ARRAY[wanted]);
    EXECUTE format(
        'INSERT INTO txtest.saved SELECT %s, %s, (txtest_row.*)::text, row_number() OVER () '
        'FROM %s AS txtest_row', wanted.relid, at_level, wanted.source);
    GET DIAGNOSTICS n = ROW_COUNT;
    FOREACH statement IN ARRAY afterwards LOOP
        EXECUTE statement;
    END LOOP;
    RETURN n = 0;
END $$;

-- Has the table put back, from now on, to the rows that it has now.
CREATE FUNCTION txtest.save(wanted txtest.tables, at_level int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    empty boolean;
BEGIN
    DELETE FROM txtest.saved WHERE relid = wanted.relid AND level = at_level;
    DELETE FROM txtest.disordered WHERE relid = wanted.relid;
    empty := txtest.save_rows(wanted, at_level);
    INSERT INTO txtest.levels VALUES (wanted.relid, at_level, empty)
    ON CONFLICT (relid, level) DO UPDATE SET is_empty = empty;
    UPDATE txtest.tables SET level = at_level, is_empty = empty
    WHERE relid = wanted.relid;
END $$;

-- Takes note of tables that are new, at the level.
CREATE FUNCTION txtest.learn(at_level int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t txtest.tables;
BEGIN
    IF txtest.is_same_schema() THEN
        RETURN;
    END IF;
    IF at_level = 3 THEN
        -- A class may alter tables, and undo it at its end; a test has to undo it now.
        PERFORM txtest.doubt_everything();
        IF EXISTS (SELECT FROM txtest.schema_changes() WHERE change <> 'created') THEN
            RAISE 'a table was altered';
        END IF;
    END IF;
    PERFORM txtest.write_exactly();
    -- A new partition brings rows to a table that is known.
    INSERT INTO txtest.dirty SELECT c.root FROM txtest.current_tables c
    WHERE c.relid NOT IN (SELECT relid FROM txtest.tables)
      AND c.root IN (SELECT relid FROM txtest.tables);
    FOR t IN
        SELECT c.*, at_level, true FROM txtest.current_tables c
        WHERE c.relid NOT IN (SELECT relid FROM txtest.tables)
    LOOP
        INSERT INTO txtest.tables VALUES (t.*);
        PERFORM txtest.save(t, at_level);
        IF t.kind <> 'm' THEN
            PERFORM txtest.watch(t);
        END IF;
    END LOOP;
    PERFORM txtest.learn_reach();
    PERFORM txtest.note_schema();
END $$;

CREATE FUNCTION txtest.save_objects(at_level int) RETURNS void LANGUAGE sql AS $$
    DELETE FROM txtest.objects WHERE level = at_level;
    INSERT INTO txtest.objects SELECT oid, at_level, lo_get(oid)
    FROM pg_largeobject_metadata WHERE pg_has_role(lomowner, 'USAGE')
$$;

CREATE FUNCTION txtest.save_sequences() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    q record;
BEGIN
    FOR q IN
        SELECT seqrelid AS id, pg_sequence_last_value(seqrelid) AS value
        FROM pg_sequence WHERE has_sequence_privilege(seqrelid, 'SELECT')
          AND has_sequence_privilege(seqrelid, 'UPDATE')
    LOOP
        IF q.value IS NULL THEN  -- it gave none yet: what it will begin with
            EXECUTE format('SELECT last_value FROM %s', q.id::regclass) INTO q.value;
            INSERT INTO txtest.sequences VALUES (q.id, q.value, false);
        ELSE
            INSERT INTO txtest.sequences VALUES (q.id, q.value, true);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION txtest.restore_sequences() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM setval(q.seqrelid::regclass, s.value, s.is_called)
    FROM txtest.sequences s JOIN pg_sequence q ON q.seqrelid = s.id
    WHERE pg_sequence_last_value(q.seqrelid) IS DISTINCT FROM
          CASE WHEN s.is_called THEN s.value END;
END $$;

-- A statement marks only the table that it names. So what is written there reaches the
-- tables that inherit from it, those whose partition it is, and what is read from any.
CREATE FUNCTION txtest.learn_reach() RETURNS void LANGUAGE sql AS $$
    DELETE FROM txtest.reach;
    WITH RECURSIVE near (written, reached) AS (
        SELECT i.inhparent, i.inhrelid FROM pg_inherits i
        UNION SELECT i.inhrelid, i.inhparent FROM pg_inherits i
        UNION SELECT d.refobjid, w.ev_class
        FROM pg_depend d
        JOIN pg_rewrite w ON w.oid = d.objid
        JOIN pg_class c ON c.oid = w.ev_class AND c.relkind IN ('v', 'm')
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    ), far (written, reached) AS (
        SELECT relid, relid FROM txtest.tables
        UNION SELECT far.written, near.reached FROM far
        JOIN near ON near.written = far.reached
    )
    INSERT INTO txtest.reach SELECT far.written, far.reached FROM far
    JOIN txtest.tables k ON k.relid = far.reached AND k.root = k.relid;
$$;

-- What follows switches off what would act on a restore, and returns the statements
-- that switch it on again. An owner may do that; it needs locks on the tables.

-- Triggers and rules of the user's, as far as they act for this session.
CREATE FUNCTION txtest.triggers_off(wanted txtest.tables[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    afterwards text[];
    statements text[];
    statement text;
    active text := CASE current_setting('session_replication_role')
                   WHEN 'replica' THEN 'AR' ELSE 'AO' END;
BEGIN
    -- A partitioned table hands it down to its partitions, so those come later.
    WITH members AS (
        SELECT t.relid, 0 AS depth FROM unnest(wanted) t
        UNION SELECT p.relid, p.level
        FROM unnest(wanted) t CROSS JOIN pg_partition_tree(t.relid) p
        WHERE t.kind = 'p'
    ), hooks AS (
        SELECT m.*, format('TRIGGER %I', g.tgname) AS name, g.tgenabled AS enabled
        FROM members m JOIN pg_trigger g ON g.tgrelid = m.relid
        WHERE NOT g.tgisinternal AND g.tgname <> 'zz_txtest_mark'
        UNION ALL
        SELECT m.*, format('RULE %I', w.rulename), w.ev_enabled
        FROM members m JOIN pg_rewrite w ON w.ev_class = m.relid AND m.depth = 0
        WHERE w.rulename <> '_RETURN'
    ), in_the_way AS (
        SELECT * FROM hooks h WHERE EXISTS (
            SELECT FROM hooks o
            WHERE o.name = h.name AND strpos(active, o.enabled::text) > 0)
    )
    SELECT array_agg(format('ALTER TABLE %s DISABLE %s', relid::regclass, name)
                     ORDER BY depth),
           array_agg(format('ALTER TABLE %s %s %s', relid::regclass,
               CASE enabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA'
                            WHEN 'O' THEN 'ENABLE' ELSE 'DISABLE' END, name)
                     ORDER BY depth)
    INTO statements, afterwards FROM in_the_way;
    FOREACH statement IN ARRAY coalesce(statements, '{}') LOOP
        EXECUTE statement;
    END LOOP;
    RETURN coalesce(afterwards, '{}');
END $$;

-- Policies that hide rows from the owner, too.
CREATE FUNCTION txtest.policies_off(wanted txtest.tables[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    afterwards text[] := '{}';
    t txtest.tables;
BEGIN
    FOREACH t IN ARRAY wanted LOOP
        IF row_security_active(t.relid) THEN
            EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', t.target);
            afterwards := afterwards
                || format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t.target);
        END IF;
    END LOOP;
    RETURN afterwards;
END $$;

-- Foreign keys that do not wait for the end, or act, when a row that they refer to is
-- deleted: these have to go, and are made anew.
CREATE FUNCTION txtest.keys_off(wanted txtest.tables[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    afterwards text[] := '{}';
    o pg_constraint;
BEGIN
    FOR o IN
        SELECT * FROM pg_constraint
        WHERE contype = 'f' AND conparentid = 0
          AND NOT (condeferrable AND confdeltype = 'a')
          AND confrelid IN (
              SELECT t.relid FROM unnest(wanted) t
              UNION SELECT p.relid
              FROM unnest(wanted) t CROSS JOIN pg_partition_tree(t.relid) p)
    LOOP
        afterwards := afterwards || format(
            'ALTER TABLE %s ADD CONSTRAINT %I %s', o.conrelid::regclass, o.conname,
            pg_get_constraintdef(o.oid));
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I',
                       o.conrelid::regclass, o.conname);
    END LOOP;
    RETURN afterwards;
END $$;

-- Makes what there is now the level, in place of one that is there: what is new, and the
-- rows of the tables that were written to.
CREATE FUNCTION txtest.keep(at_level int, milliseconds int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    t txtest.tables;
BEGIN
    PERFORM set_config('lock_timeout', milliseconds::text, true);
    PERFORM txtest.forget(at_level);
    PERFORM txtest.learn(at_level);
    PERFORM txtest.write_exactly();
    PERFORM txtest.save_objects(at_level);
    UPDATE txtest.state SET level = at_level;
    IF at_level = 3 THEN
        PERFORM txtest.save_sequences();
    END IF;
    FOR t IN
        WITH written AS (DELETE FROM txtest.dirty RETURNING relid)
        SELECT k.* FROM txtest.tables k
        WHERE k.relid IN (
            SELECT reached FROM txtest.reach JOIN written ON relid = written)
    LOOP
        PERFORM txtest.save(t, at_level);
    END LOOP;
    IF at_level = 3 THEN
        WITH disordered AS (DELETE FROM txtest.disordered RETURNING relid)
        INSERT INTO txtest.dirty SELECT relid FROM disordered;
        PERFORM txtest.restore(milliseconds, false);
    END IF;
END $$;

-- Returns what executes the statement, prepared: to plan one of those that follow takes
-- longer than to execute it, and to a checkpoint one returns again and again.
CREATE FUNCTION txtest.prepared(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    label text := 'txtest ' || hashtextextended(statement, 0);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE name = label) THEN
        EXECUTE format('PREPARE %I AS %s', label, statement);
    END IF;
    RETURN format('EXECUTE %I', label);
END $$;

-- With more rows it takes longer to write all than to look for those that changed.
CREATE FUNCTION txtest.is_small(wanted txtest.tables) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN NOT EXISTS (
        SELECT FROM txtest.saved s
        WHERE s.relid = wanted.relid AND s.level = wanted.level AND s.position > 1000);
END $$;

-- Empties the table and writes its rows in the order in which they were saved, so that
-- every execution from a checkpoint finds the same order. One try is enough, unless they
-- came to space that others had left free: each takes more of it.
CREATE FUNCTION txtest.rewrite(wanted txtest.tables) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_in_order boolean;
BEGIN
    FOR try IN 1..100 LOOP
        EXECUTE txtest.prepared('DELETE FROM ' || wanted.source);
        EXIT WHEN wanted.is_empty;
        EXECUTE txtest.prepared(format(
            'WITH written AS ('
            'INSERT INTO %1$s %2$s OVERRIDING SYSTEM VALUE SELECT %3$s FROM ('
            'SELECT s.contents::%1$s AS r FROM txtest.saved s '
            'WHERE s.relid = %4$s AND s.level = %5$s ORDER BY s.position) AS saved '
            'RETURNING tableoid, ctid) '
            'SELECT coalesce(bool_and(is_next), true) FROM ('
            'SELECT tableoid <> lag(tableoid) OVER () OR ctid > lag(ctid) OVER () AS is_next '
            'FROM written) AS following',
            wanted.target, '(' || nullif(wanted.columns, '') || ')', wanted.fields,
            wanted.relid, wanted.level)) INTO is_in_order;
        EXIT WHEN is_in_order;
    END LOOP;
END $$;

-- Returns the name of the table and its rows, which are arrays of texts. A class may have
-- altered it, so its columns are those that it has now.
CREATE FUNCTION txtest.told(wanted txtest.tables) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    texts text := (
        SELECT string_agg(format('%I::text', attname), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = wanted.relid AND attnum > 0
          AND NOT attisdropped AND attgenerated = '');
    rows json;
BEGIN
    EXECUTE txtest.prepared(format(
        'SELECT coalesce(json_agg(ARRAY[%s]::text[]), ''[]'') FROM %s',
        texts, wanted.target)) INTO rows;
    RETURN json_build_array(wanted.target, rows);
END $$;

-- Puts the tables that were written to back. If it is to tell, it returns what they had,
-- as json that a driver does not parse.
CREATE FUNCTION txtest.restore(milliseconds int, tells boolean) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    dirty txtest.tables[];
    at_checkpoint boolean;
    told json[] := '{}';
    emptied oid[];
    has_rows boolean;
    has_obstacles boolean;
    t txtest.tables;
    afterwards text[] := '{}';
    statement text;
BEGIN
    IF EXISTS (SELECT FROM pg_largeobject_metadata)
       OR EXISTS (SELECT FROM txtest.objects) THEN
        PERFORM txtest.restore_objects();
    END IF;
    -- To plan what follows takes a new session a while.
    IF NOT EXISTS (SELECT FROM txtest.dirty) THEN
        RETURN '[]';
    END IF;
    -- Foreign keys that wait for the commit are no obstacle. All else that is found is.
    WITH written AS (DELETE FROM txtest.dirty RETURNING relid, truncated)
    SELECT array_agg(k ORDER BY k.kind = 'm', k.relid),
           (SELECT level = 3 FROM txtest.state),
           (SELECT array_agg(relid) FROM written WHERE truncated),
           bool_or(k.is_empty IS NOT TRUE),
           bool_or(k.kind = 'p' OR EXISTS (
               SELECT FROM pg_trigger g WHERE g.tgrelid = k.relid
               AND g.tgname <> 'zz_txtest_mark'
               AND NOT (g.tgisinternal AND g.tginitdeferred)
           ) OR k.kind = 'r' AND EXISTS (
               SELECT FROM pg_class c WHERE c.oid = k.relid
               AND (c.relhasrules OR c.relforcerowsecurity)))
    INTO dirty, at_checkpoint, emptied, has_rows, has_obstacles
    FROM txtest.tables k
    WHERE k.relid IN (SELECT reached FROM txtest.reach JOIN written ON relid = written);
    IF dirty IS NULL THEN
        RETURN '[]';
    END IF;
    PERFORM set_config('lock_timeout', milliseconds::text, true);
    IF tells THEN
        FOREACH t IN ARRAY dirty LOOP
            CONTINUE WHEN t.kind = 'm';
            told := told || txtest.told(t);
        END LOOP;
    END IF;
    IF has_rows THEN
        PERFORM txtest.write_exactly();
    END IF;
    IF has_rows AND NOT at_checkpoint THEN
        INSERT INTO txtest.disordered SELECT d.relid FROM unnest(dirty) d
        WHERE NOT d.is_empty AND d.kind <> 'm' ON CONFLICT DO NOTHING;
    END IF;
    IF has_obstacles THEN
        -- Foreign keys, and the user's own triggers and rules, are not to act on this.
        -- The role makes the session forget its plans, so not where it is not needed.
        IF current_setting('is_superuser') = 'on' THEN
            PERFORM set_config('session_replication_role', 'replica', true);
        ELSE
            SET CONSTRAINTS ALL DEFERRED;
            afterwards := txtest.keys_off(dirty) || txtest.policies_off(dirty);
        END IF;
        afterwards := txtest.triggers_off(dirty) || afterwards;
    END IF;
    FOREACH t IN ARRAY dirty LOOP
        CONTINUE WHEN t.kind = 'm' OR at_checkpoint AND txtest.is_small(t);
        IF t.is_empty OR NOT t.has_key THEN
            EXECUTE 'DELETE FROM ' || t.source;
        ELSE
            EXECUTE format(
                'DELETE FROM %s AS txtest_row WHERE NOT EXISTS ('
                'SELECT FROM txtest.saved s WHERE s.relid = %s AND s.level = %s '
                'AND s.contents = (txtest_row.*)::text)', t.source, t.relid, t.level);
        END IF;
    END LOOP;
    FOREACH t IN ARRAY dirty LOOP
        IF t.kind = 'm' THEN
            PERFORM txtest.refresh(t);
            CONTINUE;
        END IF;
        IF at_checkpoint AND txtest.is_small(t) THEN
            PERFORM txtest.rewrite(t);
        ELSIF NOT t.is_empty THEN
            EXECUTE format(
                'INSERT INTO %1$s %2$s OVERRIDING SYSTEM VALUE SELECT %3$s FROM ('
                'SELECT s.contents::%1$s AS r FROM txtest.saved s '
                'WHERE s.relid = %4$s AND s.level = %5$s AND NOT EXISTS ('
                'SELECT FROM %6$s AS txtest_row '
                'WHERE %7$s AND (txtest_row.*)::text = s.contents)) AS missing',
                t.target, '(' || nullif(t.columns, '') || ')', t.fields, t.relid, t.level,
                t.source, t.has_key::text);
        END IF;
        IF t.relid = ANY (emptied) THEN
            PERFORM txtest.advance_sequences(t);
        END IF;
    END LOOP;
    IF afterwards <> '{}' THEN
        SET CONSTRAINTS ALL IMMEDIATE;
        FOREACH statement IN ARRAY afterwards LOOP
            EXECUTE statement;
        END LOOP;
        DELETE FROM txtest.ddl WHERE xmin = pg_current_xact_id()::xid;
    END IF;
    -- The marks of what was done here; those of others who wrote meanwhile stay.
    DELETE FROM txtest.dirty WHERE xmin = pg_current_xact_id()::xid;
    RETURN array_to_json(told);
END $$;

CREATE FUNCTION txtest.restore_objects() RETURNS void LANGUAGE sql AS $$
    SELECT lo_unlink(m.oid) FROM pg_largeobject_metadata m
    WHERE pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
        SELECT FROM txtest.objects o JOIN txtest.state USING (level)
        WHERE o.id = m.oid AND o.contents = lo_get(m.oid));
    SELECT lo_from_bytea(o.id, o.contents)
    FROM txtest.objects o JOIN txtest.state USING (level)
    WHERE o.id NOT IN (SELECT oid FROM pg_largeobject_metadata);
$$;

-- A TRUNCATE may have made the sequences start anew, and the rows are there again.
CREATE FUNCTION txtest.advance_sequences(wanted txtest.tables) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format(
            'SELECT setval(%s, m) FROM (SELECT max(%I) AS m FROM %s) AS rows, %s AS s '
            'WHERE m >= s.last_value', q.seqrelid, a.attname, wanted.target,
            q.seqrelid::regclass)
        FROM pg_depend d
        JOIN pg_sequence q ON q.seqrelid = d.objid AND q.seqincrement > 0
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid = wanted.relid AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;

-- Materialised views can only be computed again, so only where they are different.
CREATE FUNCTION txtest.refresh(wanted txtest.tables) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_populated boolean := (
        SELECT relispopulated FROM pg_class WHERE oid = wanted.relid);
    is_same boolean;
BEGIN
    IF wanted.is_empty IS NULL THEN
        IF is_populated THEN
            EXECUTE format('REFRESH MATERIALIZED VIEW %s WITH NO DATA', wanted.target);
        END IF;
        RETURN;
    END IF;
    IF is_populated THEN
        EXECUTE format(
            'WITH old AS ('
            'SELECT contents FROM txtest.saved WHERE relid = %s AND level = %s), '
            'new AS (SELECT (txtest_row.*)::text FROM %s AS txtest_row) '
            'SELECT NOT EXISTS (TABLE old EXCEPT ALL TABLE new) '
            'AND NOT EXISTS (TABLE new EXCEPT ALL TABLE old)',
            wanted.relid, wanted.level, wanted.source) INTO is_same;
    END IF;
    IF is_same IS NOT TRUE THEN
        EXECUTE 'REFRESH MATERIALIZED VIEW ' || wanted.target;
    END IF;
END $$;

-- Changes with each table that is created, dropped or renamed, each column that is
-- added, and each of our triggers that is switched off, be it for a while.
CREATE FUNCTION txtest.schema_version() RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s %s %s', count(*), sum(relnatts),
                  sum(hashoid(oid) # hashname(relname) # relispartition::int), (
        SELECT count(*) FROM pg_trigger
        WHERE tgname = 'zz_txtest_mark' AND tgenabled = 'A'))
    FROM pg_class
    WHERE relkind IN ('r', 'p', 'm') AND relpersistence <> 't' AND oid >= 16384
$$;

-- Asked after each test, so it has to be cheap: a superuser has an event trigger that
-- says when there is something to compare.
CREATE UNLOGGED TABLE txtest.ddl (tag text);

CREATE FUNCTION txtest.is_same_schema() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sees_ddl FROM txtest.state) AND NOT EXISTS (SELECT FROM txtest.ddl) THEN
        RETURN true;
    END IF;
    IF EXISTS (SELECT FROM txtest.ddl) THEN
        DELETE FROM txtest.ddl;
        RETURN NOT EXISTS (SELECT FROM txtest.schema_changes());
    END IF;
    RETURN (SELECT schema FROM txtest.state) = txtest.schema_version();
END $$;

CREATE FUNCTION txtest.mark_ddl() RETURNS event_trigger LANGUAGE plpgsql
SECURITY DEFINER AS $$
BEGIN
    IF TG_TAG = 'REFRESH MATERIALIZED VIEW' THEN
        RETURN;
    END IF;
    INSERT INTO txtest.ddl VALUES (TG_TAG);
    -- It may have changed rows, or switched our trigger off for a while.
    IF TG_EVENT = 'ddl_command_end' AND TG_TAG = 'ALTER TABLE' THEN
        INSERT INTO txtest.dirty SELECT objid FROM pg_event_trigger_ddl_commands()
        WHERE classid = 'pg_class'::regclass;
    END IF;
END $$;

CREATE FUNCTION txtest.schema_changes()
RETURNS TABLE (change text, name text, kind "char") LANGUAGE sql AS $$
    SELECT CASE WHEN k.relid IS NULL THEN 'created'
                WHEN c.relid IS NULL THEN 'dropped'
                ELSE 'altered' END,
           coalesce(k.target, c.target), coalesce(k.kind, c.kind)
    FROM txtest.tables k FULL JOIN txtest.current_tables c USING (relid)
    WHERE (k.target, k.root, k.columns, k.types, k.numbers)
          IS DISTINCT FROM (c.target, c.root, c.columns, c.types, c.numbers)
    UNION ALL
    SELECT 'stopped watching', k.target, k.kind FROM txtest.tables k
    WHERE k.kind <> 'm' AND NOT EXISTS (
        SELECT FROM pg_trigger g WHERE g.tgrelid = k.relid
        AND g.tgname = 'zz_txtest_mark' AND g.tgenabled = 'A')
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = k.relid)
    ORDER BY 1, 2
$$;

-- A table or a column may have been dropped and made anew as it was, or have had
-- another type for a while: then the rows are all that changed, and no trigger saw it.
CREATE FUNCTION txtest.doubt_everything() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    pair record;
BEGIN
    FOR pair IN
        SELECT k.relid AS old, c.relid AS new FROM txtest.tables k
        JOIN txtest.current_tables c USING (target, kind, columns, types)
        WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = k.relid)
    LOOP
        UPDATE txtest.saved SET relid = pair.new WHERE relid = pair.old;
        UPDATE txtest.levels SET relid = pair.new WHERE relid = pair.old;
        UPDATE txtest.tables SET relid = pair.new WHERE relid = pair.old;
        UPDATE txtest.tables SET root = pair.new WHERE root = pair.old;
    END LOOP;
    UPDATE txtest.tables k SET numbers = c.numbers, has_key = c.has_key
    FROM txtest.current_tables c
    WHERE k.relid = c.relid
      AND (k.target, k.columns, k.types) = (c.target, c.columns, c.types);
    PERFORM txtest.watch(k) FROM txtest.tables k
    WHERE k.target IN (
        SELECT name FROM txtest.schema_changes() WHERE change = 'stopped watching');
    PERFORM txtest.learn_reach();
    INSERT INTO txtest.dirty SELECT relid FROM txtest.tables;
END $$;

CREATE FUNCTION txtest.migrations() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    version text := '';
BEGIN
    IF to_regclass('django_migrations') IS NOT NULL THEN
        EXECUTE 'SELECT format(''%s %s'', count(*), max(id)) FROM django_migrations'
        INTO version;
    END IF;
    RETURN version;
END $$;

-- Whether level 1 is that of the migrations that were applied, and nothing was lost in
-- a crash.
CREATE FUNCTION txtest.is_complete() RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM txtest.tables)
       AND EXISTS (SELECT FROM txtest.state WHERE migrations = txtest.migrations())
$$;

-- Sessions that wrote something which is not committed, and so cannot be seen here.
CREATE FUNCTION txtest.has_writers() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- Not the view, which looks up names: this is asked after each test.
    RETURN EXISTS (
        SELECT FROM pg_stat_get_activity(NULL) a JOIN pg_database d ON d.oid = a.datid
        WHERE d.datname = current_database() AND a.pid <> pg_backend_pid()
          AND a.backend_type = 'client backend' AND a.backend_xid IS NOT NULL);
END $$;

-- Gives the level up, with those above: the next restore goes to the one below. What was
-- created for it is no longer known, and so found to be new.
CREATE FUNCTION txtest.forget(at_level int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    label text;
BEGIN
    FOR label IN SELECT name FROM pg_prepared_statements WHERE name LIKE 'txtest %' LOOP
        EXECUTE format('DEALLOCATE %I', label);
    END LOOP;
    UPDATE txtest.state SET level = at_level - 1 WHERE level >= at_level;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM txtest.objects WHERE level >= at_level;
    DELETE FROM txtest.sequences;
    IF NOT EXISTS (SELECT FROM txtest.levels WHERE level >= at_level) THEN
        RETURN;
    END IF;
    INSERT INTO txtest.dirty SELECT relid FROM txtest.tables WHERE level >= at_level;
    DELETE FROM txtest.saved WHERE (relid, level) IN (
        SELECT relid, level FROM txtest.levels WHERE level >= at_level);
    DELETE FROM txtest.levels WHERE level >= at_level;
    UPDATE txtest.tables k SET level = l.level, is_empty = l.is_empty
    FROM (SELECT DISTINCT ON (relid) * FROM txtest.levels ORDER BY relid, level DESC) l
    WHERE k.relid = l.relid AND k.level >= at_level;
    DELETE FROM txtest.tables WHERE level >= at_level;
    IF FOUND THEN
        UPDATE txtest.state SET schema = '';
        INSERT INTO txtest.ddl VALUES ('there are tables that nobody knows');
    END IF;
END $$;

CREATE FUNCTION txtest.note_schema() RETURNS void LANGUAGE sql AS $$
    UPDATE txtest.state SET schema = txtest.schema_version()
$$;

INSERT INTO txtest.state (migrations) VALUES (txtest.migrations());
INSERT INTO txtest.ddl VALUES ('everything is new');

DO $$
BEGIN
    IF current_setting('is_superuser') = 'on' THEN
        CREATE EVENT TRIGGER zz_txtest_ddl ON ddl_command_end
            EXECUTE FUNCTION txtest.mark_ddl();
        CREATE EVENT TRIGGER zz_txtest_drop ON sql_drop
            EXECUTE FUNCTION txtest.mark_ddl();
        ALTER EVENT TRIGGER zz_txtest_ddl ENABLE ALWAYS;
        ALTER EVENT TRIGGER zz_txtest_drop ENABLE ALWAYS;
        UPDATE txtest.state SET sees_ddl = true;
    END IF;
END $$;

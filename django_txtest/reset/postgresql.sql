-- What tracks and undoes changes in a PostgreSQL test database. It lives in a schema
-- of its own, and knows three things: which tables were written to (dirty), what rows
-- they had (saved), and which tables there are (tables).
--
-- A table has two levels of saved rows: 1, as migrations left it, and 2, as a test class
-- left it for its tests, for the tables that the class wrote to.

CREATE SCHEMA txtest;

-- Unlogged, and without an index: writers are not to wait for each other here.
CREATE UNLOGGED TABLE txtest.dirty (relid oid NOT NULL);

CREATE TABLE txtest.saved (relid oid NOT NULL, level int NOT NULL, contents text NOT NULL);
CREATE INDEX ON txtest.saved (relid, level);

-- Unlogged too: a crash of the server empties it, and "dirty", so that what tracks the
-- changes is known to be incomplete and made anew.
CREATE UNLOGGED TABLE txtest.tables (
    relid oid PRIMARY KEY,
    source text NOT NULL,       -- to read and delete from: its name, with ONLY
    target text NOT NULL,       -- to insert into: its name
    columns text NOT NULL,      -- those that can be written to
    types text NOT NULL,        -- of all columns
    numbers text NOT NULL,      -- of all columns: they change when one is made anew
    fields text NOT NULL,       -- the same, of a composite value
    has_key boolean NOT NULL,
    is_plain boolean NOT NULL,  -- no triggers, and foreign keys wait for the commit
    level int NOT NULL DEFAULT 1,
    is_empty boolean NOT NULL DEFAULT true,    -- at that level
    was_empty boolean NOT NULL DEFAULT true,   -- at level 1
    first_level int NOT NULL DEFAULT 1,        -- 2: the class created it
    rank int NOT NULL DEFAULT 0                -- above what its foreign keys refer to
);

-- What the rows of level 1 were saved of.
CREATE TABLE txtest.state (
    migrations text NOT NULL,
    schema text NOT NULL DEFAULT '',
    sees_ddl boolean NOT NULL DEFAULT false
);

CREATE VIEW txtest.current_tables AS
SELECT c.oid AS relid,
       CASE c.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END
           || format('%I.%I', n.nspname, c.relname) AS source,
       format('%I.%I', n.nspname, c.relname) AS target,
       a.columns, b.types, b.numbers, a.fields,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
           AS has_key,
       c.relkind = 'r'
           AND NOT EXISTS (
               SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid
               AND NOT g.tgisinternal AND g.tgname <> 'zz_txtest_mark')
           AND NOT EXISTS (
               SELECT FROM pg_constraint o WHERE c.oid IN (o.conrelid, o.confrelid)
               AND o.contype = 'f' AND NOT o.condeferred) AS is_plain
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
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e');

-- Security definer: whoever may write to a table may also mark it.
CREATE FUNCTION txtest.mark() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO txtest.dirty VALUES (TG_RELID);
    RETURN NULL;
END $$;

CREATE FUNCTION txtest.save(wanted txtest.tables, at_level int) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format(
        'INSERT INTO txtest.saved SELECT %s, %s, (txtest_row.*)::text FROM %s AS txtest_row',
        wanted.relid, at_level, wanted.source);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n = 0;
END $$;

-- Takes note of tables that are new, at the level; returns how many there were.
CREATE FUNCTION txtest.learn(at_level int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    t txtest.tables;
    part oid;
    empty boolean;
    n int := 0;
BEGIN
    IF txtest.is_same_schema() THEN
        RETURN 0;
    END IF;
    FOR t IN
        SELECT c.*, at_level, true, true, at_level, 0 FROM txtest.current_tables c
        WHERE c.relid NOT IN (SELECT relid FROM txtest.tables)
    LOOP
        n := n + 1;
        empty := txtest.save(t, at_level);
        INSERT INTO txtest.tables VALUES (
            t.relid, t.source, t.target, t.columns, t.types, t.numbers, t.fields, t.has_key, t.is_plain,
            at_level, empty, empty, at_level, 0);
        FOR part IN
            SELECT t.relid UNION
            SELECT relid FROM pg_partition_tree(t.relid)
        LOOP
            EXECUTE format(
                'CREATE TRIGGER zz_txtest_mark '
                'AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                'FOR EACH STATEMENT EXECUTE FUNCTION txtest.mark()', part::regclass);
            EXECUTE format(
                'ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_txtest_mark', part::regclass);
        END LOOP;
    END LOOP;
    -- Foreign keys that do not wait for the commit: a few rounds settle the order. In a
    -- circle there is none.
    FOR round IN 1..20 LOOP
        UPDATE txtest.tables child SET rank = parent.rank + 1
        FROM pg_constraint o JOIN txtest.tables parent ON parent.relid = o.confrelid
        WHERE o.contype = 'f' AND NOT o.condeferred AND o.conrelid = child.relid
          AND child.relid <> parent.relid AND child.rank <= parent.rank;
        EXIT WHEN NOT FOUND;
    END LOOP;
    PERFORM txtest.note_schema();
    RETURN n;
END $$;

-- Switches the user's own triggers on a table off, or those named on again. An owner may
-- do that; it needs a lock on the table.
CREATE FUNCTION txtest.triggers_off(wanted txtest.tables) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    statements text[] := '{}';
    g pg_trigger;
BEGIN
    FOR g IN
        SELECT * FROM pg_trigger WHERE tgrelid = wanted.relid AND NOT tgisinternal
        AND tgname <> 'zz_txtest_mark' AND tgenabled <> 'D'
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', wanted.target, g.tgname);
        statements := statements || format(
            'ALTER TABLE %s ENABLE %s TRIGGER %I', wanted.target,
            CASE g.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END,
            g.tgname);
    END LOOP;
    RETURN statements;
END $$;

-- Makes what the tables that were written to have now their rows of level 2.
CREATE FUNCTION txtest.keep() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t txtest.tables;
BEGIN
    FOR t IN
        WITH written AS (DELETE FROM txtest.dirty RETURNING relid)
        SELECT k.* FROM txtest.tables k
        WHERE k.relid IN (SELECT coalesce(pg_partition_root(relid), relid) FROM written)
    LOOP
        DELETE FROM txtest.saved WHERE relid = t.relid AND level = 2;
        UPDATE txtest.tables SET level = 2, is_empty = txtest.save(t, 2)
        WHERE relid = t.relid;
    END LOOP;
END $$;

-- Puts the tables that were written to back; returns how many.
CREATE FUNCTION txtest.restore(milliseconds int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    dirty txtest.tables[];
    all_plain boolean;
    t txtest.tables;
    afterwards text[] := '{}';
    statement text;
BEGIN
    WITH written AS (DELETE FROM txtest.dirty RETURNING relid)
    SELECT array_agg(k ORDER BY k.rank DESC), bool_and(k.is_plain) INTO dirty, all_plain
    FROM txtest.tables k
    WHERE k.relid IN (SELECT coalesce(pg_partition_root(relid), relid) FROM written);
    IF dirty IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM set_config('lock_timeout', milliseconds::text, true);
    IF NOT all_plain THEN
        -- Foreign keys and the user's own triggers are not to act on this. The role
        -- makes the session forget its plans, so not where it is not needed.
        IF current_setting('is_superuser') = 'on' THEN
            PERFORM set_config('session_replication_role', 'replica', true);
        ELSE
            SET CONSTRAINTS ALL DEFERRED;
            FOREACH t IN ARRAY dirty LOOP
                afterwards := afterwards || txtest.triggers_off(t);
            END LOOP;
        END IF;
    END IF;
    FOREACH t IN ARRAY dirty LOOP
        IF t.is_empty OR NOT t.has_key THEN
            EXECUTE 'DELETE FROM ' || t.source;
        ELSE
            EXECUTE format(
                'DELETE FROM %s AS txtest_row WHERE NOT EXISTS ('
                'SELECT FROM txtest.saved s WHERE s.relid = %s AND s.level = %s '
                'AND s.contents = (txtest_row.*)::text)', t.source, t.relid, t.level);
        END IF;
    END LOOP;
    FOR i IN REVERSE cardinality(dirty)..1 LOOP
        t := dirty[i];
        CONTINUE WHEN t.is_empty;
        EXECUTE format(
            'INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %3$s FROM ('
            'SELECT s.contents::%1$s AS r FROM txtest.saved s '
            'WHERE s.relid = %4$s AND s.level = %5$s AND NOT EXISTS ('
            'SELECT FROM %6$s AS txtest_row '
            'WHERE %7$s AND (txtest_row.*)::text = s.contents)) AS missing',
            t.target, t.columns, t.fields, t.relid, t.level, t.source, t.has_key::text);
    END LOOP;
    IF afterwards <> '{}' THEN
        SET CONSTRAINTS ALL IMMEDIATE;
        FOREACH statement IN ARRAY afterwards LOOP
            EXECUTE statement;
        END LOOP;
    END IF;
    -- The marks of what was done here; those of others who wrote meanwhile stay.
    DELETE FROM txtest.dirty WHERE xmin = pg_current_xact_id()::xid;
    RETURN cardinality(dirty);
END $$;

-- Changes with each table that is created, dropped or renamed, and each column that is
-- added.
CREATE FUNCTION txtest.schema_version() RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s %s', count(*), sum(relnatts), sum(hashoid(oid) # hashname(relname)))
    FROM pg_class WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND oid >= 16384
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
    INSERT INTO txtest.ddl VALUES (TG_TAG);
END $$;

CREATE FUNCTION txtest.schema_changes() RETURNS TABLE (change text, name text)
LANGUAGE sql AS $$
    SELECT CASE WHEN k.relid IS NULL THEN 'created'
                WHEN c.relid IS NULL THEN 'dropped'
                ELSE 'altered' END,
           coalesce(k.target, c.target)
    FROM txtest.tables k FULL JOIN txtest.current_tables c USING (relid)
    WHERE (k.target, k.columns, k.types, k.numbers)
          IS DISTINCT FROM (c.target, c.columns, c.types, c.numbers)
    ORDER BY 1, 2
$$;

-- A column may have been dropped and made anew as it was, or have had another type for
-- a while: then the rows are all that changed, and no trigger saw it.
CREATE FUNCTION txtest.doubt_everything() RETURNS void LANGUAGE sql AS $$
    UPDATE txtest.tables k SET numbers = c.numbers FROM txtest.current_tables c
    WHERE k.relid = c.relid
      AND (k.target, k.columns, k.types) = (c.target, c.columns, c.types);
    INSERT INTO txtest.dirty SELECT relid FROM txtest.tables
$$;

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
CREATE FUNCTION txtest.has_writers() RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type = 'client backend' AND backend_xid IS NOT NULL)
$$;

-- Makes level 1 the wanted level again, for the next restore. What the class created is
-- no longer known, and so found to be new.
CREATE FUNCTION txtest.forget() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO txtest.dirty SELECT relid FROM txtest.tables WHERE level = 2;
    DELETE FROM txtest.saved WHERE level = 2;
    UPDATE txtest.tables SET level = 1, is_empty = was_empty WHERE level = 2;
    DELETE FROM txtest.tables WHERE first_level = 2;
    IF FOUND THEN
        UPDATE txtest.state SET schema = '';
        INSERT INTO txtest.ddl VALUES ('a class has created tables');
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
        UPDATE txtest.state SET sees_ddl = true;
    END IF;
END $$;

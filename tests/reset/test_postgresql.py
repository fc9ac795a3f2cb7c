"""What PostgreSQL can do to a reset."""

from __future__ import annotations

import threading
import unittest
from contextlib import suppress
from itertools import count
from unittest import mock

from django.core.management import call_command
from django.db import NotSupportedError, OperationalError, connection

from django_txtest.databases import Table
from django_txtest.exceptions import SchemaChanged
from django_txtest.reset.postgresql import PostgreSQLBaseline
from tests.library.models import Genre
from tests.reset.support import Hazards, assert_same, begin_class, dump, execute

_PARTITIONS = """
    CREATE TABLE hazard.a (id int, n int) PARTITION BY LIST (id);
    CREATE TABLE hazard.a1 PARTITION OF hazard.a FOR VALUES IN (1);
    CREATE TABLE hazard.a2 PARTITION OF hazard.a FOR VALUES IN (2, 3)
        PARTITION BY LIST (id);
    CREATE TABLE hazard.a23 PARTITION OF hazard.a2 DEFAULT;
    INSERT INTO hazard.a VALUES (1, 1), (2, 2), (3, 3);
    """

_INHERITANCE = """
    CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
    CREATE TABLE hazard.b (m int) INHERITS (hazard.a);
    CREATE TABLE hazard.c (x int);
    CREATE TABLE hazard.d () INHERITS (hazard.b, hazard.c);
    INSERT INTO hazard.a VALUES (1, 1);
    INSERT INTO hazard.b VALUES (1, 1, 1);
    INSERT INTO hazard.d VALUES (1, 1, 1, 1);
    """

_PAIR = """
    CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
    CREATE TABLE hazard.b (id serial PRIMARY KEY, a int REFERENCES hazard.a);
    INSERT INTO hazard.a VALUES (1, 1), (2, 2);
    INSERT INTO hazard.b (a) VALUES (1), (2);
    """

_AUDIT = """
    CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
    CREATE TABLE hazard.log (id serial, what text);
    CREATE FUNCTION hazard.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO hazard.log (what) VALUES (TG_OP); RETURN coalesce(NEW, OLD);
    END $$;
    CREATE TRIGGER note {} ON hazard.a FOR EACH ROW EXECUTE FUNCTION hazard.note();
    INSERT INTO hazard.a VALUES (1, 1), (2, 2);
    """

_AUDITED = "UPDATE hazard.a SET n = 3; DELETE FROM hazard.a WHERE id = 1"

# What a class, or a migration, has prepared, and how a test spoils it. Each has a
# schema of its own in place of "hazard".
HAZARDS = {
    # Foreign keys
    "cascade_that_waits_for_the_commit": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
        CREATE TABLE hazard.b (id int PRIMARY KEY, a int REFERENCES hazard.a
            ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE hazard.c (id int PRIMARY KEY, a int REFERENCES hazard.a
            ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO hazard.a VALUES (1, 1), (2, 2);
        INSERT INTO hazard.b VALUES (1, 1), (2, 2);
        INSERT INTO hazard.c VALUES (1, 1), (2, 2);
        """,
        "UPDATE hazard.a SET n = 3",
    ),
    "keys_that_are_checked_at_once": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
        CREATE TABLE hazard.b (id int PRIMARY KEY, a int REFERENCES hazard.a);
        CREATE TABLE hazard.c (id int PRIMARY KEY, b int REFERENCES hazard.b
            ON DELETE RESTRICT ON UPDATE CASCADE);
        INSERT INTO hazard.a VALUES (1, 1), (2, 2);
        INSERT INTO hazard.b VALUES (1, 1), (2, 2);
        INSERT INTO hazard.c VALUES (1, 1), (2, 2);
        """,
        "UPDATE hazard.a SET n = 3; UPDATE hazard.b SET id = id + 7",
    ),
    "a_cascade_in_the_database": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY);
        CREATE TABLE hazard.b (a int REFERENCES hazard.a ON DELETE CASCADE);
        CREATE TABLE hazard.c (a int DEFAULT 2 REFERENCES hazard.a
            ON DELETE SET DEFAULT);
        INSERT INTO hazard.a VALUES (1), (2);
        INSERT INTO hazard.b VALUES (1), (1), (2);
        INSERT INTO hazard.c VALUES (1), (2), (NULL);
        """,
        "DELETE FROM hazard.a WHERE id = 1",
    ),
    "a_circle": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, b int);
        CREATE TABLE hazard.b (id int PRIMARY KEY, a int NOT NULL REFERENCES hazard.a,
            me int REFERENCES hazard.b);
        INSERT INTO hazard.a VALUES (1, NULL);
        INSERT INTO hazard.b VALUES (1, 1, 1), (2, 1, 1);
        UPDATE hazard.a SET b = 1;
        ALTER TABLE hazard.a ADD FOREIGN KEY (b) REFERENCES hazard.b;
        """,
        "UPDATE hazard.a SET b = NULL; DELETE FROM hazard.b; DELETE FROM hazard.a",
    ),
    "a_key_to_another_key": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, code text UNIQUE);
        CREATE TABLE hazard.b (id int PRIMARY KEY, code text REFERENCES hazard.a (code)
            ON UPDATE CASCADE);
        INSERT INTO hazard.a VALUES (1, 'x'), (2, 'y');
        INSERT INTO hazard.b VALUES (1, 'x'), (2, 'y');
        """,
        "UPDATE hazard.a SET code = code || '!'",
    ),
    "a_key_that_is_not_valid": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
        CREATE TABLE hazard.b (a int);
        INSERT INTO hazard.a VALUES (1);
        INSERT INTO hazard.b VALUES (1), (7);
        ALTER TABLE hazard.b ADD FOREIGN KEY (a) REFERENCES hazard.a NOT VALID;
        """,
        "UPDATE hazard.a SET n = 2; DELETE FROM hazard.b WHERE a = 1",
    ),
    "keys_of_partitions": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int) PARTITION BY LIST (id);
        CREATE TABLE hazard.a1 PARTITION OF hazard.a FOR VALUES IN (1);
        CREATE TABLE hazard.a2 PARTITION OF hazard.a DEFAULT;
        CREATE TABLE hazard.b (id int PRIMARY KEY, a int REFERENCES hazard.a)
            PARTITION BY LIST (id);
        CREATE TABLE hazard.b1 PARTITION OF hazard.b DEFAULT;
        INSERT INTO hazard.a VALUES (1, 1), (2, 2);
        INSERT INTO hazard.b VALUES (1, 1), (2, 2);
        """,
        "UPDATE hazard.a1 SET n = 3",
    ),
    # Uniqueness
    "values_that_change_places": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int UNIQUE,
            d int UNIQUE DEFERRABLE, e int UNIQUE DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO hazard.a VALUES (1, 1, 1, 1), (2, 2, 2, 2);
        """,
        "UPDATE hazard.a SET id = id + 10, n = n + 10, d = 3 - d, e = 3 - e; "
        "UPDATE hazard.a SET id = 13 - id, n = 14 - n",
    ),
    "exclusion": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, during int4range,
            EXCLUDE USING gist (during WITH &&));
        INSERT INTO hazard.a VALUES (1, '[1,5)'), (2, '[5,9)');
        """,
        "UPDATE hazard.a SET during = '[1,9)' WHERE id = 3 - id; "
        "DELETE FROM hazard.a WHERE id = 1; "
        "UPDATE hazard.a SET during = '[1,9)'",
    ),
    "no_key_and_duplicates": (
        "CREATE TABLE hazard.a (n int); "
        "INSERT INTO hazard.a VALUES (1), (1), (NULL), (NULL), (2)",
        "DELETE FROM hazard.a WHERE ctid IN (SELECT min(ctid) FROM hazard.a); "
        "INSERT INTO hazard.a VALUES (2), (3)",
    ),
    "a_key_that_waits": (
        "CREATE TABLE hazard.a (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, "
        "n int); INSERT INTO hazard.a VALUES (1, 1), (2, 2)",
        "UPDATE hazard.a SET id = 3 - id",
    ),
    # Columns, and values
    "identity_and_generated_columns": (
        """
        CREATE TABLE hazard.a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            n int, d int GENERATED BY DEFAULT AS IDENTITY,
            twice int GENERATED ALWAYS AS (2 * n) STORED);
        INSERT INTO hazard.a (n) VALUES (1), (2);
        """,
        "UPDATE hazard.a SET n = n + 1; DELETE FROM hazard.a WHERE id = 1; "
        "INSERT INTO hazard.a (n) VALUES (3)",
    ),
    "no_columns": (
        """
        CREATE TABLE hazard.a (); INSERT INTO hazard.a DEFAULT VALUES;
        CREATE TABLE hazard.b (n int GENERATED ALWAYS AS (1) STORED);
        INSERT INTO hazard.b DEFAULT VALUES; INSERT INTO hazard.b DEFAULT VALUES;
        """,
        "DELETE FROM hazard.a; INSERT INTO hazard.b DEFAULT VALUES",
    ),
    "dropped_columns": (
        """
        CREATE TABLE hazard.a (x int, id int PRIMARY KEY, y text, n int);
        ALTER TABLE hazard.a DROP x, DROP y;
        INSERT INTO hazard.a VALUES (1, 1), (2, NULL);
        """,
        "UPDATE hazard.a SET n = 3",
    ),
    "values": (
        """
        CREATE TYPE hazard.mood AS ENUM ('sad', 'it''s, "ok"');
        CREATE TYPE hazard.pair AS (a text, b int[]);
        CREATE DOMAIN hazard.few AS int NOT NULL CHECK (VALUE < 10);
        CREATE TABLE hazard.a (id serial PRIMARY KEY, f float8, g real, n numeric,
            b bytea, t text[], j json, k jsonb, r int4range, m int4multirange,
            i interval, z timestamptz, y date, c char(4), "char" "char", e hazard.mood,
            es hazard.mood[], p hazard.pair, ps hazard.pair[], w hazard.few, v bit(3),
            inet inet, u uuid, s tsvector, q point, l regclass, o money);
        INSERT INTO hazard.a (w, f, g, n, b, t, j, k, r, m, i, z, y, c, "char", e, es,
            p, ps, v, inet, u, s, q, l, o) VALUES
            (1, 'NaN', '-infinity', 'NaN', '\\x00ff', '{NULL,"NULL","a,b","{}",""}',
             '{"a":  1, "a": 2}', '{"a": "\\u00e9"}', '[1,5)',
             '{[1,2),[4,5)}', '1 mon -3 days 00:00:00.000001', 'infinity',
             '0044-03-15 BC', 'a', 'x', 'it''s, "ok"', '{sad}', '("a,""b","{1,NULL}")',
             array[row('x', '{}'), NULL]::hazard.pair[], '101', '10.0.0.0/8',
             gen_random_uuid(), 'a:1A fat:2', '(0.1,-0)', 'library_book', 12.34),
            (2, 0.1::float8 + 0.2, 'NaN', 1.10, '', '[2:3]={x,y}', '[]', 'null',
             'empty', '{}', '-1 year 2 mons', '2020-02-01 03:04:05.678901+05:45',
             'infinity', '', '', 'sad', '{}', NULL, '{}', '000', '::1', NULL, '',
             '(1,2)', NULL, NULL),
            (3, '-0', '-0', 'Infinity', NULL, '{{a},{b}}', NULL, NULL, NULL, NULL,
             NULL, '1883-11-18 12:03:57-04:56:02', '5874897-12-31', NULL, NULL, NULL,
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
             NULL, NULL);
        """,
        "UPDATE hazard.a SET w = w + 1",
    ),
    "types_of_extensions": (
        """
        CREATE EXTENSION IF NOT EXISTS hstore SCHEMA hazard;
        CREATE TABLE hazard.a (id int PRIMARY KEY, h hazard.hstore);
        INSERT INTO hazard.a VALUES (1, '"a, "=>"\\"b", c=>NULL');
        """,
        "UPDATE hazard.a SET h = NULL",
    ),
    "large_values": (
        "CREATE TABLE hazard.a (id int PRIMARY KEY, t text, b bytea); "
        "INSERT INTO hazard.a SELECT n, string_agg(md5(g::text), ''), "
        "decode(string_agg(md5(g::text), ''), 'hex') "
        "FROM generate_series(1, 9) n, generate_series(1, 3000) g GROUP BY n",
        "UPDATE hazard.a SET t = 'x' || substr(t, 2) WHERE id < 4; "
        "UPDATE hazard.a SET b = NULL WHERE id > 7",
    ),
    "settings_that_change_how_values_are_written": (
        """
        SET datestyle = 'SQL, DMY'; SET extra_float_digits = -10;
        SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape';
        SET timezone = 'Asia/Kathmandu';
        CREATE TABLE hazard.a (id int PRIMARY KEY, d date, f float8, i interval,
            b bytea, z timestamptz);
        INSERT INTO hazard.a VALUES (1, '01/02/2020', 0.1::float8 + 0.2,
            '1 year -1 day +2 hours', '\\x00ff', '01/02/2020');
        """,
        "RESET ALL; DELETE FROM hazard.a",
    ),
    # Names
    "odd_names": (
        """
        CREATE SCHEMA "Od%d 's";
        CREATE TABLE "Od%d 's"."a ""b"" %s'c" ("Id %s" int PRIMARY KEY, "x""y" text);
        CREATE TABLE "Od%d 's".txtest_row (b int, r int, s int, txtest_row int,
            contents text, relid int, level int, missing int, t int);
        CREATE TABLE "Od%d 's"."select" ("order" int PRIMARY KEY, contents text);
        INSERT INTO "Od%d 's"."a ""b"" %s'c" VALUES (1, '%s');
        INSERT INTO "Od%d 's".txtest_row VALUES (1, 2, 3, 4, 'x', 5, 6, 7, 8);
        INSERT INTO "Od%d 's"."select" VALUES (1, '(1,2)');
        """,
        """
        UPDATE "Od%d 's"."a ""b"" %s'c" SET "x""y" = '%d';
        UPDATE "Od%d 's".txtest_row SET b = 0;
        UPDATE "Od%d 's"."select" SET contents = NULL;
        """,
    ),
    # Partitions and inheritance
    "partitions": (_PARTITIONS, "UPDATE hazard.a SET id = 4 - id, n = 0"),
    "a_partition_by_itself": (_PARTITIONS, "DELETE FROM hazard.a23"),
    "a_partition_that_is_truncated": (_PARTITIONS, "TRUNCATE hazard.a2"),
    "a_new_partition": (
        _PARTITIONS,
        "CREATE TABLE hazard.a4 PARTITION OF hazard.a FOR VALUES IN (4); "
        "INSERT INTO hazard.a4 VALUES (4, 4)",
    ),
    "a_partition_that_is_detached_for_a_while": (
        _PARTITIONS,
        "ALTER TABLE hazard.a DETACH PARTITION hazard.a1; "
        "UPDATE hazard.a1 SET n = 5; "
        "ALTER TABLE hazard.a ATTACH PARTITION hazard.a1 FOR VALUES IN (1)",
    ),
    "a_table_that_others_inherit": (_INHERITANCE, "UPDATE hazard.a SET n = 2"),
    "the_other_parent": (_INHERITANCE, "DELETE FROM hazard.c"),
    "a_table_that_inherits": (_INHERITANCE, "DELETE FROM hazard.b"),
    "only_the_parent": (_INHERITANCE, "DELETE FROM ONLY hazard.a"),
    "truncate_with_heirs": (_INHERITANCE, "TRUNCATE hazard.a"),
    # Ways to write
    "truncate_cascade": (_PAIR, "TRUNCATE hazard.a CASCADE"),
    "writable_cte": (
        _PAIR,
        "WITH gone AS (DELETE FROM hazard.b RETURNING a) SELECT count(*) FROM gone",
    ),
    "on_conflict": (
        _PAIR,
        "INSERT INTO hazard.a VALUES (1, 9) ON CONFLICT (id) DO UPDATE SET n = 9",
    ),
    "through_a_view": (
        _PAIR + "CREATE VIEW hazard.v AS SELECT id, n FROM hazard.a WHERE n < 5",
        "UPDATE hazard.v SET n = 4",
    ),
    "savepoints": (
        _PAIR,
        "BEGIN; SAVEPOINT x; DELETE FROM hazard.b; ROLLBACK TO x; "
        "UPDATE hazard.a SET n = 3; RELEASE x; COMMIT",
    ),
    "exceptions_within_a_function": (
        _PAIR,
        "DO $$ BEGIN UPDATE hazard.a SET n = 3; BEGIN DELETE FROM hazard.a; "
        "EXCEPTION WHEN OTHERS THEN INSERT INTO hazard.b (a) VALUES (1); END; END $$",
    ),
    "unlogged": (
        "CREATE UNLOGGED TABLE hazard.a (n int); INSERT INTO hazard.a VALUES (1)",
        "INSERT INTO hazard.a VALUES (2)",
    ),
    "triggers_switched_off": (
        _PAIR,
        "ALTER TABLE hazard.b DISABLE TRIGGER USER; DELETE FROM hazard.b; "
        "ALTER TABLE hazard.b ENABLE TRIGGER USER",
    ),
    # The user's own triggers, rules and policies
    "an_audit_trigger": (_AUDIT.format("AFTER INSERT OR UPDATE OR DELETE"), _AUDITED),
    "a_trigger_before": (_AUDIT.format("BEFORE INSERT OR DELETE"), _AUDITED),
    "a_trigger_that_is_always_on": (
        _AUDIT.format("AFTER INSERT OR UPDATE OR DELETE")
        + "ALTER TABLE hazard.a ENABLE ALWAYS TRIGGER note",
        _AUDITED,
    ),
    "a_trigger_of_replicas": (
        _AUDIT.format("AFTER INSERT OR UPDATE OR DELETE")
        + "ALTER TABLE hazard.a ENABLE REPLICA TRIGGER note",
        _AUDITED,
    ),
    "a_trigger_that_is_off": (
        _AUDIT.format("AFTER INSERT OR UPDATE OR DELETE")
        + "ALTER TABLE hazard.a DISABLE TRIGGER note",
        _AUDITED,
    ),
    "triggers_of_partitions": (
        _PARTITIONS
        + """
        CREATE TABLE hazard.log (what text);
        CREATE FUNCTION hazard.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO hazard.log VALUES (TG_TABLE_NAME); RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER INSERT OR DELETE ON hazard.a
            FOR EACH ROW EXECUTE FUNCTION hazard.note();
        CREATE TRIGGER mine AFTER INSERT OR DELETE ON hazard.a23
            FOR EACH ROW EXECUTE FUNCTION hazard.note();
        ALTER TABLE hazard.a23 ENABLE ALWAYS TRIGGER note;
        ALTER TABLE hazard.a1 DISABLE TRIGGER note;
        """,
        "DELETE FROM hazard.a",
    ),
    "a_constraint_trigger": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
        CREATE TABLE hazard.log (what text);
        CREATE FUNCTION hazard.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO hazard.log VALUES (TG_OP); RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER note AFTER INSERT OR DELETE ON hazard.a
            DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION hazard.note();
        INSERT INTO hazard.a VALUES (1, 1);
        """,
        "UPDATE hazard.a SET n = 2; DELETE FROM hazard.a",
    ),
    "a_trigger_that_forbids_to_delete": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY);
        INSERT INTO hazard.a VALUES (1);
        CREATE FUNCTION hazard.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'never'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON hazard.a
            FOR EACH STATEMENT EXECUTE FUNCTION hazard.refuse();
        """,
        "INSERT INTO hazard.a VALUES (2)",
    ),
    "rules": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY);
        CREATE TABLE hazard.b (id int PRIMARY KEY);
        CREATE TABLE hazard.log (id int);
        INSERT INTO hazard.a VALUES (1), (2);
        INSERT INTO hazard.b VALUES (1);
        CREATE RULE kept AS ON DELETE TO hazard.a DO INSTEAD NOTHING;
        CREATE RULE note AS ON INSERT TO hazard.a DO INSERT INTO hazard.log
            VALUES (NEW.id);
        CREATE RULE away AS ON INSERT TO hazard.b DO INSTEAD INSERT INTO hazard.log
            VALUES (NEW.id);
        ALTER TABLE hazard.b ENABLE ALWAYS RULE away;
        """,
        "INSERT INTO hazard.a VALUES (3); UPDATE hazard.a SET id = 7 WHERE id = 1; "
        "INSERT INTO hazard.b VALUES (9); DELETE FROM hazard.b",
    ),
    "row_level_security": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, n int);
        INSERT INTO hazard.a VALUES (1, 1), (2, 2), (3, 3);
        ALTER TABLE hazard.a ENABLE ROW LEVEL SECURITY;
        ALTER TABLE hazard.a FORCE ROW LEVEL SECURITY;
        CREATE POLICY few ON hazard.a
            USING (n <> 2 OR current_setting('txdump.sees_all', true) = 'on');
        """,
        "SET txdump.sees_all = 'on'; UPDATE hazard.a SET n = n + 1; "
        "RESET txdump.sees_all",
    ),
    # Materialised views
    "materialised_views": (
        _PARTITIONS
        + """
        CREATE VIEW hazard.v AS SELECT n FROM hazard.a1;
        CREATE MATERIALIZED VIEW hazard.m AS SELECT n, n AS again FROM hazard.v;
        CREATE MATERIALIZED VIEW hazard.mm AS SELECT sum(n) FROM hazard.m;
        CREATE MATERIALIZED VIEW hazard.none AS TABLE hazard.a WITH NO DATA;
        CREATE MATERIALIZED VIEW hazard."it's" AS TABLE hazard.a;
        """,
        """
        UPDATE hazard.a SET n = 7;
        REFRESH MATERIALIZED VIEW hazard.m;
        REFRESH MATERIALIZED VIEW hazard.mm;
        REFRESH MATERIALIZED VIEW hazard.none;
        REFRESH MATERIALIZED VIEW hazard."it's" WITH NO DATA;
        """,
    ),
    "a_materialised_view_that_is_stale": (
        """
        CREATE TABLE hazard.a (n int);
        CREATE MATERIALIZED VIEW hazard.m AS TABLE hazard.a;
        INSERT INTO hazard.a VALUES (1);
        """,
        "UPDATE hazard.a SET n = 7",
    ),
    # Large objects
    "large_objects": (
        "SELECT lo_from_bytea(0, 'a'), lo_from_bytea(0, 'b')",
        """
        SELECT lo_create(0);
        SELECT lo_put(oid, 0, 'x') FROM pg_largeobject_metadata
        WHERE lo_get(oid) = 'a';
        SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE lo_get(oid) = 'b';
        """,
    ),
    # The schema
    "new_tables": (
        "CREATE TABLE hazard.a (n int)",
        """
        CREATE TABLE hazard.b (id int PRIMARY KEY);
        CREATE TABLE hazard.c (b int REFERENCES hazard.b) PARTITION BY LIST (b);
        CREATE TABLE hazard.c1 PARTITION OF hazard.c DEFAULT;
        INSERT INTO hazard.b VALUES (1); INSERT INTO hazard.c VALUES (1);
        CREATE TABLE hazard.heir () INHERITS (hazard.a);
        CREATE MATERIALIZED VIEW hazard.m AS TABLE hazard.c;
        """,
    ),
    "tables_that_are_made_anew": (
        _PARTITIONS + "CREATE TABLE hazard.b (id int PRIMARY KEY, t text DEFAULT 'x'); "
        "INSERT INTO hazard.b VALUES (1)",
        """
        DROP TABLE hazard.a, hazard.b;
        CREATE TABLE hazard.b (id int PRIMARY KEY, t text DEFAULT 'x');
        INSERT INTO hazard.b VALUES (1, 'y'), (2, 'x');
        """
        + _PARTITIONS
        + "UPDATE hazard.a SET n = 9",
    ),
    "a_partition_that_is_made_anew": (
        _PARTITIONS,
        "DROP TABLE hazard.a1; "
        "CREATE TABLE hazard.a1 PARTITION OF hazard.a FOR VALUES IN (1)",
    ),
    "a_temporary_table": (
        _PAIR,
        "CREATE TEMPORARY TABLE a AS TABLE hazard.a; UPDATE hazard.a SET n = 7",
    ),
}

# What newer versions have.
VERSIONS = {
    15: {
        "merge": (
            _PAIR,
            "MERGE INTO hazard.a USING (VALUES (1), (9)) AS v (id) ON a.id = v.id "
            "WHEN MATCHED THEN UPDATE SET n = 0 "
            "WHEN NOT MATCHED THEN INSERT VALUES (9, 9)",
        ),
    },
    18: {
        "virtual_columns": (
            """
            CREATE TABLE hazard.a (n int, twice int GENERATED ALWAYS AS (2 * n), m int);
            INSERT INTO hazard.a (n, m) VALUES (1, 2), (1, NULL);
            """,
            "UPDATE hazard.a SET n = 2",
        ),
    },
}

# Where the server was built with libxml.
XML_HAZARDS = {
    "xml": (
        """
        CREATE TABLE hazard.a (id int PRIMARY KEY, x xml);
        INSERT INTO hazard.a VALUES (1, '<a b="&quot;">(1,2)</a>'),
            (2, 'x<a/>'), (3, '');
        """,
        "UPDATE hazard.a SET x = '<b/>'; SET xmloption = 'document'",
    ),
}

# What only a superuser may do, or what only event triggers see.
SUPERUSER_HAZARDS = {
    "copy": (_PAIR, "COPY hazard.a FROM PROGRAM 'echo 7,7' (FORMAT csv)"),
    "role_replica": (
        _PAIR,
        "SET session_replication_role = replica; DELETE FROM hazard.a; "
        "RESET session_replication_role",
    ),
    "values_that_come_back_changed": (
        _PAIR,
        """
        ALTER TABLE hazard.a ALTER n TYPE text USING 7;
        ALTER TABLE hazard.a ALTER n TYPE int USING n::int;
        """,
    ),
    "a_table_made_anew_as_replica": (
        _PAIR,
        """
        SET session_replication_role = replica;
        DROP TABLE hazard.b;
        CREATE TABLE hazard.b (id serial PRIMARY KEY, a int REFERENCES hazard.a);
        RESET session_replication_role;
        """,
    ),
}


class HazardTests(Hazards, unittest.TestCase):
    vendor = "postgresql"
    hazards = HAZARDS

    @classmethod
    def setUpClass(cls):
        if connection.vendor == "postgresql":
            [(is_superuser,)] = execute("SHOW is_superuser")
            cls.hazards = dict(HAZARDS)
            if is_superuser == "on":
                cls.hazards |= SUPERUSER_HAZARDS
            for version, hazards in VERSIONS.items():
                if connection.pg_version >= version * 10000:
                    cls.hazards |= hazards
            with suppress(NotSupportedError):
                execute("SELECT xml '<a/>'")
                cls.hazards |= XML_HAZARDS
        super().setUpClass()

    @classmethod
    def named(cls, sql, name):
        return sql.replace("hazard", f"in_{name}")

    @classmethod
    def prepare(cls):
        for name in cls.hazards:
            execute(f"CREATE SCHEMA in_{name}")
        super().prepare()

    @classmethod
    def remove(cls):
        for name in cls.hazards:
            execute(f"DROP SCHEMA IF EXISTS in_{name} CASCADE")
        execute('DROP SCHEMA IF EXISTS "Od%d \'s" CASCADE')
        execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")


class MigratedHazardTests(HazardTests):
    level = 1


class PostgreSQLTests(unittest.TestCase):
    """What cannot be said in a table of hazards."""

    databases = ("default",)

    def setUp(self):
        if connection.vendor != "postgresql":
            self.skipTest("about PostgreSQL")
        before = dump()
        self.addCleanup(lambda: assert_same(dump(), before))
        self.addCleanup(connection.close)
        self.layers = begin_class(type(self))

    def begin(self, prepare=""):
        if prepare:
            execute(prepare)
        self.layers.begin_test()

    def end(self):
        self.layers.end_test()
        self.layers.begin_test()

    def test_keys_do_not_collide(self):
        self.begin(
            """
            CREATE TABLE a (id serial PRIMARY KEY, n int);
            CREATE TABLE b (id bigint GENERATED ALWAYS AS IDENTITY,
                down int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1));
            INSERT INTO a (n) SELECT generate_series(1, 5);
            INSERT INTO b SELECT FROM generate_series(1, 5);
            """
        )
        for _ in range(2):
            execute("TRUNCATE a, b RESTART IDENTITY")
            self.end()
            self.assertEqual(
                execute("INSERT INTO a (n) VALUES (0) RETURNING id > 5"), [(True,)]
            )
            self.assertEqual(
                execute("INSERT INTO b SELECT RETURNING id > 5"), [(True,)]
            )
            self.end()
        call_command("flush", verbosity=0, interactive=False)
        self.end()
        self.assertGreater(Genre.objects.create(name="Diary").pk, 3)
        self.layers.end_class()

    def test_a_partition_that_stays_detached(self):
        self.begin(_PARTITIONS.replace("hazard", "public"))
        execute("ALTER TABLE a DETACH PARTITION a1")
        with self.assertRaisesRegex(SchemaChanged, "altered public.a1"):
            self.layers.end_test()
        self.assertEqual(execute("SELECT * FROM a1"), [(1, 1)])
        execute("ALTER TABLE a ATTACH PARTITION a1 FOR VALUES IN (1)")
        self.layers.begin_test()
        self.layers.end_class()

    def test_a_trigger_that_a_test_leaves(self):
        self.begin()
        execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE 'never'; END $$;
            CREATE TRIGGER refuse BEFORE DELETE ON library_loan
                FOR EACH STATEMENT EXECUTE FUNCTION refuse();
            INSERT INTO library_loan VALUES (1, 'Ann');
            """
        )
        self.layers.end_test()
        self.assertEqual(execute("SELECT * FROM library_loan"), [])
        execute("DROP FUNCTION refuse CASCADE")
        self.layers.end_class()

    def test_locks_and_notifications(self):
        self.begin()
        execute("SELECT pg_advisory_lock(1); LISTEN news; NOTIFY news")
        self.layers.end_test()
        self.assertFalse(self.layers.keeps_connections)
        self.layers.end_class()
        self.assertEqual(
            execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), [(0,)]
        )

    def test_what_a_checkpoint_prepares(self):
        """It is gone with the checkpoint, and made again if the session forgot it."""
        prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name ~ '^txtest '"
        self.begin()
        for forget in ("SELECT 1", "DISCARD ALL", "DEALLOCATE ALL"):
            with self.layers.checkpoint():
                for n in (1, 2, 3):
                    Genre.objects.filter(name="Crime").update(name="Horror")
                    self.layers.take_back({})
                    self.assertNotEqual(execute(prepared), [(0,)], (forget, n))
                    execute(forget)
            self.assertEqual(execute(prepared), [(0,)])
        self.end()
        self.layers.end_class()

    def test_rows_keep_their_order_where_there_is_free_space(self):
        rows = "SELECT i, 0, repeat('x', 200) FROM generate_series({}, {}) i"
        execute("CREATE TABLE a (id int PRIMARY KEY, n int, wide text)")
        self.begin(f"INSERT INTO a {rows.format(1, 10)}")
        with self.layers.checkpoint():
            for number in range(20):
                execute("UPDATE a SET n = 1 WHERE id % 3 = 0")
                if number % 3 == 0:
                    execute(f"INSERT INTO a {rows.format(11, 20)}")
                self.layers.take_back({})
                self.assertEqual(
                    execute("SELECT array_agg(id) FROM a"), [(list(range(1, 11)),)]
                )
                if number % 2 == 0:
                    execute("VACUUM a")
        self.end()
        execute("DROP TABLE a")
        self.layers.end_class()

    def test_an_error_after_the_first_round(self):
        """What that round has put back is still told."""
        restore, rounds = PostgreSQLBaseline._restore, count(1)

        def restore_but_fail(baseline, **options):
            number = next(rounds)
            if number == 2:
                raise OperationalError("the connection is lost")
            _, told = restore(baseline, **options)
            return number > 2, told

        self.begin()
        with self.layers.checkpoint():
            Genre.objects.filter(name="Crime").update(name="Horror")
            with mock.patch.object(PostgreSQLBaseline, "_restore", restore_but_fail):
                tables = {"public.library_genre": Table("public.library_genre", ())}
                told = self.layers.take_back({"default": tables})
            self.assertIn("Horror", str(told))
        self.end()
        self.layers.end_class()

    def test_who_commits_while_the_reset_runs(self):
        """A reset waits for who has begun to write, whenever the commit comes."""
        self.begin()
        other = connection.copy()
        other.set_autocommit(False)
        other.inc_thread_sharing()
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO library_loan VALUES (1, 'Ann')")
        timer = threading.Timer(0.1, other.commit)
        timer.start()
        self.layers.end_test()
        timer.join()
        other.close()
        self.assertEqual(execute("SELECT * FROM library_loan"), [])
        self.layers.end_class()

"""What SQLite can do to a reset."""

from __future__ import annotations

import unittest

from django.db import connection

from tests.reset.support import Hazards, execute

# What a class, or a migration, has prepared, and how a test spoils it. The names of the
# tables begin with another word than "hazard" in each.
HAZARDS = {
    "cascades": (
        """
        CREATE TABLE hazard_a (id integer PRIMARY KEY);
        CREATE TABLE hazard_b (a integer REFERENCES hazard_a ON DELETE CASCADE);
        CREATE TABLE hazard_c (a integer REFERENCES hazard_a ON DELETE SET NULL,
            id integer PRIMARY KEY, me integer REFERENCES hazard_c ON DELETE CASCADE);
        INSERT INTO hazard_a VALUES (1), (2);
        INSERT INTO hazard_b VALUES (1), (1), (2);
        INSERT INTO hazard_c VALUES (1, 1, NULL), (2, 2, 1), (NULL, 3, 2);
        """,
        "DELETE FROM hazard_a WHERE id = 1; DELETE FROM hazard_c WHERE id = 1",
    ),
    "a_key_that_is_checked_at_once": (
        """
        CREATE TABLE hazard_a (id integer PRIMARY KEY, n integer);
        CREATE TABLE hazard_b (a integer NOT NULL REFERENCES hazard_a);
        INSERT INTO hazard_a VALUES (1, 1);
        INSERT INTO hazard_b VALUES (1);
        """,
        "UPDATE hazard_a SET n = 2",
    ),
    "keys_that_refer_to_nothing_and_act": (
        """
        CREATE TABLE hazard_a (id integer PRIMARY KEY);
        CREATE TABLE hazard_b (a integer REFERENCES hazard_a ON DELETE CASCADE);
        CREATE TABLE hazard_c (a integer REFERENCES hazard_a ON DELETE SET NULL);
        PRAGMA foreign_keys = OFF;
        INSERT INTO hazard_b VALUES (1), (2);
        INSERT INTO hazard_c VALUES (1), (2);
        PRAGMA foreign_keys = ON;
        """,
        "INSERT INTO hazard_a VALUES (1)",
    ),
    "a_key_that_refers_to_nothing_at_once": (
        """
        CREATE TABLE hazard_a (id integer PRIMARY KEY);
        CREATE TABLE hazard_b (a integer REFERENCES hazard_a);
        PRAGMA foreign_keys = OFF;
        INSERT INTO hazard_b VALUES (1);
        PRAGMA foreign_keys = ON;
        """,
        "INSERT INTO hazard_a VALUES (1)",
    ),
    "a_key_that_refers_to_nothing_at_the_commit": (
        """
        CREATE TABLE hazard_a (id integer PRIMARY KEY);
        CREATE TABLE hazard_b (
            a integer REFERENCES hazard_a DEFERRABLE INITIALLY DEFERRED);
        PRAGMA foreign_keys = OFF;
        INSERT INTO hazard_b VALUES (1);
        PRAGMA foreign_keys = ON;
        """,
        "INSERT INTO hazard_a VALUES (1)",
    ),
    "odd_names": (
        """
        CREATE TABLE "hazard ""b"" %s'c" ("Id %s" integer PRIMARY KEY, "x""y" text);
        CREATE TABLE "hazard select" ("order" integer, rowid text, name text);
        INSERT INTO "hazard ""b"" %s'c" VALUES (1, '%s');
        INSERT INTO "hazard select" VALUES (1, 'a', 'b');
        """,
        """
        UPDATE "hazard ""b"" %s'c" SET "x""y" = '%d';
        UPDATE "hazard select" SET rowid = NULL;
        """,
    ),
    "triggers_with_odd_names": (
        """
        CREATE TABLE hazard_a (n integer);
        CREATE TABLE hazard_log (n integer);
        INSERT INTO hazard_a VALUES (1);
        CREATE TRIGGER "hazard ""t"" %s" AFTER INSERT ON HAZARD_A
            BEGIN INSERT INTO hazard_log VALUES (NEW.n); END;
        """,
        "INSERT INTO hazard_log VALUES (2); INSERT INTO hazard_a VALUES (2)",
    ),
    "values": (
        """
        CREATE TABLE hazard_a (id integer PRIMARY KEY, a, b integer, c real, d numeric,
            e text, f blob, g datetime, h boolean, i decimal);
        INSERT INTO hazard_a VALUES
            (1, 1, 'x', 1, '1.50', 1, 'text', '2020-01-02', 'maybe', '1.10'),
            (2, 1.0, 1.5, 9e999, -9e999, x'00ff', x'', 7, 2, 9007199254740993),
            (3, '1', NULL, 0.1, 9223372036854775807, '', NULL, NULL, NULL, NULL);
        """,
        "UPDATE hazard_a SET a = a || 'x'",
    ),
    "only_the_type_of_a_value": (
        "CREATE TABLE hazard_a (n); INSERT INTO hazard_a VALUES (1), ('1')",
        "UPDATE hazard_a SET n = 1.0 WHERE typeof(n) = 'integer'",
    ),
    "no_key_and_duplicates": (
        "CREATE TABLE hazard_a (n); "
        "INSERT INTO hazard_a VALUES (1), (1), (NULL), (NULL), (2)",
        "DELETE FROM hazard_a WHERE rowid = 1; INSERT INTO hazard_a VALUES (2)",
    ),
    "kinds_of_tables": (
        """
        CREATE TABLE hazard_a (id text PRIMARY KEY, n integer) WITHOUT ROWID;
        CREATE TABLE hazard_b (id integer PRIMARY KEY AUTOINCREMENT, n integer,
            twice integer GENERATED ALWAYS AS (n * 2) STORED,
            thrice integer AS (n * 3) UNIQUE);
        CREATE TABLE hazard_c (n integer UNIQUE, CHECK (n < 9)) STRICT;
        INSERT INTO hazard_a VALUES ('a', 1), ('b', 2);
        INSERT INTO hazard_b (n) VALUES (1), (2);
        INSERT INTO hazard_c VALUES (1), (2);
        """,
        """
        UPDATE hazard_a SET id = 'c' WHERE n = 1; REPLACE INTO hazard_a VALUES ('b', 3);
        UPDATE hazard_b SET n = n + 1 WHERE id = 2; DELETE FROM hazard_b WHERE id = 1;
        UPDATE hazard_c SET n = n + 2;
        INSERT INTO hazard_c VALUES (3) ON CONFLICT (n) DO UPDATE SET n = 7;
        """,
    ),
    "through_a_view": (
        """
        CREATE TABLE hazard_a (n integer); INSERT INTO hazard_a VALUES (1);
        CREATE VIEW hazard_v AS SELECT * FROM hazard_a;
        CREATE TRIGGER hazard_t INSTEAD OF INSERT ON hazard_v
            BEGIN INSERT INTO hazard_a VALUES (NEW.n); END;
        """,
        "INSERT INTO hazard_v VALUES (2)",
    ),
    "a_trigger_on_tables_that_are_empty": (
        """
        CREATE TABLE hazard_a (n integer);
        CREATE TABLE hazard_log (n integer);
        CREATE TRIGGER hazard_t AFTER DELETE ON hazard_a
            BEGIN INSERT INTO hazard_log VALUES (OLD.n); END;
        """,
        "INSERT INTO hazard_log VALUES (1); INSERT INTO hazard_a VALUES (2)",
    ),
    "a_trigger_that_forbids_to_delete": (
        """
        CREATE TABLE hazard_a (n integer); INSERT INTO hazard_a VALUES (1);
        CREATE TRIGGER hazard_t BEFORE DELETE ON hazard_a
            BEGIN SELECT raise(ABORT, 'never'); END;
        """,
        "INSERT INTO hazard_a VALUES (2)",
    ),
    "a_trigger_that_ends_the_others": (
        """
        CREATE TABLE hazard_a (n integer);
        CREATE TRIGGER hazard_t AFTER INSERT ON hazard_a
            BEGIN SELECT raise(IGNORE); END;
        """,
        "INSERT INTO hazard_a VALUES (2)",
    ),
    "new_tables": (
        "CREATE TABLE hazard_a (n integer)",
        'CREATE TABLE "hazard ""b"" %s" (n integer); '
        'INSERT INTO "hazard ""b"" %s" VALUES (1)',
    ),
    "tables_that_are_made_anew": (
        "CREATE TABLE hazard_a (n integer); INSERT INTO hazard_a VALUES (1)",
        "DROP TABLE hazard_a; CREATE TABLE hazard_a (n integer)",
    ),
}


class HazardTests(Hazards, unittest.TestCase):
    vendor = "sqlite"
    hazards = HAZARDS

    @classmethod
    def named(cls, sql, name):
        sql = sql.replace("HAZARD", f"IN_{name}")
        return sql.replace("hazard", f"in_{name}")

    @classmethod
    def remove(cls):
        connection.close()
        for kind in ("view", "table"):
            rows = connection.cursor().execute(
                "SELECT name FROM sqlite_master WHERE type = %s AND name LIKE 'in~_%%' "
                "ESCAPE '~'",
                [kind],
            )
            for (name,) in rows.fetchall():
                quoted = name.replace('"', '""')
                execute(f'PRAGMA foreign_keys = OFF; DROP {kind} "{quoted}"')
        connection.close()


class MigratedHazardTests(HazardTests):
    level = 1

"""Databases that --keepdb kept, with what an older version has installed."""

from __future__ import annotations

import unittest
from unittest import mock

from django.db import connection

from django_txtest.databases import get_database
from django_txtest.reset.baselines import get_baseline
from tests.library.models import Genre, Loan
from tests.reset.support import assert_same, begin_class, dump, execute

# Other tables and functions under the names of ours, and some that we do not have.
OLDER = {
    "mysql": """
        DROP TABLE txtest_state;
        CREATE TABLE txtest_state (migrations TEXT NOT NULL);
        INSERT INTO txtest_state VALUES ({migrations});
        DROP TABLE txtest_tables;
        CREATE TABLE txtest_tables (name TEXT);
        DROP TABLE txtest_dirty;
        CREATE TABLE txtest_old (id INT);
        CREATE TRIGGER txtest_old AFTER INSERT ON library_loan
            FOR EACH ROW INSERT INTO txtest_old VALUES (1)
        """,
    "postgresql": """
        DROP SCHEMA txtest CASCADE;
        CREATE SCHEMA txtest;
        CREATE TABLE txtest.tables (relid oid);
        CREATE TABLE txtest.old (relid oid);
        CREATE FUNCTION txtest.is_complete() RETURNS boolean LANGUAGE sql
            AS 'SELECT true';
        CREATE FUNCTION txtest.mark() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO txtest.old VALUES (TG_RELID); RETURN NULL; END';
        CREATE TRIGGER zz_txtest_mark AFTER INSERT ON library_loan
            FOR EACH STATEMENT EXECUTE FUNCTION txtest.mark();
        CREATE TRIGGER zz_txtest_old AFTER INSERT ON library_loan
            FOR EACH STATEMENT EXECUTE FUNCTION txtest.mark()
        """,
    "sqlite": """
        DROP TABLE txtest_state;
        CREATE TABLE txtest_state (migrations TEXT, contents BLOB);
        INSERT INTO txtest_state VALUES ({migrations}, x'00');
        DROP TABLE txtest_dirty;
        CREATE TABLE txtest_old (name TEXT);
        CREATE TRIGGER txtest_old BEFORE INSERT ON library_loan
            BEGIN INSERT INTO txtest_old VALUES ('library_loan'); END
        """,
}

# The same tables, but of another script.
ANOTHER = {
    "mysql": "UPDATE txtest_state SET fingerprint = 'x'",
    "postgresql": "COMMENT ON SCHEMA txtest IS 'x'",
    "sqlite": "UPDATE txtest_state SET fingerprint = 'x'",
}

OBJECTS = {
    "mysql": """
        SELECT table_name FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name LIKE 'txtest|_%' ESCAPE '|'
        UNION SELECT trigger_name FROM information_schema.triggers
        WHERE trigger_schema = DATABASE()
        """,
    "postgresql": """
        SELECT relname::text FROM pg_class
        WHERE relnamespace = to_regnamespace('txtest')
        UNION SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal
        """,
    "sqlite": "SELECT name FROM sqlite_master WHERE name LIKE 'txtest~_%' ESCAPE '~'",
}


class KeptDatabaseTests(unittest.TestCase):
    databases = ("default",)

    def setUp(self):
        self.addCleanup(connection.close)
        begin_class(type(self)).end_class()
        self.migrated = dump()
        self.installed = self.objects()

    def objects(self):
        with connection.cursor() as cursor:
            cursor.execute(OBJECTS[connection.vendor])
            names = {name for (name,) in cursor.fetchall()}
        # Which tables there are for the rows of tests depends on what they wrote to.
        of_tests = "txtest_class_", "txtest_checkpoint_"
        return {name for name in names if not name.startswith(of_tests)}

    def check(self):
        """Check that a class begins and ends as with objects of our own."""
        layers = begin_class(type(self))
        self.assertEqual(self.objects(), self.installed)
        Loan.objects.create(pk=1, reader="Ann")
        layers.begin_test()
        before = dump()
        Loan.objects.all().delete()
        Genre.objects.all().delete()
        layers.end_test()
        assert_same(dump(), before)
        layers.end_class()
        assert_same(dump(), self.migrated)

    def test_an_older_version(self):
        script = OLDER[connection.vendor]
        if "{migrations}" in script:
            migrations = get_baseline(get_database(connection))._migrations()
            script = script.format(migrations=f"'{migrations}'")
        execute(script)
        self.assertTrue(any("txtest_old" in name for name in self.objects()))
        self.check()

    def test_the_same_tables_of_another_version(self):
        execute(ANOTHER[connection.vendor])
        self.check()

    def test_a_trigger_that_a_killed_run_had_dropped(self):
        if connection.vendor != "mysql":
            self.skipTest("elsewhere a transaction puts it back")
        trigger = (
            "CREATE TRIGGER t_loan BEFORE INSERT ON library_loan "
            "FOR EACH ROW SET NEW.reader = UPPER(NEW.reader)"
        )
        execute(f"INSERT INTO txtest_triggers VALUES (0, 't_loan', '', '{trigger}')")
        execute(ANOTHER["mysql"])
        begin_class(type(self)).end_class()
        self.addCleanup(execute, "DROP TRIGGER t_loan")
        self.assertEqual(self.objects(), {*self.installed, "t_loan"})

    def test_this_version(self):
        baseline = type(get_baseline(get_database(connection)))
        with mock.patch.object(baseline, "_install", side_effect=AssertionError):
            self.check()

"""Test classes of every kind: each expects the database as migrations left it."""

from __future__ import annotations

import os
import signal

from django.db import connection, connections
from django.test import TestCase, TransactionTestCase

from django_txtest import NoAtomicMixin, call_concurrently
from django_txtest.reset import current_layers
from tests.concurrency import targets
from tests.library.models import Book, Genre, Loan

GENRES = {"Crime", "Poetry", "Travel"}


class ExpectationsMixin:
    databases = ("default", "other")

    def check(self):
        for alias in self.databases:
            genres = set(Genre.objects.using(alias).values_list("name", flat=True))
            self.assertEqual(genres, GENRES, alias)
            self.assertFalse(Loan.objects.using(alias).exists(), alias)
            self.assertFalse(Book.objects.using(alias).exists(), alias)
        self.assertNotIn("left_over", connection.introspection.table_names())

    def spoil(self):
        if os.environ.get("TXTEST_SUITE_KILL") == type(self).__name__:
            Book.objects.create(title="The last words")
            connection.cursor().execute("CREATE TABLE left_over (id integer)")
            with current_layers().checkpoint():
                Genre.objects.all().delete()
                os.kill(os.getpid(), signal.SIGKILL)
        for alias in self.databases:
            Genre.objects.using(alias).filter(name="Crime").delete()
            Book.objects.using(alias).create(title="Emma")
            Loan.objects.using(alias).create(pk=1, reader="Ann")


class FirstPlainTests(ExpectationsMixin, TestCase):
    def test_a(self):
        self.check()
        self.spoil()

    def test_b(self):
        self.test_a()


class FirstCommittingTests(NoAtomicMixin, FirstPlainTests):
    """The tests of a TestCase, really committed."""


class SecondCommittingTests(NoAtomicMixin, ExpectationsMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.genre = Genre.objects.create(name="Diaries")

    def test_a(self):
        self.assertEqual(Genre.objects.count(), 4)
        self.spoil()

    def test_b(self):
        self.test_a()

    def test_processes_use_the_same_databases(self):
        Book.objects.create(title="Emma")
        [names] = call_concurrently(1, targets.database_names)
        for alias in self.databases:
            self.assertEqual(names[alias], connections[alias].settings_dict["NAME"])
        self.assertEqual(call_concurrently(1, targets.titles), [["Emma"]])


class TrickyTablesTests(NoAtomicMixin, ExpectationsMixin, TestCase):
    """Foreign keys that act or are checked at once, and a trigger that writes."""

    databases = ("default",)
    actions = ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")
    checks = ("DEFERRABLE INITIALLY DEFERRED", "NOT DEFERRABLE")

    @classmethod
    def setUpTestData(cls):
        cls.execute(
            "CREATE TABLE z_parent (id integer PRIMARY KEY)",
            "CREATE TABLE a_child (id integer PRIMARY KEY, "
            "parent integer NOT NULL REFERENCES z_parent (id))",
            "CREATE TABLE m_audit (parent integer)",
        )
        if connection.vendor == "sqlite":
            cls.execute(
                "CREATE TRIGGER audit AFTER INSERT ON z_parent "
                "BEGIN INSERT INTO m_audit VALUES (NEW.id); END"
            )
        elif connection.vendor == "mysql":
            cls.execute(
                "CREATE TRIGGER audit AFTER INSERT ON z_parent "
                "FOR EACH ROW INSERT INTO m_audit VALUES (NEW.id)"
            )
        else:
            cls.execute(
                "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN INSERT INTO m_audit VALUES (NEW.id); RETURN NULL; END'",
                "CREATE TRIGGER audit AFTER INSERT ON z_parent "
                "FOR EACH ROW EXECUTE FUNCTION audit()",
            )
        cls.execute(
            "INSERT INTO z_parent VALUES (1)", "INSERT INTO a_child VALUES (1, 1)"
        )
        for suffix, action, check in cls.owners():
            cls.execute(
                f"CREATE TABLE z_owner{suffix} (id integer PRIMARY KEY, name text, "
                f"elder integer DEFAULT 2 REFERENCES z_owner{suffix} (id) "
                f"ON DELETE {action} {check})",
                f"CREATE TABLE b_owned{suffix} (id integer PRIMARY KEY, "
                f"owner integer DEFAULT 2 REFERENCES z_owner{suffix} (id) "
                f"ON DELETE {action} {check})",
                f"INSERT INTO z_owner{suffix} VALUES (1, 'Ann', NULL), (2, 'Bob', 1)",
                f"INSERT INTO b_owned{suffix} VALUES (1, 1), (2, 2)",
            )

    @classmethod
    def tearDownClass(cls):
        if connection.vendor == "postgresql":
            cls.execute("DROP FUNCTION audit CASCADE")
        super().tearDownClass()

    @staticmethod
    def execute(*statements):
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    @classmethod
    def owners(cls):
        actions, checks = cls.actions, cls.checks
        if connection.vendor == "mysql":
            # InnoDB knows of no default, and checks each row at once.
            actions = [action for action in actions if action != "SET DEFAULT"]
            checks = ("",)
        for number, check in enumerate(checks):
            for action in actions:
                yield f"_{action.lower().replace(' ', '_')}_{number}", action, check

    def rows(self, table):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            return list(cursor.fetchall())

    def test_a(self):
        self.check()
        self.assertEqual(self.rows("z_parent"), [(1,)])
        self.assertEqual(self.rows("a_child"), [(1, 1)])
        self.assertEqual(self.rows("m_audit"), [(1,)])
        self.execute(
            "INSERT INTO z_parent VALUES (2)",
            "UPDATE a_child SET parent = 2",
            "DELETE FROM z_parent WHERE id = 1",
        )
        self.assertEqual(self.rows("m_audit"), [(1,), (2,)])
        self.check_and_spoil_owners("")

    def test_b(self):
        self.check_and_spoil_owners("cascade_0")

    def test_c(self):
        self.check_and_spoil_owners("_1")

    def test_d(self):
        self.test_a()

    def check_and_spoil_owners(self, *ends):
        for suffix, _, _ in self.owners():
            owners, owned = self.rows(f"z_owner{suffix}"), self.rows(f"b_owned{suffix}")
            self.assertEqual(owners, [(1, "Ann", None), (2, "Bob", 1)], suffix)
            self.assertEqual(owned, [(1, 1), (2, 2)], suffix)
        for suffix, _, _ in self.owners():
            if suffix.endswith(ends):
                # What refers to the row is written to by nothing but a reset.
                self.execute(f"UPDATE z_owner{suffix} SET name = 'Eve' WHERE id = 1")


class SecondPlainTests(FirstPlainTests):
    pass


class FlushingTests(TransactionTestCase):
    """Empties the tables, as Django's own do; they run after all of the above."""

    databases = ("default", "other")

    def test_a(self):
        Book.objects.create(title="Emma")
        self.assertFalse(connection.in_atomic_block)

"""The third level, on any database and with either way back."""

from __future__ import annotations

import threading
import unittest
from contextlib import suppress
from unittest import mock

from django.db import DatabaseError, connection
from django.test import TestCase, override_settings

from django_txtest import NoAtomicMixin
from django_txtest.databases import get_database
from django_txtest.exceptions import LeftoverSession, NestedCheckpoint, SchemaChanged
from django_txtest.reset import Layers, Leftovers, current_layers
from django_txtest.reset.rewriting import RewritingBaseline
from tests.library.models import Book, Genre, Loan
from tests.utils import explores

ALIASES = ("default", "other")


def execute(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def rows():
    return [
        list(model.objects.using(alias).order_by("pk").values())
        for alias in ALIASES
        for model in (Book, Genre, Loan)
    ]


def rows_of(table):
    """Return what is in a table, or None if there is none."""
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        return list(cursor.fetchall())
    return None


class CheckpointTests(unittest.TestCase):
    databases = ALIASES
    #: What is left of a table that a restore found to be new.
    nothing = None

    def setUp(self):
        leftovers = Leftovers()
        leftovers.watch()
        self.addCleanup(leftovers.close_all)
        self.layers = Layers(ALIASES, leftovers)
        self.layers.begin_class()
        self.addCleanup(self.layers.end_class)
        self.migrated = rows()
        Loan.objects.create(pk=1, reader="Ann")
        self.layers.begin_test()
        self.before = rows()

    def end(self):
        self.layers.end_test()
        self.assertEqual(rows(), self.before)

    def spoil(self, number):
        for alias in ALIASES:
            Genre.objects.using(alias).filter(name="Crime").delete()
            Book.objects.using(alias).create(title=f"Part {number}")
            Loan.objects.using(alias).update_or_create(
                pk=number, defaults={"reader": f"Reader {number}"}
            )

    def test_again_and_again(self):
        self.spoil(1)
        with self.layers.checkpoint() as put_back:
            at_checkpoint = rows()
            for number in range(2, 5):
                self.spoil(number)
                Book.objects.all().delete()
                put_back()
                self.assertEqual(rows(), at_checkpoint)
            put_back()
            self.assertEqual(rows(), at_checkpoint)
            self.spoil(5)
            at_the_end = rows()
        self.assertEqual(rows(), at_the_end)
        self.end()

    def test_what_was_there_is_told(self):
        """Of the tables that one asks for; all are put back."""
        tables = {table.name: table for table in get_database(connection).tables()}
        [loan] = [name for name in tables if "library_loan" in name]
        with self.layers.checkpoint():
            at_checkpoint = rows()
            self.spoil(2)
            told = self.layers.take_back({"default": {loan: tables[loan]}})
            self.assertEqual(list(told), ["default"])
            self.assertEqual(list(told["default"]), [loan])
            readers = [reader for _, reader in told["default"][loan]]
            self.assertCountEqual(readers, ["Ann", "Reader 2"])
            self.assertEqual(rows(), at_checkpoint)
        self.end()

    @explores
    def test_keys_come_again(self):
        first = Genre.objects.create(name="first").pk
        with self.layers.checkpoint() as put_back:
            for _ in range(3):
                Genre.objects.create(name="again").delete()
                self.assertEqual(Genre.objects.create(name="again").pk, first + 2)
                put_back()
        self.assertEqual(Genre.objects.create(name="after").pk, first + 1)
        self.end()

    def test_a_checkpoint_does_not_make_the_next_test_reconnect(self):
        self.spoil(1)
        with self.layers.checkpoint() as put_back:
            self.spoil(2)
            put_back()
        self.end()
        keeps = all(baseline.keeps_connection for baseline in self.layers._baselines)
        self.assertEqual(self.layers.keeps_connections, keeps)

    def test_tables_that_only_the_block_writes_to(self):
        with self.layers.checkpoint():
            self.spoil(2)
        self.end()

    def test_an_error_in_the_block(self):
        self.spoil(1)
        with self.assertRaises(ZeroDivisionError), self.layers.checkpoint():
            self.spoil(2)
            at_the_end = rows()
            raise ZeroDivisionError
        self.assertEqual(rows(), at_the_end)
        with self.layers.checkpoint() as put_back:
            self.spoil(3)
            put_back()
            self.assertEqual(rows(), at_the_end)
        self.end()

    def test_within_another_one(self):
        with self.layers.checkpoint() as put_back:
            at_checkpoint = rows()
            with (
                self.assertRaisesRegex(NestedCheckpoint, "one at a time"),
                self.layers.checkpoint(),
            ):
                pass
            self.spoil(1)
            put_back()
            self.assertEqual(rows(), at_checkpoint)
        self.end()

    def test_tables_that_are_created(self):
        execute("CREATE TABLE t_b (id integer)", "INSERT INTO t_b VALUES (1)")
        with self.layers.checkpoint() as put_back:
            for _ in range(2):
                execute("CREATE TABLE t_c (id integer)", "INSERT INTO t_c VALUES (1)")
                execute("INSERT INTO t_b VALUES (2)")
                put_back()
                self.assertEqual(rows_of("t_b"), [(1,)])
                self.assertEqual(rows_of("t_c"), self.nothing)
                execute("DROP TABLE IF EXISTS t_c")
            execute("CREATE TABLE t_a (id integer)", "INSERT INTO t_b VALUES (3)")
        execute("INSERT INTO t_a VALUES (1)")
        with self.layers.checkpoint() as put_back:
            execute("INSERT INTO t_a VALUES (2)", "DELETE FROM t_b")
            put_back()
            self.assertEqual(rows_of("t_a"), [(1,)])
            self.assertEqual(rows_of("t_b"), [(1,), (3,)])
        execute("INSERT INTO t_a VALUES (4)")
        self.end()
        self.assertEqual(rows_of("t_a"), self.nothing)
        self.assertEqual(rows_of("t_b"), self.nothing)
        execute("DROP TABLE IF EXISTS t_a", "DROP TABLE IF EXISTS t_b")

    def test_a_table_that_was_altered_before(self):
        self.spoil(1)
        execute("ALTER TABLE library_loan ADD COLUMN more integer")
        at_checkpoint = rows()
        with (
            self.assertRaisesRegex(SchemaChanged, "altered .*library_loan"),
            self.layers.checkpoint(),
        ):
            pass
        self.assertEqual(rows(), at_checkpoint)
        execute("ALTER TABLE library_loan DROP COLUMN more")
        self.end()

    def test_a_table_that_is_altered_in_the_block(self):
        self.spoil(1)
        with self.layers.checkpoint() as put_back:
            at_checkpoint = rows()
            execute("ALTER TABLE library_loan ADD COLUMN more integer")
            with self.assertRaisesRegex(SchemaChanged, "altered .*library_loan"):
                put_back()
            execute("ALTER TABLE library_loan DROP COLUMN more")
            self.spoil(2)
            put_back()
            self.assertEqual(rows(), at_checkpoint)
        self.end()

    def test_a_table_of_the_checkpoint_that_is_dropped(self):
        execute("CREATE TABLE t_a (id integer)")
        with self.layers.checkpoint() as put_back:
            execute("DROP TABLE t_a")
            with self.assertRaisesRegex(SchemaChanged, "t_a"):
                put_back()
        self.end()

    def test_a_session_that_is_left_behind(self):
        other = connection.copy()
        other.inc_thread_sharing()
        self.addCleanup(other.close)
        with self.layers.checkpoint() as put_back:
            at_checkpoint = rows()
            self.spoil(1)
            other.set_autocommit(False)
            with other.cursor() as cursor:
                cursor.execute("UPDATE library_loan SET reader = 'Bob' WHERE id = 1")
            with (
                override_settings(TXTEST_LOCK_TIMEOUT=0.3),
                self.assertRaises(LeftoverSession),
            ):
                put_back()
            self.assertEqual(rows(), at_checkpoint)
        self.end()

    def test_in_the_set_up_of_a_class(self):
        self.end()
        self.layers.end_class()
        self.layers._baselines.clear()
        self.layers.begin_class()
        self.layers._has_class_data = False
        self.assertEqual(rows(), self.migrated)
        execute("CREATE TABLE t_a (id integer)")
        for number in (1, 2):
            self.spoil(number)
            with self.layers.checkpoint() as put_back:
                at_checkpoint = rows()
                self.spoil(number + 2)
                put_back()
                self.assertEqual(rows(), at_checkpoint)
        self.layers.begin_test()
        execute("INSERT INTO t_a VALUES (1)")
        Genre.objects.all().delete()
        self.layers.end_test()
        self.assertEqual(rows(), at_checkpoint)
        self.assertEqual(rows_of("t_a"), [])
        self.layers.end_class()
        self.assertEqual(rows(), self.migrated)
        self.assertEqual(rows_of("t_a"), self.nothing)
        execute("DROP TABLE IF EXISTS t_a")


class RewritingCheckpointTests(CheckpointTests):
    nothing = []

    def setUp(self):
        patch = mock.patch("django_txtest.reset.layers.get_baseline", RewritingBaseline)
        patch.start()
        self.addCleanup(patch.stop)
        super().setUp()

    # Only where interleavings are explored.
    test_keys_come_again = None
    # A checkpoint looks at what there is.
    test_a_table_that_was_altered_before = None


class CurrentLayersTests(NoAtomicMixin, TestCase):
    def test_in_a_test(self):
        self.assertIs(current_layers(), self._layers)
        found = []
        thread = threading.Thread(target=lambda: found.append(current_layers()))
        thread.start()
        thread.join()
        self.assertEqual(found, [self._layers])


class NoLayersTests(TestCase):
    def test_in_a_test(self):
        self.assertIsNone(current_layers())

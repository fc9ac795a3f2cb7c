from __future__ import annotations

import threading
import unittest
from contextlib import suppress
from pathlib import Path
from unittest import mock

from django.db import DatabaseError, connection, connections, transaction
from django.test import TestCase

from django_txtest import NoAtomicMixin
from django_txtest.databases import Database, get_database
from tests.library.models import Book, Genre
from tests.utils import poll

# By the vendor: what takes a lock, and what waits for it in another session.
WAITS = {
    "mysql": [
        ("UPDATE library_genre SET name = name WHERE id = 1",) * 2,
        ("SELECT * FROM library_genre", "ALTER TABLE library_genre COMMENT 'x'"),
        ("LOCK TABLES library_genre WRITE", "DELETE FROM library_genre"),
        ("SELECT GET_LOCK('txtest', 60)",) * 2,
    ],
    "postgresql": [
        ("UPDATE library_genre SET name = name WHERE id = 1",) * 2,
        ("SELECT * FROM library_genre", "TRUNCATE library_genre CASCADE"),
        ("SELECT pg_advisory_lock(1)",) * 2,
    ],
}

# What would last for ten minutes, and what is said of it when it is cancelled.
SLEEPS = {
    "mysql": ("SELECT SLEEP(600) FROM library_genre", "interrupted"),
    "postgresql": ("SELECT pg_sleep(600)", "cancel"),
}


class EveryDatabaseTests(NoAtomicMixin, TestCase):
    """What holds for each vendor, in its own way and in the one for any vendor."""

    def databases_here(self):
        return get_database(connection), Database(connection)

    def test_rows_come_back_as_they_were(self):
        genre = Genre.objects.get(name="Crime")
        first = Book.objects.create(
            title='it\'s, "quoted" \\ (1,2)\n%s',
            genre=genre,
            details={"a": [1, None, "\u00e9"]},
            cover=bytes(range(256)),
            available=False,
        )
        Book.objects.create(title="", sequel_to=first)
        database = get_database(connection)
        contents = [(table, database.read(table)) for table in database.tables()]
        before = list(Book.objects.order_by("pk").values())
        Book.objects.all().delete()
        Genre.objects.all().delete()
        database.replace(contents)
        after = list(Book.objects.order_by("pk").values())
        for row in [*before, *after]:
            row["cover"] = bytes(row["cover"])
        self.assertEqual(after, before)
        self.assertEqual(Genre.objects.get(name="Crime"), genre)
        again = [(table, database.read(table)) for table in database.tables()]
        self.assertEqual(
            {table.name: sorted(map(repr, rows)) for table, rows in again},
            {table.name: sorted(map(repr, rows)) for table, rows in contents},
        )

    def test_a_vendor_that_nothing_is_known_of(self):
        database = Database(connection)
        table = next(t for t in database.tables() if "library_genre" in t.name)
        rows = database.read(table)
        self.assertEqual(len(rows), 3)
        database.replace([(table, rows[:2])])
        self.assertEqual(Genre.objects.count(), 2)
        self.assertIsNone(database.session_pid())
        self.assertIsNone(database.concurrency_obstacle())
        self.assertEqual(database.lock_holders(), [])

    def test_unmanaged_tables_are_known(self):
        for database in self.databases_here():
            names = " ".join(table.name for table in database.tables())
            self.assertIn("library_loan", names)
            self.assertIn("django_migrations", names)

    def test_the_name_of_a_test_database_may_be_a_path(self):
        name = Path(str(connection.settings_dict["NAME"]))
        test = {**connection.settings_dict["TEST"], "NAME": name}
        with mock.patch.dict(connection.settings_dict, TEST=test, NAME=name):
            self.assertTrue(Database(connection).is_test_database())
        with mock.patch.dict(connection.settings_dict, TEST=test, NAME="shop"):
            self.assertFalse(Database(connection).is_test_database())

    def test_clones_are_test_databases(self):
        test = {**connection.settings_dict["TEST"], "NAME": "/tmp/test_txtest.db"}
        with mock.patch.dict(connection.settings_dict, NAME=test["NAME"], TEST=test):
            clone = connection.creation.get_test_db_clone_settings("1")["NAME"]
            connection.settings_dict["NAME"] = clone
            self.assertTrue(get_database(connection).is_test_database())

    def test_identity(self):
        with get_database(connection).second_connection() as other:
            self.assertEqual(other.identity(), get_database(connection).identity())

    def test_waiting_for_a_lock_is_bounded(self):
        book = Book.objects.create(title="Emma")
        database = get_database(connection)
        with database.second_connection() as other:
            other.connection.set_autocommit(False)
            with other.connection.cursor() as cursor:
                cursor.execute("UPDATE library_book SET title = 'Persuasion'")
            with (
                self.assertRaises(DatabaseError) as caught,
                database.bounded_lock_waits(0.1),
            ):
                Book.objects.filter(pk=book.pk).update(title="Sanditon")
            self.assertTrue(database.is_lock_timeout(caught.exception))
            if connection.vendor != "sqlite":
                [holder] = database.lock_holders()
                self.assertEqual(holder.pid, other.session_pid())
            if connection.vendor == "postgresql":
                self.assertIn("UPDATE library_book", str(holder))
                self.assertIn("idle in transaction", str(holder))
            other.connection.rollback()
        Book.objects.filter(pk=book.pk).update(title="Sanditon")

    def test_the_bound_is_for_the_block_only(self):
        sql = {
            "mysql": "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout",
            "postgresql": "SHOW lock_timeout",
            "sqlite": "PRAGMA busy_timeout",
        }[connection.vendor]

        def bound():
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchone()

        before = bound()
        with get_database(connection).bounded_lock_waits(0.5):
            self.assertNotEqual(bound(), before)
        self.assertEqual(bound(), before)

    def test_sessions_that_wait_for_a_lock(self):
        database = get_database(connection)
        if connection.vendor == "sqlite":
            self.assertIsNone(database.waiting_pids([1]))
        for take, wait in WAITS.get(connection.vendor, ()):
            with (
                self.subTest(wait),
                database.second_connection() as holder,
                database.second_connection() as waiter,
            ):
                holder.connection.set_autocommit(False)
                holder._execute(take)
                self.check_waiting(database, holder.session_pid(), waiter, wait)

    def check_waiting(self, database, holding, waiter, sql):
        waiting = waiter.session_pid()
        pids = [holding, waiting]
        self.assertEqual(database.waiting_pids(pids), set())
        thread = threading.Thread(target=self.wait_for_a_lock, args=[waiter, sql])
        waiter.connection.inc_thread_sharing()
        thread.start()
        # Asked often, as some sources would answer the same for ever then.
        is_seen = poll(lambda: database.waiting_pids(pids) == {waiting})
        self.assertEqual(database.waiting_pids([holding]), set())
        database.terminate(waiting)
        thread.join()
        self.assertTrue(is_seen)
        self.assertEqual(database.waiting_pids(pids), set())

    def wait_for_a_lock(self, database, sql):
        with suppress(DatabaseError):
            database._execute(sql)

    @unittest.skipIf(connection.vendor == "sqlite", "SQLite has no server's sessions")
    def test_ending_sessions(self):
        database = get_database(connection)
        sleep, message = SLEEPS[connection.vendor]
        with database.second_connection() as other:
            pid = other.session_pid()
            errors = []

            def execute():
                try:
                    other._execute(sleep)
                except DatabaseError as error:
                    errors.append(str(error))

            other.connection.inc_thread_sharing()
            thread = threading.Thread(target=execute)
            thread.start()
            while not errors and thread.is_alive():
                database.cancel(pid)
                thread.join(0.1)
            self.assertIn(message, errors[0])
            self.assertTrue(other.is_usable())
            database.terminate(pid)
            self.assertFalse(other.is_usable())
            database.terminate(pid)  # one that is gone already

    def test_other_errors_are_no_lock_timeouts(self):
        for database in self.databases_here():
            with self.assertRaises(DatabaseError) as caught:
                Genre.objects.create(name="Crime")
            self.assertFalse(database.is_lock_timeout(caught.exception))


class PostgreSQLTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpClass(cls):
        if connections["default"].vendor != "postgresql":
            raise unittest.SkipTest("about PostgreSQL; this run is on another database")
        super().setUpClass()

    def setUp(self):
        self.execute("CREATE SCHEMA corner")
        self.addCleanup(self.execute, "DROP SCHEMA corner CASCADE")

    def execute(self, sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)

    def contents(self, *names):
        database = get_database(connection)
        return [
            (table, database.read(table))
            for table in database.tables()
            if table.name in names
        ]

    def check_round_trip(self, *names):
        contents = self.contents(*names)
        self.assertEqual([table.name for table, _ in contents], list(names))
        self.assertTrue(all(rows for _, rows in contents))
        get_database(connection).replace(contents)
        self.assertEqual(self.contents(*names), contents)
        get_database(connection).replace([(table, []) for table, _ in contents])
        get_database(connection).replace(contents)
        self.assertEqual(self.contents(*names), contents)

    def test_identity_and_generated_columns(self):
        self.execute(
            "CREATE TABLE corner.a (id int GENERATED ALWAYS AS IDENTITY, n int, "
            'twice int GENERATED ALWAYS AS (2 * n) STORED, "odd, name" text)'
        )
        self.execute(
            "INSERT INTO corner.a (n, \"odd, name\") VALUES (1, 'x'), (2, NULL)"
        )
        self.check_round_trip("corner.a")

    def test_values_that_are_easily_lost(self):
        self.execute(
            "CREATE TABLE corner.a (f float8, n numeric, b bytea, a text[], j json, "
            "r int4range, i interval, t timestamptz)"
        )
        self.execute(
            "INSERT INTO corner.a VALUES ('NaN', 'NaN', '\\x00ff', '{a,\"b,\"}', "
            "'{\"a\":  1}', '[1,5)', '1 mon -3 days', '-infinity'), "
            "(0.1 + 0.2, 1.10, '', '{}', '[]', 'empty', '0', now())"
        )
        self.check_round_trip("corner.a")

    def test_partitions(self):
        self.execute("CREATE TABLE corner.a (k int, v text) PARTITION BY LIST (k)")
        for k in (1, 2):
            self.execute(
                f"CREATE TABLE corner.a{k} PARTITION OF corner.a FOR VALUES IN ({k})"
            )
        self.execute("INSERT INTO corner.a VALUES (1, 'x'), (2, 'y')")
        self.check_round_trip("corner.a")

    def test_triggers_do_not_fire(self):
        self.execute("CREATE TABLE corner.a (k int)")
        self.execute("CREATE TABLE corner.log (k int)")
        self.execute(
            "CREATE FUNCTION corner.note() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO corner.log VALUES (NEW.k); RETURN NEW; END'"
        )
        self.execute(
            "CREATE TRIGGER note AFTER INSERT ON corner.a "
            "FOR EACH ROW EXECUTE FUNCTION corner.note()"
        )
        self.execute("INSERT INTO corner.a VALUES (1)")
        self.check_round_trip("corner.a", "corner.log")

    def test_a_deadlock_counts_as_a_lock_that_could_not_be_had(self):
        """The server may end the reset before the reset's own time is up."""
        first, second = Genre.objects.order_by("pk")[:2]
        database = get_database(connection)
        errors = []
        with database.second_connection() as other:
            other.connection.set_autocommit(False)
            other.connection.inc_thread_sharing()

            def update(pk):
                try:
                    sql = "UPDATE library_genre SET name = name WHERE id = %s"
                    other._execute(sql, [pk])
                except DatabaseError as error:
                    errors.append(error)

            update(first.pk)
            with transaction.atomic():
                Genre.objects.filter(pk=second.pk).update(name=second.name)
                thread = threading.Thread(target=update, args=[second.pk])
                thread.start()
                try:
                    with transaction.atomic():
                        Genre.objects.filter(pk=first.pk).update(name=first.name)
                except DatabaseError as error:
                    errors.append(error)
            thread.join(60)
            other.connection.rollback()
        [error] = errors
        self.assertIn("deadlock", str(error))
        self.assertTrue(database.is_lock_timeout(error))

from __future__ import annotations

import threading
import unittest
from contextlib import suppress
from functools import partial
from unittest import mock

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.core import serializers
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, transaction
from django.db.models import CharField, Model
from django.test import (
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
    skipUnlessDBFeature,
)

from django_txtest import NoAtomicMixin
from django_txtest.databases import get_database
from django_txtest.exceptions import LeftoverSession, MixinError
from tests.library.models import Book, Genre, Loan, Reader
from tests.utils import InnerTestsMixin, SessionsMixin

GENRES = {"Crime", "Poetry", "Travel"}


def genres(using: str = DEFAULT_DB_ALIAS) -> set[str]:
    return set(Genre.objects.using(using).values_list("name", flat=True))


def seen_by_another_connection(model: type[Model], using: str = "default") -> int:
    table = model._meta.db_table
    other = connections[using].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            return cursor.fetchone()[0]
    finally:
        other.close()


class CommitTests(NoAtomicMixin, TestCase):
    """What a test writes is committed, and transactions act as in production."""

    def test_no_transaction_is_open(self):
        self.assertFalse(connection.in_atomic_block)
        self.assertTrue(connection.get_autocommit())

    def test_other_connections_see_the_rows(self):
        Book.objects.create(title="Emma")
        self.assertEqual(seen_by_another_connection(Book), 1)

    def test_threads_see_the_rows(self):
        Book.objects.create(title="Emma")
        titles = []
        thread = threading.Thread(
            target=lambda: titles.extend(Book.objects.values_list("title", flat=True))
        )
        thread.start()
        thread.join()
        self.assertEqual(titles, ["Emma"])

    @skipUnlessDBFeature("has_select_for_update")
    def test_select_for_update_needs_a_transaction(self):
        book = Book.objects.create(title="Emma")
        with self.assertRaises(transaction.TransactionManagementError):
            Book.objects.select_for_update().get(pk=book.pk)
        with transaction.atomic():
            Book.objects.select_for_update().get(pk=book.pk)

    def test_durable(self):
        with transaction.atomic(durable=True):
            Book.objects.create(title="Emma")
        with (
            self.assertRaisesRegex(RuntimeError, "durable"),
            transaction.atomic(),
            transaction.atomic(durable=True),
        ):
            pass

    def test_rollback(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            Book.objects.create(title="Emma")
            _ = 1 / 0
        self.assertFalse(Book.objects.exists())

    def test_an_integrity_error_does_not_break_the_test(self):
        with self.assertRaises(Exception):  # noqa: B017 - any driver's
            Genre.objects.create(name="Crime")
        self.assertEqual(genres(), GENRES)


class ClassDataTests(NoAtomicMixin, TestCase):
    """Each test starts with what the class put there, however the others end."""

    calls = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.reader = Reader.objects.create(name="Ann")

    @classmethod
    def setUpTestData(cls):
        ClassDataTests.calls += 1
        cls.book = Book.objects.create(
            title="Emma",
            details={"pages": [1, None]},
            cover=b"\x00\xff",
            genre=Genre.objects.get(name="Crime"),
        )

    def check(self):
        self.assertEqual(ClassDataTests.calls, 1)
        self.assertEqual(genres(), GENRES)
        self.assertEqual(Reader.objects.get(), self.reader)
        book = Book.objects.get()
        for field in ("pk", "title", "details", "available", "added", "genre_id"):
            self.assertEqual(getattr(book, field), getattr(self.book, field))
        self.assertEqual(bytes(book.cover), b"\x00\xff")
        self.assertEqual(self.book.title, "Emma")

    def test_a_updates(self):
        self.check()
        self.book.title = "Persuasion"
        self.book.save()

    def test_b_deletes(self):
        self.check()
        Genre.objects.all().delete()
        self.assertFalse(Book.objects.exists())
        Reader.objects.all().delete()

    def test_c_adds(self):
        self.check()
        other = Book.objects.create(title="Persuasion", sequel_to=self.book)
        self.reader.borrowed.add(other, self.book)
        Genre.objects.create(name="Travel writing")
        Loan.objects.create(pk=1, reader="Ann")

    def test_d_sees_none_of_it(self):
        self.check()
        self.assertFalse(Loan.objects.exists())
        self.assertFalse(self.reader.borrowed.exists())

    def test_objects_are_not_shared_between_tests(self):
        self.assertIsNot(self.book, type(self).book)
        self.assertIs(self.book, self.book)


class OnCommitTests(NoAtomicMixin, TestCase):
    def setUp(self):
        self.ran = []

    def register(self, name, **options):
        transaction.on_commit(lambda: self.ran.append(name), **options)

    def test_callbacks_run_at_the_commit(self):
        with transaction.atomic():
            self.register("a")
            self.assertEqual(self.ran, [])
        self.assertEqual(self.ran, ["a"])

    def test_captured_once_and_run_once(self):
        for execute in (False, True):
            with self.subTest(execute=execute):
                self.ran.clear()
                with self.captureOnCommitCallbacks(execute=execute) as callbacks:
                    with transaction.atomic():
                        self.register("a")
                        self.register("b", robust=True)
                        self.assertEqual(callbacks, [])
                    self.assertEqual(self.ran, ["a", "b"])
                    self.register("c")  # no transaction: it runs at once
                self.assertEqual(self.ran, ["a", "b", "c"])
                self.assertEqual(len(callbacks), 3)
                callbacks[0]()
                self.assertEqual(self.ran[-1], "a")

    def test_what_was_rolled_back_is_not_captured(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                self.register("lost")
                _ = 1 / 0
            with transaction.atomic():
                with self.assertRaises(ZeroDivisionError), transaction.atomic():
                    self.register("lost with its savepoint")
                    _ = 1 / 0
                self.register("kept")
        self.assertEqual(self.ran, ["kept"])
        self.assertEqual(len(callbacks), 1)

    def test_what_still_waits_at_the_end_is_captured(self):
        with transaction.atomic():
            with self.captureOnCommitCallbacks() as callbacks:
                self.register("later")
            self.assertEqual(len(callbacks), 1)
            self.assertEqual(self.ran, [])
        self.assertEqual(self.ran, ["later"])
        self.assertEqual(len(callbacks), 1)

    def test_callbacks_that_callbacks_register(self):
        with self.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            transaction.on_commit(lambda: self.register("inner"))
        self.assertEqual(self.ran, ["inner"])
        self.assertEqual(len(callbacks), 2)

    def test_nested(self):
        with (
            self.captureOnCommitCallbacks() as outer,
            self.captureOnCommitCallbacks() as inner,
            transaction.atomic(),
        ):
            self.register("a")
        self.assertEqual((len(outer), len(inner), self.ran), (1, 1, ["a"]))
        self.assertNotIn("on_commit", vars(connection))

    def test_a_callback_that_raises(self):
        def fail():
            raise ZeroDivisionError

        with (
            self.assertRaises(ZeroDivisionError),
            self.captureOnCommitCallbacks() as callbacks,
            transaction.atomic(),
        ):
            transaction.on_commit(fail)
        self.assertEqual(callbacks, [fail])

    def test_something_that_cannot_be_called(self):
        with (
            self.captureOnCommitCallbacks(),
            self.assertRaisesRegex(TypeError, "on_commit"),
            transaction.atomic(),
        ):
            transaction.on_commit("not a callable")


class FixtureTests(NoAtomicMixin, TestCase):
    fixtures = ("books.json",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.count = Book.objects.count()

    def test_a_fixture_is_there_in_set_up_class(self):
        self.assertEqual(self.count, 1)
        Book.objects.all().delete()

    def test_b_and_in_every_test(self):
        self.assertEqual(Book.objects.get().pk, 100)


class SerializedRollbackTests(InnerTestsMixin, unittest.TestCase):
    def test_serialized_contents_are_class_data(self):
        class Serialized(NoAtomicMixin, TestCase):
            serialized_rollback = True

            def test_a(self):
                self.assertEqual(genres(), {*GENRES, "Memoir"})
                Genre.objects.all().delete()

            def test_b(self):
                self.assertEqual(genres(), {*GENRES, "Memoir"})

        contents = serializers.serialize("json", [Genre(pk=50, name="Memoir")])
        with mock.patch.object(
            connection._connections["default"],
            "_test_serialized_contents",
            contents,
            create=True,
        ):
            self.assertPasses(Serialized)
        self.assertPasses(MigrationRowsTests.Plain)

    def test_with_rows_of_apps_that_are_not_available(self):
        class Serialized(NoAtomicMixin, TransactionTestCase):
            available_apps = ("tests.library",)
            serialized_rollback = True

            def test(self):
                self.assertFalse(apps.is_installed("django.contrib.sites"))
                self.assertEqual(genres(), {*GENRES, "Memoir"})

        rows = [Genre(pk=50, name="Memoir"), Site(pk=50, domain="example.org")]
        with mock.patch.object(
            connection._connections["default"],
            "_test_serialized_contents",
            serializers.serialize("json", rows),
            create=True,
        ):
            self.assertPasses(Serialized)


@skipUnlessDBFeature("supports_sequence_reset")
class ResetSequencesTests(NoAtomicMixin, TestCase):
    reset_sequences = True

    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(title="Emma")

    def check(self):
        self.assertEqual(self.book.pk, 1)
        self.assertEqual(Book.objects.create(title="Persuasion").pk, 2)
        self.assertEqual(Reader.objects.create(name="Ann").pk, 1)
        self.assertEqual(Genre.objects.create(name="Diary").pk, 4)

    def test_a(self):
        self.check()

    def test_b(self):
        self.check()

    def test_models_without_a_table_here(self):
        with mock.patch.object(Book._meta, "db_table", "elsewhere"):
            get_database(connection).reset_sequences()


class DatabasesTests(NoAtomicMixin, TestCase):
    databases = {"default", "other", "replica"}

    @classmethod
    def setUpTestData(cls):
        Book.objects.using("other").create(title="Emma")

    def check(self):
        self.assertEqual(genres("default"), GENRES)
        self.assertEqual(genres("other"), GENRES)
        self.assertEqual(Book.objects.using("other").count(), 1)
        self.assertFalse(Book.objects.using("default").exists())
        self.assertFalse(Book.objects.using("replica").exists())

    def test_a(self):
        self.check()
        Book.objects.create(title="Persuasion")
        self.assertEqual(Book.objects.using("replica").get().title, "Persuasion")
        Genre.objects.using("other").all().delete()
        Book.objects.using("other").all().delete()

    def test_b(self):
        self.check()


class DatabaseNotListedTests(NoAtomicMixin, TestCase):
    def test_it_is_refused_as_in_any_test(self):
        with self.assertRaisesRegex(AssertionError, "other"):
            Book.objects.using("other").exists()


class AvailableAppsTests(NoAtomicMixin, TestCase):
    available_apps = ("tests.library",)

    def test_a(self):
        self.assertFalse(apps.is_installed("django.contrib.auth"))
        Book.objects.create(title="Emma")
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM auth_permission")

    def test_b(self):
        self.assertFalse(Book.objects.exists())
        self.assertEqual(genres(), GENRES)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM auth_permission")
            self.assertGreater(cursor.fetchone()[0], 0)


class ClassesThatDoNotEndTests(InnerTestsMixin, unittest.TestCase):
    def check(self, problem, *classes):
        problems = self.problems(*classes)
        self.assertEqual([problem in text for text in problems], [True] * bool(problem))
        self.assertTrue(apps.is_installed("django.contrib.auth"))

    def test_a_set_up_that_fails(self):
        class Failing(NoAtomicMixin, TransactionTestCase):
            available_apps = ("tests.library",)

            @classmethod
            def setUpClass(cls):
                super().setUpClass()
                raise ValueError("no set-up")

            def test(self):
                pass

        self.check("no set-up", Failing)

    def test_a_tear_down_that_does_not_call_ours(self):
        class Forgetful(NoAtomicMixin, TransactionTestCase):
            available_apps = ("tests.library",)

            @classmethod
            def tearDownClass(cls):
                pass

            def test(self):
                pass

        self.check("", Forgetful)


class CacheTests(NoAtomicMixin, TestCase):
    def test_a_fills_the_caches_and_makes_them_stale(self):
        ContentType.objects.get_for_model(Book)
        Site.objects.get_current()
        ContentType.objects.all().delete()
        ContentType.objects.clear_cache()
        Site.objects.all().delete()
        ContentType.objects.get_for_model(Book)
        Site.objects.create(pk=1, domain="stale.test", name="stale")
        Site.objects.get_current()

    def test_b_sees_the_rows_that_are_there(self):
        content_type = ContentType.objects.get_for_model(Book)
        self.assertTrue(ContentType.objects.filter(pk=content_type.pk).exists())
        self.assertTrue(Permission.objects.filter(content_type=content_type).exists())
        self.assertEqual(Site.objects.get_current().domain, "example.com")


class MixinErrorTests(SimpleTestCase):
    def test_after_the_test_case(self):
        message = r"Late.*after TestCase.*class Late\(NoAtomicMixin, TestCase\)"
        with self.assertRaisesRegex(MixinError, message):

            class Late(TestCase, NoAtomicMixin):
                pass

    def test_without_a_database(self):
        for base in (unittest.TestCase, SimpleTestCase):
            message = "none of its base classes uses the database"
            with self.assertRaisesRegex(MixinError, message):
                type("NoDatabase", (NoAtomicMixin, base), {})

    def test_an_instance_method_in_place_of_a_classmethod(self):
        for name in ("_fixture_setup", "setUpTestData"):
            with self.assertRaisesRegex(MixinError, f"{name}.*classmethod"):
                type("Wrong", (NoAtomicMixin, TestCase), {name: lambda self: None})

    def test_a_mixin_made_of_it(self):
        mixin = type("Mixin", (NoAtomicMixin,), {})
        self.assertTrue(issubclass(type("Good", (mixin, TestCase), {}), mixin))


class MigrationRowsTests(InnerTestsMixin, unittest.TestCase):
    """Whatever ran before, a test finds what migrations put in the database."""

    class Plain(TestCase):
        def test_rows(self):
            self.assertEqual(genres(), GENRES)
            self.assertFalse(Book.objects.exists())
            self.assertFalse(Loan.objects.exists())

    class Committing(NoAtomicMixin, TestCase):
        @classmethod
        def setUpTestData(cls):
            Book.objects.create(title="Emma")

        def test_a(self):
            self.assertEqual(genres(), GENRES)
            Genre.objects.all().delete()

        def test_b(self):
            self.assertEqual(genres(), GENRES)
            Loan.objects.create(pk=1, reader="Ann")

    class Flushing(TransactionTestCase):
        def test_flush(self):
            Book.objects.create(title="Emma")

    class CommittingWithoutSetUpTestData(NoAtomicMixin, TransactionTestCase):
        fixtures = ("books.json",)

        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            Reader.objects.create(name="Ann")

        def test_a(self):
            self.assertEqual(genres(), GENRES)
            self.assertEqual(Reader.objects.count(), 1)
            Book.objects.get().delete()

        def test_b(self):
            self.test_a()

    def test_a_plain_test_case_after(self):
        self.assertPasses(self.Committing, self.Plain)

    def test_after_a_flush(self):
        self.assertPasses(self.Committing, self.Flushing, self.Committing, self.Plain)

    def test_over_transaction_test_case(self):
        self.assertPasses(
            self.Flushing, self.CommittingWithoutSetUpTestData, self.Plain
        )

    def test_after_a_class_that_cannot_be_set_up(self):
        class Broken(NoAtomicMixin, TestCase):
            @classmethod
            def setUpTestData(cls):
                Book.objects.create(title="Emma")
                raise ZeroDivisionError

            def test(self):
                pass

        [problem] = self.problems(Broken)
        self.assertIn("ZeroDivisionError", problem)
        self.assertPasses(self.Plain)

    def test_after_a_class_whose_tests_are_skipped(self):
        class Skipped(self.Committing):
            test_a = unittest.skip("on purpose")(self.Committing.test_a)
            test_b = None

        self.assertPasses(Skipped)
        self.assertPasses(self.Plain)

    def test_after_a_class_that_is_skipped(self):
        skipped = unittest.skip("on purpose")(type("Skipped", (self.Committing,), {}))
        self.assertPasses(skipped)
        self.assertPasses(self.Plain)

    def test_after_a_set_up_class_that_leaves_a_broken_transaction(self):
        class Broken(self.Committing):
            @classmethod
            def setUpClass(cls):
                super().setUpClass()
                transaction.atomic().__enter__()
                with suppress(Error):
                    Genre.objects.create(name="Crime")

        self.assertPasses(Broken)
        self.assertPasses(self.Plain)

    def test_debug(self):
        suite = unittest.TestSuite(map(self.Committing, ["test_a", "test_b"]))
        suite.debug()
        self.assertPasses(self.Plain)


class LeftoverTests(SessionsMixin, InnerTestsMixin, unittest.TestCase):
    """What a test leaves behind neither spoils nor hangs the next one."""

    databases = ("default", "other")

    def committing(self, leave):
        class Leaving(NoAtomicMixin, TestCase):
            databases = ("default", "replica")

            def test_a(self):
                Book.objects.create(title="committed")
                leave()

            def test_b(self):
                self.assertFalse(connection.in_atomic_block)
                self.assertTrue(connection.get_autocommit())
                self.assertFalse(Book.objects.exists())
                self.assertEqual(genres(), GENRES)

        return Leaving

    def test_a_transaction(self):
        def leave():
            transaction.atomic().__enter__()
            Book.objects.create(title="Emma")

        self.assertPasses(self.committing(leave))

    def test_a_broken_transaction(self):
        def leave():
            transaction.atomic().__enter__()
            transaction.set_rollback(True)

        self.assertPasses(self.committing(leave))

    def test_autocommit_off(self):
        def leave():
            transaction.set_autocommit(False)
            Book.objects.create(title="Emma")

        self.assertPasses(self.committing(leave))

    def test_a_transaction_on_a_mirror(self):
        def leave():
            transaction.atomic(using="replica").__enter__()
            Book.objects.using("replica").exists()

        self.assertPasses(self.committing(leave))

    def test_a_copy_of_the_connection(self):
        copies = []

        def leave():
            copy = connection.copy()
            copies.append(copy)
            copy.set_autocommit(False)
            with copy.cursor() as cursor:
                cursor.execute("UPDATE library_genre SET name = 'x' WHERE id = 1")

        with override_settings(TXTEST_LOCK_TIMEOUT=0.5):
            [problem] = self.problems(self.committing(leave))
        self.assertIn(LeftoverSession.__name__, problem)
        self.assertPasses(MigrationRowsTests.Plain)

    def test_settings_of_the_session(self):
        if connection.vendor != "postgresql":
            self.skipTest("settings of PostgreSQL")
        for setting in (
            "default_transaction_read_only = on",
            "statement_timeout = 1",
            "search_path = pg_catalog",
            "SESSION AUTHORIZATION pg_monitor",
        ):
            with self.subTest(setting=setting):
                leave = partial(self.execute, f"SET {setting}")
                self.assertPasses(self.committing(leave))

    def test_two_databases_and_a_lock_on_one(self):
        class Leaving(NoAtomicMixin, TestCase):
            databases = ("default", "other")

            def test_a(self):
                Book.objects.using("other").create(title="Emma")
                copy = connection.copy()
                type(self).copies = [copy]
                copy.set_autocommit(False)
                with copy.cursor() as cursor:
                    cursor.execute("UPDATE library_genre SET name = 'x' WHERE id = 1")

            def test_b(self):
                self.assertFalse(Book.objects.using("other").exists())

        with override_settings(TXTEST_LOCK_TIMEOUT=0.5):
            [problem] = self.problems(Leaving)
        self.assertIn(LeftoverSession.__name__, problem)

    def test_a_cursor(self):
        cursors = []

        def leave():
            cursor = connection.cursor()
            cursor.execute("SELECT * FROM library_genre")
            cursor.fetchone()
            cursors.append(cursor)

        self.assertPasses(self.committing(leave))

    def test_a_closed_connection(self):
        self.assertPasses(self.committing(connection.close))

    def test_a_connection_closed_within_a_transaction(self):
        def leave():
            transaction.atomic().__enter__()
            connection.close()

        self.assertPasses(self.committing(leave))

    @override_settings(TXTEST_LOCK_TIMEOUT=0.5)
    def test_a_thread_that_holds_a_lock(self):
        locked, end = threading.Event(), threading.Event()

        def hold():
            with suppress(Error), transaction.atomic():
                Genre.objects.create(name="uncommitted")
                locked.set()
                end.wait(60)
            connection.close()

        def leave():
            thread = threading.Thread(target=hold, name="the holder", daemon=True)
            self.addCleanup(thread.join, 60)
            self.addCleanup(end.set)
            thread.start()
            locked.wait(60)

        [problem] = self.problems(self.committing(leave))
        self.assertIn(LeftoverSession.__name__, problem)
        self.assertIn("TXTEST_LOCK_TIMEOUT", problem)
        if connection.vendor == "postgresql":
            self.assertRegex(problem, r"pid \d+ .*idle in transaction.*INSERT INTO")
        elif connection.vendor == "mysql":
            self.assertRegex(problem, r"pid \d+ \(\w+@.*in a transaction for")
        else:
            self.assertIn("the holder", problem)
        self.assertPasses(MigrationRowsTests.Plain)

    def test_sessions_of_threads_that_ended_or_still_run(self):
        end = threading.Event()
        started = threading.Event()

        def run():
            Book.objects.exists()
            Book.objects.using("replica").exists()
            started.set()
            end.wait(60)

        def leave():
            ended = threading.Thread(target=lambda: Book.objects.exists())
            ended.start()
            ended.join()
            running = threading.Thread(target=run, daemon=True)
            self.addCleanup(running.join, 60)
            self.addCleanup(end.set)
            running.start()
            started.wait(60)

        self.assertPasses(self.committing(leave))
        if connection.vendor != "sqlite":
            self.assertNoSessions()

    def test_a_table(self):
        def leave():
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE left_behind (id integer)")
                cursor.execute("INSERT INTO left_behind VALUES (1)")

        self.addCleanup(self.execute, "DROP TABLE IF EXISTS left_behind")
        self.assertPasses(self.committing(leave))

    def test_a_temporary_table(self):
        kinds = ["TEMPORARY"] if connection.vendor == "mysql" else ["TEMP", "TEMPORARY"]
        for kind in kinds:
            sql = f"CREATE {kind} TABLE passing (id integer)"
            leave = partial(self.execute, sql)
            self.assertPasses(self.committing(leave), self.committing(leave))

    def test_a_column_that_was_dropped_and_made_anew(self):
        execute = self.execute

        class Leaving(NoAtomicMixin, TestCase):
            @classmethod
            def setUpTestData(cls):
                Loan.objects.create(pk=1, reader="Ann")

            def test_a(self):
                self.assertEqual(Loan.objects.get().reader, "Ann")
                table = "ALTER TABLE library_loan"
                execute(f"{table} DROP COLUMN reader")
                execute(f"{table} ADD COLUMN reader varchar(100) NOT NULL DEFAULT ''")

            def test_b(self):
                self.assertEqual(Loan.objects.get().reader, "Ann")
                Loan.objects.update(reader="Bob")

            def test_c(self):
                self.assertEqual(Loan.objects.get().reader, "Ann")

        self.assertPasses(Leaving)
        self.assertPasses(MigrationRowsTests.Plain)

    def test_a_table_that_django_alters(self):
        field = Reader._meta.get_field("name")
        longer = CharField(max_length=200)
        longer.set_attributes_from_name("name")

        class Leaving(NoAtomicMixin, TestCase):
            def test_a(self):
                for old, new in ((field, longer), (longer, field)):
                    with connection.schema_editor() as editor:
                        editor.alter_field(Reader, old, new)

            def test_b(self):
                Reader.objects.create(name="Ann")

            def test_c(self):
                self.assertFalse(Reader.objects.exists())

        self.assertPasses(Leaving)

    def test_a_column_type(self):
        def alter(kind):
            change = {
                "mysql": f"MODIFY name {kind} NOT NULL",
                "postgresql": f"ALTER name TYPE {kind}",
            }[connection.vendor]
            self.execute(f"ALTER TABLE library_reader {change}")

        if connection.vendor == "sqlite":
            self.skipTest("SQLite has no types to alter")
        problems = self.problems(self.committing(partial(alter, "text")))
        alter("varchar(100)")
        self.assertRegex(problems[0], r"altered \S*library_reader")
        self.assertPasses(self.committing(lambda: None))

    def test_a_table_that_was_dropped(self):
        def leave():
            self.execute("ALTER TABLE library_loan RENAME TO moved")

        class AfterTheRename(self.committing(leave)):
            test_b = None

        problems = self.problems(AfterTheRename)
        self.assertTrue(problems)
        self.execute("ALTER TABLE moved RENAME TO library_loan")
        for problem in problems:
            self.assertRegex(problem, "(dropped|altered).*library_loan")
        self.assertPasses(self.committing(lambda: None))

    def execute(self, sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)

from __future__ import annotations

import os
import signal
import threading
import time
import unittest
from functools import partial
from unittest import mock

from django.db import OperationalError, connection, transaction
from django.test import TestCase, override_settings

from django_txtest import CallError, NoAtomicMixin
from django_txtest.databases import get_database
from django_txtest.exceptions import (
    DatabaseNotSupported,
    InvalidCall,
    SessionStuck,
    TooManySteps,
)
from django_txtest.history import Kind
from django_txtest.scheduler.calls import Session, parse_sessions
from django_txtest.scheduler.engine import Engine
from django_txtest.scheduler.session import checkpoint
from django_txtest.scheduler.state import State
from django_txtest.scheduler.strategies import ReplayScheduler
from django_txtest.scheduler.waits import has_circle
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.utils import SessionsMixin, explores, on_postgresql, poll


@explores
class EngineTestCase(SessionsMixin, NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(title="a", copies=5)
        cls.other_book = Book.objects.create(title="b", copies=5)

    def tearDown(self):
        names = [thread.name for thread in threading.enumerate()]
        self.assertFalse([name for name in names if "txtest session" in name])
        if connection.vendor == "postgresql":
            self.assertNoSessions()

    def execute(self, schedule, *targets, **options):
        with Engine(parse_sessions(targets), ["default"], **options) as engine:
            scheduler = ReplayScheduler(schedule)
            scheduler.begin()
            return engine.execute(scheduler.choose)

    def kinds(self, execution, name):
        return [event.kind for event in execution.history.of(name)]

    def texts(self, execution, name):
        return [str(event) for event in execution.history.of(name)]


class StepTests(EngineTestCase):
    def test_the_order_is_that_of_the_schedule(self):
        lend = partial(calls.lend, self.book.pk)
        execution = self.execute("a2b2", lend, lend)
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 3)
        execution = self.execute("aba1b", lend, lend)
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 2)
        self.assertEqual(execution.schedule.encode(), "abab")
        self.assertEqual(execution.results, [None, None])
        self.assertEqual(
            self.kinds(execution, "s1"),
            [Kind.START, Kind.STATEMENT, Kind.STATEMENT, Kind.RETURNS],
        )
        [start, select, *_] = execution.history
        self.assertEqual(start.text, f"lend({self.book.pk})")
        self.assertEqual(select.place.function, "lend")
        self.assertTrue(select.place.file.endswith("tests/scheduler/calls.py"))

    def test_all_may_be_over_before_the_engine_looks(self):
        """Sessions let each other go on, while the engine's own thread may not run."""
        lend = partial(calls.lend, self.book.pk)
        with Engine(parse_sessions([lend, lend]), ["default"]) as engine:
            first = engine.threads[0]
            go = first.go

            def go_and_wait(**options):
                go(**options)
                self.assertTrue(poll(lambda: engine.threads[1].position is State.DONE))

            with mock.patch.object(first, "go", go_and_wait):
                scheduler = ReplayScheduler("a2b2")
                scheduler.begin()
                execution = engine.execute(scheduler.choose)
        self.assertEqual(execution.schedule.encode(), "a2b2")
        self.assertEqual(execution.results, [None, None])

    def test_commits_savepoints_and_rollbacks_are_steps(self):
        def call():
            with transaction.atomic():
                try:
                    with transaction.atomic():
                        raise ValueError
                except ValueError:
                    pass
                Genre.objects.create(name="x")

        def fail():
            with transaction.atomic():
                Genre.objects.create(name="y")
                raise ValueError("no")

        execution = self.execute("", call, fail)
        texts = self.texts(execution, "s1")
        on_sqlite = connection.vendor == "sqlite"
        self.assertEqual(
            [text.partition(" ")[0] for text in texts],
            ["begins"]
            + ["BEGIN"] * on_sqlite
            + ["SAVEPOINT", "ROLLBACK", "RELEASE", "INSERT", "COMMIT", "returns"],
        )
        self.assertIn(Kind.COMMIT, self.kinds(execution, "s1"))
        self.assertEqual(self.kinds(execution, "s2")[-2:], [Kind.ROLLBACK, Kind.RAISES])
        self.assertIsInstance(execution.results[1], CallError)
        self.assertEqual(str(execution.results[1].original), "no")
        self.assertFalse(Genre.objects.filter(name="y").exists())

    def test_an_empty_transaction_has_no_steps(self):
        @transaction.atomic
        def call():
            return 1

        if connection.vendor == "postgresql":  # SQLite says BEGIN
            execution = self.execute("a", call)
            self.assertEqual(self.kinds(execution, "s1"), [Kind.START, Kind.RETURNS])

    def test_callbacks_run_at_the_commit(self):
        order = []

        def call():
            with transaction.atomic():
                calls.lend_f(self.book.pk)
                transaction.on_commit(lambda: order.append("callback"))
            order.append("after")

        self.execute("", call)
        self.assertEqual(order, ["callback", "after"])

    def test_checkpoints(self):
        order = []

        def call(name):
            order.append(name)
            checkpoint("here")
            order.append(name)

        checkpoint("of no session")
        execution = self.execute("abba", partial(call, 1), partial(call, 2))
        self.assertEqual(order, [1, 2, 2, 1])
        self.assertIn("checkpoint 'here'", self.texts(execution, "s1"))

    def test_async_calls(self):
        async def call():
            book = await Book.objects.aget(pk=self.book.pk)
            await Book.objects.filter(pk=book.pk).aupdate(copies=book.copies - 1)
            return book.copies

        execution = self.execute("abab", call, call)
        self.assertEqual(execution.results, [5, 5])

    def test_executions_have_nothing_of_each_other(self):
        def call():
            if connection.vendor == "postgresql":
                calls.execute("SET search_path = nothing")
                calls.execute("SELECT pg_advisory_lock(1)")
            transaction.set_autocommit(False)
            calls.execute("SELECT 1")

        with Engine(parse_sessions([call, call]), ["default"]) as engine:
            for _ in range(3):
                execution = engine.execute(lambda choice: choice.runnable[0])
                execution.results.raise_errors()


@on_postgresql
class WaitTests(EngineTestCase):
    def test_rows(self):
        lend = partial(calls.lend_locked, self.book.pk)
        execution = self.execute("aba", lend, lend)
        texts = self.texts(execution, "s2")
        self.assertEqual(texts[2:4], ["<waiting for s1>", "<goes on>"])
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 3)

    def test_three_in_line(self):
        lend = partial(calls.lend_locked, self.book.pk)
        execution = self.execute("abc", lend, lend, lend)
        self.assertIn("<waiting for s1>", self.texts(execution, "s2"))
        self.assertIn("<waiting for s2>", self.texts(execution, "s3"))
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 2)

    def test_unique_indexes(self):
        create = partial(calls.create_genre, "new")
        execution = self.execute("ab", create, create)
        self.assertEqual(execution.results, ["created", "there was one"])
        self.assertIn("<waiting for s1>", self.texts(execution, "s2"))

    def test_other_locks(self):
        for lock in (
            "SELECT pg_advisory_xact_lock(7)",
            "LOCK TABLE library_book IN EXCLUSIVE MODE",
        ):
            with self.subTest(lock):

                @transaction.atomic
                def call(lock=lock):
                    calls.execute(lock)
                    calls.execute("SELECT 1")

                execution = self.execute("ab", call, call)
                self.assertIn("<waiting for s1>", self.texts(execution, "s2"))

    def test_a_parent_that_is_deleted(self):
        reader = Reader.objects.create(name="r")

        def delete(pk):
            with transaction.atomic():
                calls.execute("DELETE FROM library_book WHERE id = %s", [pk])
                calls.execute("SELECT 1")

        def refer(pk):
            calls.execute(
                "INSERT INTO library_reader_borrowed (reader_id, book_id)"
                " VALUES (%s, %s)",
                [reader.pk, pk],
            )

        execution = self.execute(
            "ab", partial(delete, self.book.pk), partial(refer, self.book.pk)
        )
        self.assertIn("<waiting for s1>", self.texts(execution, "s2"))

    def test_deadlock(self):
        def call(*pks):
            if may_hasten:  # that the server would find it in the end does not count
                calls.execute("SET deadlock_timeout = '1h'")
            calls.lend_both(*pks)

        may_hasten = get_database(connection).may_hasten_deadlocks()
        pks = [self.book.pk, self.other_book.pk]
        execution = self.execute(
            "ababab" if may_hasten else "abab",
            partial(call, *pks),
            partial(call, *pks[::-1]),
        )
        if may_hasten:  # the victim is who closes the circle
            self.assertIsNone(execution.results[0])
        [victim] = [result for result in execution.results if result is not None]
        self.assertIsInstance(victim.original, OperationalError)
        self.assertIn("deadlock", str(execution.history))

    @on_postgresql
    def test_a_deadlock_of_commits(self):
        """A key that is deferred locks the row that it refers to at the COMMIT."""
        genres = [Genre.objects.create(name=name) for name in "ab"]

        @transaction.atomic
        def call(locked, referred_to):
            Genre.objects.select_for_update().get(pk=locked.pk)
            Book.objects.create(title="new", genre_id=referred_to.pk)

        # The last one to wait is the victim, and not the first, as it usually is.
        execution = self.execute(
            "a2b2ab", partial(call, *genres), partial(call, *reversed(genres))
        )
        if get_database(connection).may_hasten_deadlocks():
            self.assertIsNone(execution.results[0])
        [victim] = [result for result in execution.results if result is not None]
        self.assertIn("deadlock", str(victim.original))

    def test_lock_timeouts_of_the_code(self):
        def call():
            with transaction.atomic():
                calls.execute("SET LOCAL lock_timeout = '60s'")
                calls.lend_f(self.book.pk)

        def hold():
            with transaction.atomic():
                calls.lend_f(self.book.pk)
                calls.execute("SELECT 1")

        execution = self.execute("ab2a", hold, call)
        self.assertEqual(execution.results, [None, None])

    def test_isolation_levels(self):
        def call():
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SHOW transaction_isolation")
                return cursor.fetchone()[0]

        for level in ("REPEATABLE READ", "serializable"):
            execution = self.execute("", call, isolation_level=level)
            self.assertEqual(execution.results, [level.lower()])
        with self.assertRaisesRegex(DatabaseNotSupported, "is not one of"):
            self.execute("", call, isolation_level="SNAPSHOT")

    def test_circles(self):
        self.assertFalse(has_circle({}))
        self.assertFalse(has_circle({1: frozenset([2]), 2: frozenset([3])}))
        self.assertTrue(has_circle({1: frozenset([2]), 2: frozenset([1])}))


class BoundTests(EngineTestCase):
    def execute_impatiently(self, schedule, *targets):
        """Execute with a limit of 0.5 s for what the last choice leads to."""
        scheduler = ReplayScheduler(schedule)
        scheduler.begin()
        left = len(schedule)

        def choose(choice):
            nonlocal left
            left -= 1
            if not left:
                limit = override_settings(TXTEST_STEP_TIMEOUT=0.5)
                limit.enable()
                self.addCleanup(limit.disable)
            return scheduler.choose(choice)

        with Engine(parse_sessions(targets), ["default"]) as engine:
            engine.execute(choose)

    def test_a_lock_of_python(self):
        lock = threading.Lock()

        def call():
            with lock:
                calls.lend_f(self.book.pk)
                calls.lend_f(self.book.pk)

        with self.assertRaises(SessionStuck) as caught:
            self.execute_impatiently("ab", call, call)
        message = "Session s2 did not come back from a step within 0.5 s"
        self.assertIn(message, str(caught.exception))
        self.assertIn("with lock:", str(caught.exception))

    def test_a_loop_without_sql(self):
        def call():
            calls.lend_f(self.book.pk)
            calls.lend_f(self.book.pk)
            while True:
                pass

        with self.assertRaisesRegex(SessionStuck, "in call"):
            self.execute_impatiently("aa", call)

    def test_a_loop_with_sql(self):
        def call():
            while True:
                try:
                    with transaction.atomic():
                        calls.lend_f(self.book.pk)
                        raise ValueError
                except ValueError:
                    pass

        with self.assertRaisesRegex(TooManySteps, r"more than 50 steps[\s\S]*calls.py"):
            self.execute("a", call, max_steps=50)
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 5)

    @on_postgresql
    def test_a_statement_without_end(self):
        def call():
            with transaction.atomic():
                calls.lend_f(self.book.pk)
                calls.execute("SELECT pg_sleep(100)")

        with self.assertRaisesRegex(SessionStuck, "in execute"):
            self.execute_impatiently("aa", call)

    def test_an_error_of_the_scheduler(self):
        def choose(choice):
            if len(choice.history) > 3:
                raise ZeroDivisionError
            return choice.runnable[0]

        lend = partial(calls.lend, self.book.pk)
        sessions = parse_sessions([lend, lend])
        with (
            self.assertRaises(ZeroDivisionError),
            Engine(sessions, ["default"]) as engine,
        ):
            engine.execute(choose)

    def test_ctrl_c(self):
        count = iter(range(9))

        def choose(choice):
            if next(count) == 3:
                raise KeyboardInterrupt
            return choice.runnable[0]

        lend = partial(calls.lend_both, self.book.pk, self.other_book.pk)
        engine = Engine(parse_sessions([lend, lend]), ["default"])
        with self.assertRaises(KeyboardInterrupt), engine:
            engine.execute(choose)
        self.book.refresh_from_db()
        self.assertIn(self.book.copies, [4, 5])

    def test_ctrl_c_while_a_step_is_made(self):
        begun = threading.Event()

        def call():
            calls.lend_f(self.book.pk)
            begun.set()
            while True:
                time.sleep(0.01)

        def interrupt():
            if begun.wait(60):
                os.kill(os.getpid(), signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        thread = threading.Thread(target=interrupt)
        engine = Engine(parse_sessions([call]), ["default"])
        with self.assertRaises(KeyboardInterrupt), engine:
            thread.start()
            engine.execute(lambda choice: choice.runnable[0])
        thread.join()


class NamingTests(unittest.TestCase):
    def test_descriptions(self):
        session = Session("a", partial(calls.lend, 1), 2, x="y")
        self.assertEqual(session.description, "lend(1, 2, x='y')")
        self.assertEqual(repr(session), "<session a: lend(1, 2, x='y')>")
        session = Session("a", "tests.scheduler.calls:lend", 1)
        self.assertEqual(session.description, "lend(1)")
        session = Session("a", calls.lend, "x" * 1000)
        self.assertLess(len(session.description), 110)

    def test_refusals(self):
        for wrong in ([], [int, Session("s1", int)], [1], [int] * 53):
            with self.assertRaises(InvalidCall):
                parse_sessions(wrong)
        for arguments in (("", int), (1, int), ("a", 1), ("a", "no.such:name")):
            with self.assertRaises(InvalidCall):
                Session(*arguments)


class SQLiteTests(EngineTestCase):
    """SQLite has no queue for locks: a session tries again when another has moved."""

    def setUp(self):
        if connection.vendor != "sqlite":
            self.skipTest("the test is about SQLite")

    def test_writers_wait_for_a_commit(self):
        lend = partial(calls.lend_both, self.book.pk, self.other_book.pk)
        execution = self.execute("a2b2a", lend, lend)
        texts = self.texts(execution, "s2")
        self.assertEqual(
            [text.partition(" ")[0] for text in texts],
            [
                "begins",
                "BEGIN",
                "UPDATE",
                "<waiting",
                "<goes",
                "UPDATE",
                "COMMIT",
                "returns",
            ],
        )
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 3)

    def test_a_commit_waits_for_readers(self):
        @transaction.atomic
        def read():
            Book.objects.count()
            Book.objects.count()

        lend = partial(calls.lend_both, self.book.pk)
        execution = self.execute("a2b3a", read, lend)
        texts = self.texts(execution, "s2")
        self.assertEqual(
            texts[-4:],
            ["COMMIT", "<waiting for a lock>", "<goes on>", "returns None"],
        )

    def test_who_has_read_is_refused_at_once(self):
        lend = partial(calls.lend_atomic, self.book.pk)
        execution = self.execute("a3b3", lend, lend)
        self.assertIsNone(execution.results[0])
        self.assertIn("database is locked", str(execution.results[1]))
        self.assertNotIn("<waiting for a lock>", self.texts(execution, "s2"))

from __future__ import annotations

import contextlib
import io
import itertools
import unittest
import warnings
from functools import partial
from traceback import walk_tb
from unittest import mock

from django.core import mail
from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse
from django.test import Client, TestCase, override_settings
from django.urls import path

from django_txtest import (
    DfsScheduler,
    DporScheduler,
    ExplorationCutShort,
    History,
    InterleavingFailed,
    NoAtomicMixin,
    NotDeterministic,
    PctScheduler,
    RaceAssertionsMixin,
    RandomScheduler,
    Schedule,
    Session,
    TxTestCase,
    explore,
    replay,
)
from django_txtest.exceptions import (
    AtomicBlockError,
    DatabaseNotSupported,
    InvalidCall,
    InvalidSchedule,
    ResetNotPossible,
)
from django_txtest.scheduler import api, progress
from django_txtest.scheduler.exploration import DefaultCount, DefaultSeconds
from tests.library.models import Book, Reader
from tests.scheduler import calls
from tests.utils import GoldenMixin, explores, on_postgresql


def lend_view(request, pk):
    calls.lend(pk)
    return HttpResponse("lent")


urlpatterns = [path("lend/<int:pk>", lend_view)]


@explores
class ApiTestCase(TxTestCase):
    lend = staticmethod(partial(calls.lend, 1000))
    fixed = staticmethod(partial(calls.lend_f, 1000))

    @classmethod
    def setUpTestData(cls):
        # Of a key that is the same in every run, for the golden files.
        cls.book = Book.objects.create(pk=1000, title="a", copies=5)


class VerdictTests(ApiTestCase):
    def test_failures(self):
        exploration = explore(self.lend, Session("ann", calls.lend, 1000))
        self.assertFalse(exploration.exhausted)
        self.assertEqual(len(exploration.failures), 1)
        self.assertIs(exploration.failure, exploration.failures[0])
        with self.assertRaises(InterleavingFailed) as caught:
            exploration.raise_if_failed()
        self.assertIsInstance(caught.exception, AssertionError)
        text = str(caught.exception)
        self.assertIn("No serial order", text)
        self.assertIn("library_book id=1000: copies is", text)
        self.assertIn("Session('ann', lend, 1000)).raise_if_failed()", text)
        self.assertEqual(exploration.failure.results, [None, None])
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 5)

    def test_what_pytest_shows_of_a_failure(self):
        """The line of the test, and none of what is behind it."""
        for fail in (
            partial(self.assertSerializable, self.lend, self.lend),
            partial(self.assertInvariant, lambda results: False, self.lend, self.lend),
            explore(self.lend, self.lend).raise_if_failed,
        ):
            with self.subTest(fail=fail):
                try:
                    fail()
                except InterleavingFailed as error:
                    frames = [each for each, _ in walk_tb(error.__traceback__)]
                shown = [f for f in frames if "__tracebackhide__" not in f.f_locals]
                self.assertEqual([f.f_code.co_filename for f in shown], [__file__])
                self.assertGreater(len(frames), len(shown))

    def test_representations(self):
        exploration = explore(Session("ann", self.lend), self.lend)
        self.assertEqual(
            repr(exploration),
            f"<Exploration: executions={exploration.executions}, failures=1>",
        )
        self.assertRegex(repr(exploration.failure), r"^<Failure of \w+: No serial .+>$")
        history = replay("a2b", Session("ann", calls.lend, 1000), int).history
        self.assertRegex(repr(history), "^<History of [0-9]+ events by ann, s2>$")
        self.assertEqual(repr(History()), "<History of 0 events>")
        self.assertIn("failures=0", repr(explore(self.fixed)))

    def test_all_failures(self):
        others = [lambda: self.lend(), lambda: self.lend()]
        exploration = explore(*others, stop_on_first=False)
        self.assertTrue(exploration.exhausted)
        failures = len(exploration.failures)
        self.assertGreater(failures, 1)
        self.assertIn(f"first of {failures}", str(exploration))

    def test_failures_of_identical_calls(self):
        exploration = explore(self.lend, self.lend, stop_on_first=False)
        self.assertTrue(exploration.exhausted)
        self.assertEqual((exploration.executions, len(exploration.failures)), (2, 1))

    def test_proofs(self):
        exploration = explore(self.fixed, self.fixed)
        exploration.raise_if_failed()
        self.assertTrue(exploration.exhausted)
        self.assertIsNone(exploration.failure)
        self.assertEqual(
            str(exploration),
            "No failure in 1 execution, and no other order can differ.",
        )

    def test_limits_that_nobody_asked_for(self):
        for default in (
            {"max_executions": DefaultCount(2)},
            {"max_time": DefaultSeconds(0)},
        ):
            targets = [self.fixed] * 3
            exploration = explore(*targets, scheduler=DfsScheduler(), **default)
            self.assertFalse(exploration.exhausted)
            self.assertTrue(exploration.was_cut_short)
            [name] = default
            with self.assertRaisesRegex(ExplorationCutShort, f"Raise {name} to"):
                exploration.raise_if_failed()
        self.assertIsInstance(api.MAX_EXECUTIONS, DefaultCount)
        self.assertIsInstance(api.MAX_TIME, DefaultSeconds)

    def test_limits_of_the_caller(self):
        def lend_twice():
            self.fixed()
            self.fixed()

        for options, told in (
            ({"max_executions": 2}, "limit of 2 executions"),
            ({"max_time": 0.0}, "limit of 0 s"),
            ({"preemption_bound": 0}, "bound of 0 preemptions"),
            ({"scheduler": RandomScheduler(1, 3)}, "choice of RandomScheduler"),
        ):
            with self.subTest(told):
                exploration = explore(self.fixed, lend_twice, **options)
                exploration.raise_if_failed()
                self.assertFalse(exploration.exhausted)
                self.assertIn(told, str(exploration))

    def test_a_bound_of_a_reduced_search(self):
        with self.assertRaisesRegex(InvalidCall, "Pass preemption_bound alone"):
            explore(
                self.fixed,
                self.fixed,
                scheduler=DporScheduler(),
                preemption_bound=2,
            )

    def test_a_bound_that_leaves_nothing_out(self):
        self.assertTrue(explore(self.fixed, self.fixed, preemption_bound=0).exhausted)

    def test_other_schedulers_find_it(self):
        for scheduler in (RandomScheduler(1, 50), PctScheduler(2, 1, 50)):
            exploration = explore(self.lend, self.lend, scheduler=scheduler)
            self.assertIsNotNone(exploration.failure)

    def test_invariants(self):
        seen = []

        def invariant(results):
            seen.append(list(results))
            self.assertEqual(Book.objects.get(pk=1000).copies, 3)

        exploration = explore(self.lend, self.lend, invariant=invariant)
        self.assertIn("AssertionError", repr(exploration.failure.error))
        self.assertIn("!= 3", str(exploration))
        self.assertEqual(seen[0], [None, None])
        self.assertIn("invariant=invariant", str(exploration))

    def test_errors_of_calls(self):
        def call():
            raise ValueError("no")

        explore(call, self.fixed).raise_if_failed()
        exploration = explore(call, self.fixed, invariant=bool)
        self.assertIn("session s1 raised ValueError: no", str(exploration))
        explore(call, invariant=bool, allow=(ValueError,)).raise_if_failed()

    def test_calls_that_do_nothing_but_raise(self):
        fails = partial(calls.lend, 1)
        with self.assertWarnsRegex(RuntimeWarning, "s2 raises DoesNotExist.*allow="):
            self.assertTrue(explore(fails, fails).exhausted)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            explore(fails, fails, allow=(Book.DoesNotExist,))
            explore(fails, partial(calls.lend, 1000))

    def test_replay(self):
        failure = explore(self.lend, self.lend).failure
        for schedule in (failure.schedule, failure.schedule.encode()):
            exploration = replay(schedule, self.lend, self.lend)
            self.assertEqual(exploration.executions, 1)
            self.assertEqual(exploration.failure.schedule, failure.schedule)
            self.assertEqual(str(exploration.failure), str(failure))
        replay(Schedule.decode("a2b2"), self.lend, self.lend).raise_if_failed()
        with self.assertRaisesRegex(InvalidSchedule, "session b cannot go on"):
            replay("b9", self.lend, self.lend)
        with self.assertRaisesRegex(
            InvalidSchedule, r"has 'c', and the sessions are a \(ann\) and b \(s2\)\."
        ):
            replay("abc", Session("ann", self.lend), self.lend)

    def test_progress(self):
        counts = []
        explore(
            self.fixed,
            self.fixed,
            scheduler=DfsScheduler(),
            progress=lambda exploration: counts.append(exploration.executions),
        )
        self.assertEqual(counts, [1, 2])

    def test_the_line_on_a_terminal(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        for stream in (Terminal(), io.StringIO()):
            with (
                mock.patch.object(progress, "AFTER", 0),
                mock.patch.object(progress, "EVERY", 0),
                contextlib.redirect_stderr(stream),
            ):
                explore(self.fixed, self.fixed)
            lines = stream.getvalue().split("\r\x1b[K")
            if stream.isatty():
                told = r"^\d+ s: 1 executions, \d+ in a second, up to 2 steps each$"
                self.assertRegex(lines[1], told)
                self.assertEqual(lines[-1], "")
            else:
                self.assertEqual(lines, [""])

    def test_assertions(self):
        self.assertTrue(self.assertSerializable(self.fixed, self.fixed).exhausted)
        with self.assertRaises(InterleavingFailed):
            self.assertSerializable(self.lend, self.lend)
        with self.assertRaisesRegex(InterleavingFailed, "invariant <lambda> does not"):
            self.assertInvariant(lambda results: False, self.lend)

    def test_code_that_is_not_deterministic(self):
        answers = iter([False])
        with self.assertRaisesRegex(NotDeterministic, "it did not. The calls are not"):
            explore(self.fixed, invariant=lambda results: next(answers, True))

    def test_serial_orders_that_come_to_something_else_later(self):
        numbers = itertools.count()
        message = "one after the other again, and s1 returns 1; there it returns 0"
        with self.assertRaisesRegex(NotDeterministic, message):
            explore(lambda: min(next(numbers), 1))

    def test_results_that_differ_each_time(self):
        numbers = itertools.count()
        message = (
            r"s1 returns \d+; there it returns \d+ \(where there is the first time"
        )
        with self.assertRaisesRegex(NotDeterministic, message):
            self.assertSerializable(lambda: next(numbers), lambda: None)

    def test_refusals(self):
        with self.assertRaisesRegex(InvalidCall, "too many serial orders"):
            explore(*[int] * 7)
        explore(*[int] * 7, invariant=lambda results: True, max_executions=3)
        with self.assertRaisesRegex(InvalidCall, "may not use"):
            explore(int, databases=["other"])
        with transaction.atomic(), self.assertRaises(AtomicBlockError):
            explore(int)

    def test_names_of_sessions_as_options(self):
        for explored in (explore, self.assertSerializable, partial(replay, "ab")):
            with self.assertRaisesRegex(
                InvalidCall, r"no option 'ada'\. .* write Session\('ada', target, "
            ):
                explored(ada=self.lend, bob=self.lend)
        with self.assertRaisesRegex(InvalidCall, "Is 'max_executions' meant"):
            explore(int, max_execution=3)
        with self.assertRaisesRegex(InvalidCall, "'xyzzy'. The options are invariant"):
            explore(int, xyzzy=3)

    def test_calls_with_arguments_as_tuples(self):
        lend = (calls.lend, (1000,), {})
        for call in (lend, list(lend), (calls.lend, {"pk": 1000})):
            with self.assertRaisesRegex(
                InvalidCall, r"Call 2 is a .* partial\(target, .* Session\('ada', "
            ):
                explore(self.lend, call)


class WhatIsRunTests(ApiTestCase):
    @override_settings(ROOT_URLCONF=__name__)
    def test_views(self):
        def call():
            return Client().get("/lend/1000")

        with self.assertRaisesRegex(InterleavingFailed, "in lend"):
            self.assertSerializable(call, call)

    def test_async_calls(self):
        async def call():
            book = await Book.objects.aget(pk=1000)
            await Book.objects.filter(pk=1000).aupdate(copies=book.copies - 1)

        with self.assertRaisesRegex(InterleavingFailed, "copies is 4; there it is 3"):
            self.assertSerializable(call, call)

    def test_mails(self):
        def call():
            with transaction.atomic():
                calls.lend_f(1000)
                transaction.on_commit(
                    lambda: mail.send_mail("s", "m", "a@b.c", ["d@e.f"])
                )

        mail.send_mail("before", "m", "a@b.c", ["d@e.f"])
        self.assertInvariant(lambda results: len(mail.outbox) == 3, call, call)
        self.assertEqual(len(mail.outbox), 1)

    def test_results_are_compared_by_what_they_are(self):
        class Thing:
            def __init__(self, value):
                self.value = value
                self.itself = self

        def call(name):
            reader = Reader.objects.create(name=name)
            return {
                "made": [reader, reader.pk],
                (1, 2): 3,
                reader.pk: 4,
                "thing": Thing(name),
                "nan": float("nan"),
                "f": lambda: 1,
            }

        self.assertSerializable(partial(call, "x"), partial(call, "y"))

    def test_results_that_look_alike(self):
        def lend():
            calls.lend(1000)
            return Book.objects.get(pk=1000)

        self.assertRegex(
            str(explore(lend, lend).failure),
            r"returns <Book: a> copies=(\d); there it returns <Book: a> copies=(?!\1)",
        )

        def names():
            return ["a", "b"] if lend().copies == 4 else ["b", "a"]

        self.assertIn("only the order differs", str(explore(names, names).failure))

        def view():
            return HttpResponse(f"{lend().copies} left")

        self.assertRegex(
            str(explore(view, view).failure),
            r"content=b'(\d) left'; there it .* content=b'(?!\1)",
        )

    def test_rows_that_refer_to_new_ones(self):
        def call(title):
            book = Book.objects.create(title=title, copies=1)
            other = Book.objects.create(title=title, sequel_to=book)
            reader = Reader.objects.create(name=title, favourite=other)
            reader.borrowed.add(book)

        exploration = self.assertSerializable(
            partial(call, "x"), partial(call, "y"), preemption_bound=1
        )
        self.assertGreater(exploration.executions, 5)

    def test_columns_to_ignore(self):
        options = {"max_executions": 50}
        for ignore in (["copies"], ["library_book.copies"]):
            self.assertSerializable(self.lend, self.lend, ignore=ignore, **options)
        with self.assertRaises(InterleavingFailed):
            self.assertSerializable(self.lend, self.lend, ignore=["title"], **options)

    def test_columns_to_ignore_that_are_not_there(self):
        def call():
            called.append(1)

        called = []
        for ignore, near in (
            (["copies", "copeis"], "'copeis', .* Near to it: copies"),
            ({"book.copies"}, "'book.copies', .* Near to it: library_book.copies"),
            (["library_book.copeis"], "Near to it: library_book.copies"),
            (["library_reader.copies"], "no column has this name"),
            (["Copies"], "'Copies', .* Near to it: copies"),
            (["genre"], "'genre', .* Near to it: genre_id"),
            (["xyzzy"], "'xyzzy', .* No other is near"),
            ("copies", r"Write ignore=\['copies'\]"),
        ):
            for invariant in (None, bool):
                with (
                    self.subTest(ignore=ignore),
                    self.assertRaisesRegex(InvalidCall, near),
                ):
                    explore(call, ignore=ignore, invariant=invariant)
        self.assertEqual(called, [])

    def test_columns_to_ignore_of_other_tables(self):
        """Those of no model, and those whose tables are not written to."""
        with connection.cursor() as cursor:
            cursor.execute('CREATE TABLE "no_model" ("Mixed" integer)')
        for ignore in (["Mixed"], ["no_model.Mixed"], ["library_loan.reader"]):
            explore(int, ignore=ignore).raise_if_failed()

    def test_rows_before_the_call_are_the_start(self):
        Book.objects.filter(pk=1000).update(copies=50)
        exploration = explore(
            self.fixed,
            invariant=lambda results: Book.objects.get(pk=1000).copies == 49,
        )
        exploration.raise_if_failed()
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 50)


@explores
class SeveralDatabasesTests(TxTestCase):
    databases = ("default", "other")

    @classmethod
    def setUpTestData(cls):
        for alias in cls.databases:
            Book.objects.using(alias).create(pk=1000, title="a", copies=5)

    def call(self):
        book = Book.objects.using("other").get(pk=1000)
        calls.lend_f(1000)
        Book.objects.using("other").filter(pk=1000).update(copies=book.copies - 1)

    def test_steps_on_each(self):
        with self.assertRaisesRegex(InterleavingFailed, r"\[other\] UPDATE"):
            self.assertSerializable(self.call, self.call)

    @on_postgresql
    def test_locks_of_one_that_is_not_explored(self):
        def call():
            with transaction.atomic("other"):
                Book.objects.using("other").update(copies=1)
                calls.lend_f(1000)

        self.assertSerializable(call, call, databases=["default"])

    def test_one_of_them(self):
        self.assertSerializable(self.call, self.call, databases=["default"])


class ElsewhereTests(RaceAssertionsMixin, TestCase):
    def test_within_a_transaction(self):
        with self.assertRaises(AtomicBlockError):
            self.assertSerializable(int)


@unittest.skipUnless(connection.vendor == "mysql", "the test is about MariaDB")
class MariaDBTests(TxTestCase):
    def test_no_exploration(self):
        with self.assertRaisesRegex(DatabaseNotSupported, "'default': on mysql"):
            explore(int)


class GoldenTests(GoldenMixin, ApiTestCase):
    """What a failure prints, to the letter, but for where its picture is."""

    @on_postgresql
    def test_lost_update(self):
        exploration = explore(
            Session("alice", calls.lend, 1000),
            Session("bob", calls.lend, 1000),
            scheduler=DfsScheduler(),
        )
        self.assertPrinted("lost_update.txt", exploration)

    @on_postgresql
    def test_waiting(self):
        lend = partial(calls.lend_atomic, 1000)
        both = Session("alice", lend), Session("bob", lend)
        exploration = explore(*both, scheduler=DfsScheduler())
        self.assertPrinted("lost_update_in_transactions.txt", exploration)


@explores
class ResetTests(NoAtomicMixin, TestCase):
    def test_without_a_way_back(self):
        layers = type(self)._layers
        type(self)._layers = None
        try:
            with self.assertRaisesRegex(ResetNotPossible, "NoAtomicMixin first"):
                explore(int)
        finally:
            type(self)._layers = layers

    def test_what_a_setup_raises(self):
        def setup():
            raise DatabaseError("no")

        with self.assertRaisesRegex(DatabaseError, "no"):
            explore(int, setup=setup)

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import io
import math
import os
import re
import threading
import unittest
import uuid
from functools import partial
from unittest import mock

from django.core import mail
from django.db import OperationalError
from django.test import override_settings

from django_txtest import (
    DfsScheduler,
    InterleavingFailed,
    ReplayScheduler,
    Session,
    TxTestCase,
    explore,
)
from django_txtest.history import Event, History, Kind, Place
from django_txtest.scheduler.oracle import _told_rows
from django_txtest.scheduler.source import Writer
from django_txtest.timeline.transcript import for_terminal, render
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.utils import GoldenMixin, explores, on_postgresql


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Size(enum.Enum):
    SMALL = 1


class Marks(enum.Flag):
    TORN = 1
    WET = 2


class Shelf:
    @classmethod
    def lend(cls, pk):
        calls.lend(pk)

    @staticmethod
    def take(pk):
        calls.lend(pk)


def lend(pk):
    """Has the name of another one."""
    calls.lend(pk)


def two_are_lent(results):
    return Book.objects.get(pk=1000).copies == 3


def take(book, *, count=1):
    Book.objects.filter(pk=book.pk).update(
        copies=Book.objects.get(pk=book.pk).copies - count
    )


class ReportTestCase(GoldenMixin, TxTestCase):
    @classmethod
    def setUpTestData(cls):
        # Of a key that is the same in every run, for the golden files.
        cls.book = Book.objects.create(pk=1000, title="a", copies=5)


@explores
class NearestSerialOrderTests(ReportTestCase):
    """What is said of an invariant that does not hold."""

    lend = staticmethod(partial(calls.lend, 1000))

    def test_what_differs(self):
        exploration = explore(self.lend, self.lend, invariant=two_are_lent)
        self.assertIn(
            "The invariant two_are_lent does not hold.\n"
            "What is different after s1, then s2, where it holds:\n"
            "  library_book id=1000: copies is 4; there it is 3\n",
            str(exploration),
        )
        self.assertEqual(Book.objects.get(pk=1000).copies, 5)

    @on_postgresql
    def test_the_whole_report(self):
        lend = partial(calls.lend, 1000)
        exploration = explore(
            Session("alice", lend), Session("bob", lend), invariant=two_are_lent
        )
        self.assertPrinted("broken_invariant.txt", exploration)

    def test_results_that_differ(self):
        target = partial(calls.lend_by_check, 1000)
        Book.objects.update(copies=1)
        exploration = explore(
            target, target, invariant=lambda results: results.count("lent") == 1
        )
        self.assertRegex(
            str(exploration), "s. returns 'lent'; there it returns 'none left'"
        )

    def test_all_failures(self):
        exploration = explore(
            self.lend,
            lambda: self.lend(),  # else it is enough to try one of both
            invariant=two_are_lent,
            stop_on_first=False,
        )
        self.assertTrue(exploration.exhausted)
        self.assertGreater(len(exploration.failures), 1)
        for failure in exploration.failures:
            self.assertIn("copies is 4; there it is 3", failure.comparison)

    def test_every_serial_order_fails(self):
        exploration = explore(
            self.lend,
            partial(calls.lend_f, 1000),
            invariant=lambda results: Book.objects.get(pk=1000).copies == 5,
        )
        self.assertIn(
            "The invariant <lambda> does not hold.\n"
            "Every serial order of the calls fails, too, so it is no race. What is "
            "wrong after s1, then s2:\n"
            "  The invariant <lambda> does not hold.\n",
            str(exploration),
        )

    def test_what_a_call_raises_in_every_order(self):
        def call():
            raise ValueError("no")

        exploration = explore(call, self.lend, invariant=bool)
        self.assertIn("wrong after s1, then s2:\n  CallError", str(exploration))

    def test_one_serial_order_fails(self):
        """An order in which it holds is the one to compare with."""

        def check():
            return Book.objects.get(pk=1000).copies

        exploration = explore(
            self.lend, check, invariant=lambda results: results[1] == 5
        )
        self.assertIn("different after s2, then s1, where it holds", str(exploration))
        self.assertIn("s2 returns 4; there it returns 5", str(exploration))
        self.assertIn("It fails, too, after s1, then s2.", str(exploration))

    def test_what_is_not_in_the_databases(self):
        def one_mail(results):
            return len(mail.outbox) == 1

        def call():
            calls.execute("SELECT 1")
            is_empty = not mail.outbox
            Book.objects.filter(pk=1000).update(title="mailed")
            if is_empty:
                mail.outbox.append("mail")

        exploration = explore(call, call, invariant=one_mail, scheduler=DfsScheduler())
        self.assertIn("Results and rows are those of s1, then s2", str(exploration))
        self.assertIn("what differs is not in the databases", str(exploration))

    @override_settings(TXTEST_STEP_TIMEOUT=0.5)
    def test_serial_orders_that_cannot_be_made(self):
        ready = threading.Event()

        def produce():
            calls.execute("SELECT 1")
            calls.execute("SELECT 2")
            ready.set()

        def consume():
            calls.execute("SELECT 3")
            calls.execute("SELECT 4")
            while not ready.wait(0.01):
                pass

        exploration = explore(
            consume,
            produce,
            setup=ready.clear,
            invariant=lambda results: False,
            scheduler=ReplayScheduler("ab2a"),
            stop_on_first=False,
        )
        self.assertIn("to compare with, cannot be made: Session s1", str(exploration))
        self.assertEqual(exploration.executions, 1)

    def test_too_many_sessions(self):
        exploration = explore(
            *[int] * 7, invariant=lambda results: False, max_executions=1
        )
        self.assertEqual(exploration.failure.comparison, "")


class RowsTests(unittest.TestCase):
    def test_in_whatever_order_they_are_read(self):
        mine = [{"id": str(n), "copies": "4"} for n in (2, 1, 3)]
        its = [{"id": str(n), "copies": "3"} for n in (1, 4, 2)]
        for more, less in ((mine, its), (mine[::-1], its[::-1])):
            self.assertEqual(
                _told_rows("book", "id", more, less),
                [
                    "book id=1: copies is 4; there it is 3",
                    "book id=2: copies is 4; there it is 3",
                    "book has this row, and has it not there: id=3, copies=4",
                    "book has not this row, and has it there: id=4, copies=3",
                ],
            )


@explores
class ReplayCodeTests(ReportTestCase):
    """The code that a failure prints makes its execution again, where it is pasted."""

    def assertReplays(self, *targets, code=None, **options):
        failure = explore(*targets, **options).failure
        if code is not None:
            code = code.replace("SCHEDULE", failure.schedule.encode())
            self.assertEqual(failure.replay.splitlines()[-1], code)
        self.assertEqual(failure.unwritten, ())
        # Only what a test method has is there: self, and functions of its own.
        names = {"self": self, **self.local}
        with self.assertRaises(InterleavingFailed) as caught:
            exec(failure.replay, names)
        again = str(caught.exception).partition("\n")[2]
        self.assertEqual(again, str(failure))
        return failure

    def setUp(self):
        self.local = {}

    def lend(self, pk):
        calls.lend(pk)

    def test_partials(self):
        target = partial(calls.lend, 1000)
        self.assertReplays(target, partial(target))
        failure = self.assertReplays(target, target)
        self.assertEqual(
            failure.replay,
            "from functools import partial\n"
            "from django_txtest import replay\n"
            "from tests.scheduler.calls import lend\n"
            f"replay('{failure.schedule}', partial(lend, 1000), partial(lend, 1000))"
            ".raise_if_failed()",
        )

    def test_sessions(self):
        self.assertReplays(
            Session("ann", calls.lend, 1000),
            Session("bob", "tests.scheduler.calls:lend", pk=1000),
            code="replay('SCHEDULE', Session('ann', lend, 1000), Session('bob', "
            "'tests.scheduler.calls:lend', pk=1000)).raise_if_failed()",
        )

    def test_methods_of_the_test(self):
        self.assertReplays(
            Session("ann", self.lend, 1000),
            partial(self.lend, 1000),
            code="replay('SCHEDULE', Session('ann', self.lend, 1000), "
            "partial(self.lend, 1000)).raise_if_failed()",
        )

    def test_functions_of_the_test(self):
        def call():
            calls.lend(1000)

        self.local = {"call": call}
        self.assertReplays(call, call)

    def test_methods_of_classes(self):
        self.assertReplays(partial(Shelf.lend, 1000), partial(Shelf.take, 1000))

    def test_two_of_one_name(self):
        failure = self.assertReplays(partial(calls.lend, 1000), partial(lend, 1000))
        self.assertIn("import tests.scheduler.test_reports", failure.replay)

    def test_model_instances(self):
        target = partial(take, self.book, count=1)
        failure = self.assertReplays(target, target)
        self.assertIn("partial(take, Book.objects.get(pk=1000), count=1)", str(failure))

    def test_methods_of_instances_and_managers(self):
        save = self.book.save
        self.assertReplays(save, save, invariant=two_are_lent)
        create = partial(Genre.objects.create, name="x")
        failure = self.assertReplays(create, create, invariant=two_are_lent)
        self.assertIn("partial(Genre.objects.create, name='x')", failure.replay)

    def test_options(self):
        target = partial(calls.lend_atomic, 1000)
        self.assertReplays(
            target,
            target,
            invariant=two_are_lent,
            allow=(OperationalError,),
            setup=partial(Book.objects.update, title="b"),
            ignore={"title"},
            databases=["default"],
            max_steps=50,
        )

    @on_postgresql
    def test_isolation_level(self):
        target = partial(calls.leave_shelf, 1000)
        other = Book.objects.create(pk=1001, title="b")
        failure = self.assertReplays(
            target,
            partial(calls.leave_shelf, other.pk),
            isolation_level="REPEATABLE READ",
        )
        self.assertIn("isolation_level='REPEATABLE READ'", failure.replay)

    def test_lambdas(self):
        """They cannot be written, and it is said what to do."""

        def explore_them(**options):
            return explore(
                lambda: calls.lend(1000), partial(calls.lend, 1000), **options
            )

        failure = explore_them().failure
        self.assertRegex(failure.replay, r"replay\('\w+', <lambda of line \d+>, part")
        remedy = re.search("add scheduler=(.*) to the call that found", str(failure))
        again = explore_them(scheduler=eval(remedy[1]))
        self.assertEqual(str(again.failure), str(failure))


class WriterTests(ReportTestCase):
    def assertWritten(self, value, expected=None):
        writer = Writer()
        text = writer.write(value)
        if expected is not None:
            self.assertEqual(text, expected)
        names = {}
        exec("\n".join(writer.imports), names)
        self.assertEqual(eval(text, names), value)
        self.assertEqual(writer.unwritten, [])

    def test_values(self):
        for value in (
            None,
            True,
            1,
            -2.5,
            math.inf,
            "a'b",
            b"c",
            [1, "x"],
            (1,),
            (),
            set(),
            {1},
            frozenset({2}),
            frozenset(),
            {"a": [decimal.Decimal("1.50")]},
            datetime.date(2026, 1, 2),
            datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
            datetime.timedelta(days=1),
            uuid.UUID(int=1),
            Size.SMALL,
            Size,
            Marks.WET,
            Marks.TORN | Marks.WET,
            len,
            os.path.join,
            Place("a", 1, "b"),
            Shelf.lend,
            Book.objects,
        ):
            with self.subTest(value=value):
                self.assertWritten(value)

    def test_what_django_shows_otherwise(self):
        self.assertWritten(self.book, "Book.objects.get(pk=1000)")
        self.assertWritten([self.book], "[Book.objects.get(pk=1000)]")

    def test_what_cannot_be_written(self):
        colour = enum.Enum("Colour", ["RED"])
        reader = Reader.objects.create(name="x")
        for value in (
            lambda: 1,
            object(),
            colour.RED,
            Book(title="not saved"),
            threading.Lock(),
            reader.borrowed,
            reader.borrowed.add,
        ):
            with self.subTest(value=value):
                writer = Writer()
                self.assertRegex(writer.write(value), "^<.+>")
                self.assertEqual(len(writer.unwritten), 1)


class TerminalTests(ReportTestCase):
    """What is shown where: colour and columns on terminals only."""

    history = History(
        [
            Event("ann", Kind.STATEMENT, sql="UPDATE a", place=Place("a.py", 1, "f")),
            Event("bob", Kind.STATEMENT, sql="UPDATE a", place=Place("a.py", 1, "f")),
            Event("bob", Kind.WAITS, others=("ann",)),
            Event("ann", Kind.COMMIT),
            Event("bob", Kind.GOES_ON),
            Event("bob", Kind.ERROR, text="OperationalError: no"),
        ]
    )

    def shown(self, stream, environment, layout="auto"):
        names = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM", "COLUMNS", "LINES")
        kept = {k: v for k, v in os.environ.items() if k not in names}
        with (
            mock.patch.dict(os.environ, {**kept, **environment}, clear=True),
            contextlib.redirect_stderr(stream),
        ):
            return for_terminal(self.history, layout)

    def test_elsewhere(self):
        for environment in ({}, {"TERM": "xterm", "COLUMNS": "200"}):
            self.assertEqual(
                self.shown(io.StringIO(), environment), self.history.transcript()
            )

    def test_on_a_narrow_terminal(self):
        text = self.shown(Terminal(), {"TERM": "xterm", "COLUMNS": "80"})
        self.assertIn("\x1b[36mann  \x1b[0mUPDATE a\n", text)
        self.assertIn("\x1b[1;31m  ! OperationalError: no\x1b[0m", text)
        self.assertEqual(re.sub(r"\x1b\[[\d;]*m", "", text), self.history.transcript())

    def test_on_a_wide_terminal(self):
        text = self.shown(Terminal(), {"TERM": "xterm", "COLUMNS": "200"})
        self.assertRegex(text, r"^.*\x1b\[[\d;]+mann .*\x1b\[[\d;]+mbob .*\n")

    def test_without_colour(self):
        for environment in ({"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}):
            text = self.shown(Terminal(), {"COLUMNS": "80", **environment})
            self.assertEqual(text, self.history.transcript())

    def test_layouts(self):
        text = self.shown(io.StringIO(), {}, "columns")
        self.assertEqual(text, render(self.history, in_columns=True, width=120))
        text = self.shown(
            Terminal(), {"TERM": "dumb", "COLUMNS": "200"}, layout="lines"
        )
        self.assertEqual(text, self.history.transcript())

    @explores
    def test_of_an_assertion(self):
        target = partial(calls.lend, 1000)
        for layout, expected in (("auto", False), ("columns", True)):
            with (
                override_settings(TXTEST_TRANSCRIPT=layout),
                contextlib.redirect_stderr(io.StringIO()),
                self.assertRaises(InterleavingFailed) as caught,
            ):
                self.assertSerializable(target, target)
            lines = str(caught.exception).splitlines()
            self.assertEqual(
                any(re.match(r" +s\d +s\d$", each) for each in lines), expected
            )

    @on_postgresql
    def test_side_by_side(self):
        target = partial(calls.lend_atomic, 1000)
        failure = explore(Session("alice", target), Session("bob", target)).failure
        text = render(failure.history, in_columns=True)
        self.assertGolden("side_by_side.txt", text + "\n")

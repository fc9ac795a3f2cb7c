"""The names of what histories show."""

from __future__ import annotations

import unittest
from dataclasses import replace
from functools import partial
from unittest.mock import patch

from django.db import OperationalError, transaction

from django_txtest import Anomaly, DfsScheduler, TxTestCase, explore, replay
from django_txtest.scheduler import anomalies
from django_txtest.scheduler.accesses import Touch
from django_txtest.scheduler.anomalies import NAMES, find_anomaly
from django_txtest.scheduler.footprint import Access, Action, pins
from tests.library.models import Book, Reader
from tests.scheduler import calls
from tests.utils import explores, on_postgresql

X, Y = 1, 2


def write(pk, copies):
    Book.objects.filter(pk=pk).update(copies=copies)


def read(pk):
    return Book.objects.values_list("copies", flat=True).get(pk=pk)


class AnomalyTestCase(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        for pk, title in ((X, "x"), (Y, "y")):
            Book.objects.create(pk=pk, title=title, copies=10)

    def anomaly(self, *targets, **options):
        """Return what is named of the first failure there is."""
        failure = explore(*targets, **options).failure
        self.assertIsNotNone(failure)
        if failure.anomaly is not None:
            self.assertIn(str(failure.anomaly), str(failure))
        return failure.anomaly

    def assertAnomaly(self, code, *targets, **options):
        anomaly = self.anomaly(*targets, **options)
        self.assertIsInstance(anomaly, Anomaly)
        self.assertEqual((anomaly.code, anomaly.name), (code, NAMES[code]), anomaly)
        return anomaly


class OfTransactionsTests(AnomalyTestCase):
    """What READ COMMITTED, or another level, permits."""

    @on_postgresql
    def test_lost_update(self):
        lend = partial(calls.lend_atomic, X)
        anomaly = self.assertAnomaly("P4", lend, lend)
        told = str(anomaly)
        self.assertIn("lost update (P4): ", told)
        self.assertIn("read library_book.copies of row 1 ", told)

    @on_postgresql
    def test_lost_update_of_what_was_found_by_another_column(self):
        @transaction.atomic
        def lend():
            book = Book.objects.only("copies").get(title="x")
            book.copies -= 1
            book.save(update_fields=["copies"])

        self.assertAnomaly("P4", lend, lend)

    @on_postgresql
    def test_read_skew(self):
        @transaction.atomic
        def change():
            write(X, 12)
            write(Y, 8)

        @transaction.atomic
        def look():
            return read(X), read(Y)

        self.assertAnomaly("G-single", change, look)

    @on_postgresql
    def test_predicate_many_preceders(self):
        @transaction.atomic
        def look():
            return [Book.objects.filter(copies=30).count() for _ in range(2)]

        def insert():
            Book.objects.create(pk=3, title="z", copies=30)

        self.assertAnomaly("PMP", insert, look)

    @on_postgresql
    def test_write_skew(self):
        for level in ("READ COMMITTED", "REPEATABLE READ"):
            leave = [partial(calls.leave_shelf, pk) for pk in (X, Y)]
            self.assertAnomaly("G2-item", *leave, isolation_level=level)

    @on_postgresql
    def test_write_skew_by_predicates(self):
        @transaction.atomic
        def call(pk):
            if not Book.objects.filter(copies=30).exists():
                Book.objects.create(pk=pk, title="z", copies=30)

        for level in ("READ COMMITTED", "REPEATABLE READ"):
            targets = [partial(call, pk) for pk in (3, 4)]
            self.assertAnomaly("G2", *targets, isolation_level=level)

    @on_postgresql
    def test_write_skew_of_three(self):
        """Each reads what the next one writes; no two of them are in a circle."""
        Book.objects.create(pk=3, title="z", copies=10)

        @transaction.atomic
        def call(pk, next_pk):
            write(pk, read(next_pk) + 1)

        targets = [partial(call, *pks) for pks in ((X, Y), (Y, 3), (3, X))]
        anomaly = self.assertAnomaly(
            "G2-item", *targets, isolation_level="REPEATABLE READ"
        )
        self.assertEqual(len({each.before.session for each in anomaly.cycle}), 3)

    @on_postgresql
    def test_a_level_that_the_code_sets(self):
        def leave(pk):
            with transaction.atomic():
                calls.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                calls.leave_shelf(pk)

        self.assertAnomaly("G2-item", partial(leave, X), partial(leave, Y))

    @on_postgresql
    def test_what_was_taken_back_does_not_count(self):
        """The write to X looks like half of a circle, and never was."""

        def first():
            with transaction.atomic():
                try:
                    with transaction.atomic():
                        write(X, read(Y))
                        raise ValueError
                except ValueError:
                    pass

        @transaction.atomic
        def second():
            write(Y, read(X) + 1)

        lend = partial(calls.lend_atomic, Y)
        anomaly = self.assertAnomaly("P4", lend, first, lend)
        sessions = {t.session for s in anomaly.cycle for t in (s.before, s.after)}
        self.assertEqual(sessions, {"s1", "s3"})
        self.assertTrue(explore(first, second).exhausted)


@explores
class OfCallsTests(AnomalyTestCase):
    """What calls without transactions show."""

    def test_lost_update(self):
        lend = partial(calls.lend, X)
        anomaly = self.assertAnomaly("P4", lend, lend)
        self.assertRegex(
            str(anomaly),
            r"^lost update \(P4\): (s\d) read library_book.copies of row 1 before "
            r"(s\d) wrote it, and \2 read it before \1 wrote it$",
        )

    def test_lost_update_of_a_whole_row(self):
        def lend():
            book = Book.objects.get(pk=X)
            book.copies -= 1
            book.save()

        anomaly = self.assertAnomaly("P4", lend, lend)
        self.assertIn("read row 1 of library_book before", str(anomaly))

    def test_dirty_write(self):
        def call(copies):
            write(X, copies)
            write(Y, copies)

        self.assertAnomaly("G0", partial(call, 1), partial(call, 2))

    def test_intermediate_read(self):
        def change():
            write(X, 11)
            write(X, 12)

        self.assertAnomaly("G1b", change, partial(read, X))

    def test_circular_information_flow(self):
        def call(mine, other):
            write(mine, 20)
            return read(other)

        self.assertAnomaly("G1c", partial(call, X, Y), partial(call, Y, X))

    def test_observed_transaction_vanishes(self):
        def change():
            write(X, 11)
            write(Y, 11)

        self.assertAnomaly(
            "OTV",
            change,
            lambda: (read(X), read(Y)),
            invariant=lambda results: results[1] != (11, 10),
        )

    def test_phantom(self):
        call = partial(calls.get_or_create_reader, "Ann")
        anomaly = self.assertAnomaly("G2", call, call)
        self.assertIn("library_reader", str(anomaly))
        self.assertEqual(Reader.objects.count(), 0)

    def test_what_is_of_different_rows_does_not_count(self):
        """A failure that has nothing to do with what is read and written."""
        order = []

        def call(pk):
            write(pk, read(pk) + 1)
            order.append(pk)

        def is_in_order(results):
            seen, order[:] = order[:], []
            return seen == [X, Y]

        # It is an order that no database sees, so a reduced search tries only one.
        failure = explore(
            partial(call, X),
            partial(call, Y),
            invariant=is_in_order,
            scheduler=DfsScheduler(),
        ).failure
        self.assertIsNone(failure.anomaly)


class NoneTests(AnomalyTestCase):
    @on_postgresql
    def test_a_deadlock_has_another_name(self):
        both = calls.lend_both
        anomaly = self.anomaly(partial(both, X, Y), partial(both, Y, X))
        self.assertIsNone(anomaly)

    @on_postgresql
    def test_a_refusal_is_none(self):
        lend = partial(calls.lend_atomic, X)
        failure = explore(lend, lend, isolation_level="REPEATABLE READ").failure
        [error] = failure.results.errors
        self.assertIsInstance(error.original, OperationalError)
        self.assertIsNone(failure.anomaly)

    @on_postgresql
    def test_what_is_not_understood_is_none(self):
        def call():
            copies = read(X)
            calls.execute(
                f"DO $$ BEGIN UPDATE library_book SET copies = {copies + 1}; END $$"
            )

        self.assertIsNone(self.anomaly(call, call))


class EdgesTests(AnomalyTestCase):
    @explores
    def test_they_lead_from_event_to_event(self):
        lend = partial(calls.lend, X)
        failure = explore(lend, lend).failure
        self.assertEqual(len(failure.anomaly.edges), 2)
        for edge in failure.anomaly.edges:
            source, target = failure.history[edge.source], failure.history[edge.target]
            self.assertNotEqual(source.session, target.session)
            self.assertIn("SELECT", source.sql)
            self.assertIn("UPDATE", target.sql)
            self.assertEqual(edge.label, "rw library_book.copies of row 1")

    @on_postgresql
    def test_they_are_a_circle_also_where_one_goes_back_in_time(self):
        lend = partial(calls.lend_atomic, X)
        # The second one reads what the first one has written, but not committed.
        failure = replay("b2a2ba", lend, lend).failure
        history = failure.history
        edges = failure.anomaly.edges
        ends = [(history[e.source].session, history[e.target].session) for e in edges]
        self.assertCountEqual(ends, [("s1", "s2"), ("s2", "s1")])
        self.assertCountEqual([e.source < e.target for e in edges], [True, False])
        page = failure.picture.read_text("utf-8")
        self.assertEqual(page.count('class="arrow"'), 2)


class LoopTests(unittest.TestCase):
    """Calls that do the same again and again."""

    def test_loops_are_not_compared_round_by_round(self):
        counts = []
        for rounds in (4, 8):
            with patch.object(anomalies, "_named", wraps=anomalies._named) as named:
                anomaly = find_anomaly(self.touches(rounds))
            self.assertEqual(anomaly.code, "P4")
            counts.append(named.call_count)
        self.assertEqual(counts[0], counts[1])

    def test_what_is_compared_has_a_bound(self):
        with (
            patch.object(anomalies, "MAX_CYCLES", 7),
            patch.object(anomalies, "_named", wraps=anomalies._named) as named,
        ):
            self.assertIsNotNone(find_anomaly(self.touches(5)))
        self.assertEqual(named.call_count, 7)

    def touches(self, rounds):
        """Return what two calls do that count the same row up, in turns."""
        where = pins({"id": frozenset({X})})
        columns = frozenset({"copies"})
        read = Access("library_book", Action.READ, where, columns=columns)
        found = []
        for number in range(rounds):
            after = pins({"copies": frozenset({number})})
            write = replace(read, action=Action.UPDATE, after=after)
            for access in (read, write):
                for session in ("s1", "s2"):
                    index = len(found)
                    touch = Touch(
                        session, "default", index, index, access, commit=index
                    )
                    found.append(touch)
        return found

from __future__ import annotations

import random
import unittest
from functools import partial

from django.db import transaction

from django_txtest import CallError, DfsScheduler, Session, TxTestCase, explore
from django_txtest.history import Kind
from django_txtest.outcomes import Outcome, Results
from django_txtest.scheduler.exchanges import count_exchanges, exchanged, exchanges
from tests.library.models import Book
from tests.scheduler import calls
from tests.scheduler.searches import SearchMixin
from tests.utils import explores


def results_of(*values):
    return Results(
        Outcome(error=CallError(f"session s{n}", value))
        if isinstance(value, Exception)
        else Outcome(value=value)
        for n, value in enumerate(values, start=1)
    )


class ExchangesTests(unittest.TestCase):
    def orders(self, values, twins):
        return list(exchanges(results_of(*values), twins))

    def test_every_other_order_of_what_differs(self):
        self.assertEqual(self.orders("ab", (None, 0)), [[1, 0]])
        self.assertEqual(len(self.orders("abc", (None, 0, 1))), 5)
        self.assertEqual(self.orders("aab", (None, 0, 1)), [[0, 2, 1], [2, 0, 1]])
        self.assertEqual(len(self.orders("abcd", (None, None, 0, 1))), 3)

    def test_none_where_nothing_differs(self):
        self.assertEqual(self.orders("ab", (None, None)), [])
        self.assertEqual(self.orders("a" * 9, (None, *range(8))), [])
        self.assertEqual(self.orders([(1, "a"), (1, "a")], (None, 0)), [])
        self.assertEqual(self.orders([1, True], (None, 0)), [[1, 0]])
        self.assertEqual(self.orders([["x"], ["x"]], (None, 0)), [[1, 0]])

    def test_how_many_there_can_be(self):
        self.assertEqual(count_exchanges((None, None, None)), 1)
        self.assertEqual(count_exchanges((None, 0, 1, None, 3)), 12)

    def test_errors_say_whose_they_are(self):
        results = results_of("a", ValueError("x"))
        other = exchanged(results, [1, 0], ["ada", "bob"])
        self.assertEqual(other.values, ["a"])
        self.assertEqual(other[0].call, "session ada")
        self.assertIs(other[0].original, results[1].original)
        self.assertEqual(results[1].call, "session s2")


@explores
class InvariantTests(SearchMixin, TxTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(pk=1000, title="a", copies=5)

    def all_lent(self, results):
        return Book.objects.get(pk=1000).copies == 5 - len(results)

    @transaction.atomic
    def rank(self):
        """Return how many copies there were before."""
        calls.lend_f(1000)
        return Book.objects.get(pk=1000).copies + 1

    def test_as_few_schedules_as_without(self):
        for call in (partial(calls.lend_f, 1000), self.rank):
            for count in (2, 3):
                plain = self.assertProved(*[call] * count)
                asked = self.assertProved(*[call] * count, invariant=self.all_lent)
                self.assertEqual(asked.executions, plain.executions)

    def test_races(self):
        call = partial(calls.lend, 1000)
        found = explore(call, call, invariant=self.all_lent)
        self.assertIn("all_lent does not hold", str(found.failure))

    def test_who_it_was(self):
        def only_the_first(results):
            return results.index(5) == 0

        for count in (2, 3):
            found = explore(*[self.rank] * count, invariant=only_the_first)
            # As it was, and not only as it can be thought of.
            self.assertIn(found.failure.results.index(5), range(1, count))
            winner = f"s{found.failure.results.index(5) + 1}"
            updates = [e for e in found.failure.history if e.sql.startswith("UPDATE")]
            self.assertEqual(updates[0].session, winner)
            again = explore(
                *[self.rank] * count,
                invariant=only_the_first,
                scheduler=DfsScheduler(),
                max_executions=200,
            )
            self.assertEqual(str(found.failure.error), str(again.failure.error))

    def test_who_it_was_of_those_that_make_the_same_call(self):
        sessions = [
            Session("ada", self.rank),
            Session("bob", calls.lend_f, 1000),
            Session("cyd", self.rank),
        ]
        found = explore(*sessions, invariant=lambda r: (r[0], r[2]) != (4, 3))
        self.assertEqual((found.failure.results[0], found.failure.results[2]), (4, 3))
        self.assertIn("bob", found.failure.history[0].session)

    def test_which_call_raised(self):
        def fail_late():
            if self.rank() == 4:
                raise ValueError("too late")

        def raised_by_itself(results):
            (error,) = results.errors
            self.assertIn(f"session s{results.index(error) + 1} ", str(error))
            return results.index(error) == 1

        found = explore(
            fail_late, fail_late, invariant=raised_by_itself, allow=(ValueError,)
        )
        self.assertIsInstance(found.failure.results[0], CallError)
        self.assertEqual(found.failure.history[0].session, "s2")

    def test_what_is_not_so_when_it_is_made_is_no_failure(self):
        asked = set()

        def only_once(results):
            """Tell whether these rows are news: it is no function of the results."""
            is_new = Book.objects.get(pk=1000).title not in asked
            asked.add(Book.objects.get(pk=1000).title)
            return is_new

        self.assertProved(self.rank, self.rank, invariant=only_once, setup=asked.clear)

    def test_pinned_sessions_draw_other_numbers(self):
        def draw():
            return random.random(), self.rank()

        for pin, sessions in ((True, {"s1", "s2"}), (False, {"s1"})):
            winners = set()

            def note(found, winners=winners):
                kinds = [event.kind for event in found.history]
                winners.add(found.history[kinds.index(Kind.COMMIT)].session)

            options = {"invariant": self.all_lent, "pin": pin, "progress": note}
            explore(draw, draw, **options).raise_if_failed()
            self.assertEqual(winners, sessions)

"""What each isolation level permits and forbids, found by exploring.

The names are those of Adya's dissertation: G0 dirty write, G1a aborted read, G1b
intermediate read, G1c circular information flow, OTV observed transaction vanishes, PMP
predicate-many-preceders, P4 lost update, G-single read skew, G2-item write skew, G2
write skew by predicates.
"""

from __future__ import annotations

from functools import partial

from django.db import OperationalError, connection

from django_txtest import TxTestCase, explore
from tests.anomalies import calls
from tests.anomalies.calls import X, Y
from tests.library.models import Book
from tests.utils import explores

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@explores
class IsolationTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        Book.objects.create(pk=X, title="x", copies=10)
        Book.objects.create(pk=Y, title="y", copies=20)

    def assertPermitted(self, expected, *targets, anomaly, **options):
        """Check at which levels an order shows what `anomaly` tells of results.

        At the others, all orders are tried, and in each the anomaly would be seen.
        """
        found = []
        levels = LEVELS
        if connection.vendor == "sqlite":  # where every transaction is serializable
            levels, expected = [None], []
        for level in levels:
            exploration = explore(
                *targets,
                invariant=lambda results: not anomaly(*results),
                isolation_level=level,
                allow=(OperationalError, calls.Abort),
                **options,
            )
            if exploration.failure:
                found.append(level)
            elif not options:
                self.assertTrue(exploration.exhausted, str(exploration))
        self.assertEqual(found, list(expected))

    def test_g0_dirty_write(self):
        def mixed(*results):
            left = calls.read(X), calls.read(Y)
            return left not in [(10, 20), (11, 21), (12, 22)]

        first = partial(calls.write_both, 11, 21)
        second = partial(calls.write_both, 12, 22)
        self.assertPermitted([], first, second, anomaly=mixed)

    def test_g1a_aborted_read(self):
        self.assertPermitted(
            [],
            partial(calls.write_and_abort, 101),
            calls.read_twice,
            anomaly=lambda _, seen: seen != (10, 10),
        )

    def test_g1b_intermediate_read(self):
        self.assertPermitted(
            [],
            partial(calls.write_twice, 101, 11),
            calls.read_twice,
            anomaly=lambda _, seen: isinstance(seen, tuple) and 101 in seen,
        )

    def test_g1c_circular_information_flow(self):
        self.assertPermitted(
            [],
            partial(calls.write_and_read, X, 11, Y),
            partial(calls.write_and_read, Y, 22, X),
            anomaly=lambda *seen: seen == (22, 11),
        )

    def test_otv_observed_transaction_vanishes(self):
        def vanished(first, second, seen):
            # Its x, and then the y that it had overwritten.
            return seen == (12, 19) and calls.read(X) == 12

        self.assertPermitted(
            [],
            partial(calls.write_both, 11, 19),
            partial(calls.write_both, 12, 18),
            calls.read_both,
            anomaly=vanished,
            preemption_bound=1,
        )

    def test_p4_lost_update(self):
        def lost(*results):
            return results == ("done", "done") and calls.read(X) != 12

        self.assertPermitted(
            ["READ COMMITTED"], calls.increment, calls.increment, anomaly=lost
        )

    def test_g_single_read_skew(self):
        self.assertPermitted(
            ["READ COMMITTED"],
            partial(calls.write_both, 12, 18),
            calls.read_both,
            anomaly=lambda _, seen: seen in [(10, 18), (12, 20)],
        )

    def test_pmp_predicate_many_preceders(self):
        self.assertPermitted(
            ["READ COMMITTED"],
            calls.insert_30,
            calls.count_twice,
            anomaly=lambda _, seen: seen == (0, 1),
        )

    def test_pmp_for_writes(self):
        # It waited for the row of 20, which then had 30, and left that of 10 alone.
        self.assertPermitted(
            ["READ COMMITTED"],
            calls.add_10_to_all,
            calls.delete_and_count,
            anomaly=lambda _, seen: seen == 1,
        )

    def test_g2_item_write_skew(self):
        def skewed(*results):
            taken = calls.read(X) + calls.read(Y) == 0
            return results == ("done", "done") and taken

        self.assertPermitted(
            ["READ COMMITTED", "REPEATABLE READ"],
            partial(calls.empty, X),
            partial(calls.empty, Y),
            anomaly=skewed,
        )

    def test_g2_write_skew_by_predicates(self):
        def skewed(*results):
            return results == ("done", "done") and calls.count(30) == 2

        self.assertPermitted(
            ["READ COMMITTED", "REPEATABLE READ"],
            partial(calls.insert_the_first, 3),
            partial(calls.insert_the_first, 4),
            anomaly=skewed,
        )

    def test_g2_that_only_a_reader_shows(self):
        """The one who looks sees y refilled, and x charged as if it had not been."""
        Book.objects.filter(pk=X).update(copies=0)
        Book.objects.filter(pk=Y).update(copies=0)

        def seen(*results):
            return results == ("done", "done", (0, 20)) and calls.read(X) == -16

        self.assertPermitted(
            ["READ COMMITTED", "REPEATABLE READ"],
            calls.charge,
            calls.refill,
            calls.read_both,
            anomaly=seen,
            preemption_bound=1,
        )

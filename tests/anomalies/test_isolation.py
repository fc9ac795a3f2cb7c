"""What each isolation level permits and forbids, found by exploring.

The names are those of Adya's dissertation: G0 dirty write, G1a aborted read, G1b
intermediate read, G1c circular information flow, OTV observed transaction vanishes, PMP
predicate-many-preceders, P4 lost update, G-single read skew, G2-item write skew, G2
write skew by predicates.
"""

from __future__ import annotations

from django.db import OperationalError, connection, transaction
from django.db.models import F

from django_txtest import TxTestCase, explore, sessions
from tests.library.models import Book

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


def write(pk, copies):
    Book.objects.filter(pk=pk).update(copies=copies)


def read(pk):
    return Book.objects.values_list("copies", flat=True).get(pk=pk)


def count(copies):
    return Book.objects.filter(copies=copies).count()


class Abort(Exception):
    """Ends a transaction that is to be rolled back."""


class IsolationTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        Book.objects.create(pk=1, title="x", copies=10)
        Book.objects.create(pk=2, title="y", copies=20)

    def levels_with(self, *targets, anomaly, levels=LEVELS, **options):
        """Return the levels at which an order shows what `anomaly` tells of results."""
        with_it = []
        if connection.vendor == "sqlite":
            levels = [None]
        for level in levels:
            exploration = explore(
                *[transaction.atomic(target) for target in targets],
                invariant=lambda results: not anomaly(*results),
                isolation_level=level,
                allow=(OperationalError, Abort),
                **options,
            )
            if exploration.failure:
                with_it.append(level)
            elif not options:
                self.assertTrue(exploration.exhausted, str(exploration))
        return with_it

    def assertLevels(self, found, expected):
        if connection.vendor == "sqlite":  # where every transaction is serializable
            expected = []
        self.assertEqual(found, expected)

    def test_g0_dirty_write(self):
        def first():
            write(1, 11)
            write(2, 21)

        def second():
            write(1, 12)
            write(2, 22)

        def mixed(*results):
            return (read(1), read(2)) not in [(10, 20), (11, 21), (12, 22)]

        self.assertLevels(self.levels_with(first, second, anomaly=mixed), [])

    def test_g1a_aborted_read(self):
        def abort():
            write(1, 101)
            raise Abort

        def look():
            return read(1), read(1)

        found = self.levels_with(abort, look, anomaly=lambda _, seen: seen != (10, 10))
        self.assertLevels(found, [])

    def test_g1b_intermediate_read(self):
        def change():
            write(1, 101)
            write(1, 11)

        def look():
            return read(1), read(1)

        found = self.levels_with(
            change,
            look,
            anomaly=lambda _, seen: not isinstance(seen, Exception) and 101 in seen,
        )
        self.assertLevels(found, [])

    def test_g1c_circular_information_flow(self):
        def first():
            write(1, 11)
            return read(2)

        def second():
            write(2, 22)
            return read(1)

        found = self.levels_with(
            first, second, anomaly=lambda one, two: (one, two) == (22, 11)
        )
        self.assertLevels(found, [])

    def test_p4_lost_update(self):
        def call():
            write(1, read(1) + 1)
            return "done"

        def lost(*results):
            return results == ("done", "done") and read(1) != 12

        self.assertLevels(
            self.levels_with(call, call, anomaly=lost), ["READ COMMITTED"]
        )

    def test_g_single_read_skew(self):
        def change():
            write(1, 12)
            write(2, 18)

        def look():
            return read(1), read(2)

        found = self.levels_with(
            change, look, anomaly=lambda _, seen: seen in [(10, 18), (12, 20)]
        )
        self.assertLevels(found, ["READ COMMITTED"])

    def test_pmp_predicate_many_preceders(self):
        def insert():
            Book.objects.create(pk=3, title="z", copies=30)

        def look():
            return count(30), count(30)

        found = self.levels_with(insert, look, anomaly=lambda _, seen: seen == (0, 1))
        self.assertLevels(found, ["READ COMMITTED"])

    def test_g2_item_write_skew(self):
        def call(pk):
            if read(1) + read(2) == 30:
                write(pk, 0)
            return "done"

        def skewed(*results):
            return results == ("done", "done") and read(1) + read(2) == 0

        found = self.levels_with(lambda: call(1), lambda: call(2), anomaly=skewed)
        self.assertLevels(found, ["READ COMMITTED", "REPEATABLE READ"])

    def test_g2_write_skew_by_predicates(self):
        def call(pk):
            if not count(30):
                Book.objects.create(pk=pk, title="z", copies=30)
            return "done"

        def skewed(*results):
            return results == ("done", "done") and count(30) == 2

        found = self.levels_with(lambda: call(3), lambda: call(4), anomaly=skewed)
        self.assertLevels(found, ["READ COMMITTED", "REPEATABLE READ"])

    def test_otv_observed_transaction_vanishes(self):
        def first():
            write(1, 11)
            write(2, 19)

        def second():
            write(1, 12)
            write(2, 18)

        def look():
            return read(1), read(2)

        # What was seen of the second is gone again: its x with the y of the first.
        found = self.levels_with(
            first,
            second,
            look,
            anomaly=lambda a, b, seen: seen == (12, 19),
            levels=("REPEATABLE READ",),
            preemption_bound=2,
        )
        self.assertLevels(found, [])

    def test_by_a_script(self):
        if connection.vendor != "postgresql":
            self.skipTest("a script waits for locks of PostgreSQL")

        @transaction.atomic
        def call():
            Book.objects.filter(pk=1).update(copies=F("copies") + read(1))

        for level, seen in (("READ COMMITTED", 30), ("REPEATABLE READ", 20)):
            Book.objects.filter(pk=1).update(copies=10)
            with sessions(ann=call, bob=call, isolation_level=level) as (ann, bob):
                ann.run_until("SELECT")
                bob.run_until("SELECT")
                ann.run_until("UPDATE")
                bob.finish()
                self.assertTrue(bob.waiting)
                ann.finish()
                self.assertTrue(bob.finished)
                if level == "REPEATABLE READ":
                    with self.assertRaisesRegex(OperationalError, "serialize"):
                        _ = bob.result
            self.assertEqual(read(1), seen)

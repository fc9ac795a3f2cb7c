"""What each isolation level permits and forbids, each in an order that is written out.

The names are those of test_isolation.
"""

from __future__ import annotations

from functools import partial

from django.db import OperationalError, connection

from django_txtest import TxTestCase, sessions
from tests.anomalies import calls
from tests.anomalies.calls import X, Y
from tests.library.models import Book
from tests.utils import explores

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
REFUSED = "refused"


@explores
class ScriptTests(TxTestCase):
    maxDiff = None

    def setUp(self):
        self.put_back()

    def put_back(self):
        Book.objects.all().delete()
        Book.objects.create(pk=X, title="x", copies=10)
        Book.objects.create(pk=Y, title="y", copies=20)

    def outcome(self, script, *targets, level):
        """Return the results, with `REFUSED` for errors, and the copies that are left.

        :param script: who goes how far, as ``("s1", "UPDATE")``; None is to the end.
        """
        with sessions(*targets, isolation_level=level) as everybody:
            by_name = {session.name: session for session in everybody}
            for name, text in [*script, *((name, None) for name in by_name)]:
                session = by_name[name]
                if session.waiting or session.finished:
                    continue  # of what is forbidden, one waits, or was refused
                if text is None:
                    session.finish()
                else:
                    session.run_until(text)
        return [self.result(session) for session in everybody], [
            (book.pk, book.copies) for book in Book.objects.order_by("pk")
        ]

    def result(self, session):
        try:
            return session.result
        except OperationalError:
            return REFUSED
        except calls.Abort:
            return "aborted"

    def assertOutcomes(self, script, *targets, sqlite, postgresql):
        """Check what comes of a script at each level."""
        if connection.vendor == "sqlite":
            outcome = self.outcome(script, *targets, level=None)
            self.assertEqual(outcome, sqlite)
            return
        for level, expected in zip(LEVELS, postgresql, strict=True):
            with self.subTest(level):
                self.put_back()
                outcome = self.outcome(script, *targets, level=level)
                self.assertEqual(outcome, expected)

    def test_g0_dirty_write(self):
        second_is_last = ([None, None], [(X, 12), (Y, 22)])
        second_is_refused = ([None, REFUSED], [(X, 11), (Y, 21)])
        self.assertOutcomes(
            [("s1", "UPDATE"), ("s2", "UPDATE"), ("s1", None)],
            partial(calls.write_both, 11, 21),
            partial(calls.write_both, 12, 22),
            postgresql=[second_is_last, second_is_refused, second_is_refused],
            sqlite=second_is_last,
        )

    def test_g1a_aborted_read(self):
        unseen = (["aborted", (10, 10)], [(X, 10), (Y, 20)])
        self.assertOutcomes(
            [("s1", "UPDATE"), ("s2", "SELECT"), ("s1", None)],
            partial(calls.write_and_abort, 101),
            calls.read_twice,
            postgresql=[unseen] * 3,
            sqlite=unseen,
        )

    def test_g1b_intermediate_read(self):
        left = [(X, 11), (Y, 20)]
        self.assertOutcomes(
            [("s1", "UPDATE"), ("s2", "SELECT"), ("s1", None)],
            partial(calls.write_twice, 101, 11),
            calls.read_twice,
            postgresql=[
                ([None, (10, 11)], left),
                ([None, (10, 10)], left),
                ([None, (10, 10)], left),
            ],
            sqlite=([None, (10, 10)], left),
        )

    def test_g1c_circular_information_flow(self):
        unseen = ([20, 10], [(X, 11), (Y, 22)])
        refused = ([20, REFUSED], [(X, 11), (Y, 20)])
        self.assertOutcomes(
            [("s1", "UPDATE"), ("s2", "UPDATE"), ("s1", "SELECT"), ("s2", "SELECT")],
            partial(calls.write_and_read, X, 11, Y),
            partial(calls.write_and_read, Y, 22, X),
            postgresql=[unseen, unseen, refused],
            sqlite=([20, 11], [(X, 11), (Y, 22)]),
        )

    def test_otv_observed_transaction_vanishes(self):
        left = [(X, 12), (Y, 18)]
        refused = [(X, 11), (Y, 19)]
        self.assertOutcomes(
            [
                ("s1", "UPDATE"),
                ("s2", "UPDATE"),
                ("s1", None),
                ("s3", "SELECT"),
                ("s2", None),
            ],
            partial(calls.write_both, 11, 19),
            partial(calls.write_both, 12, 18),
            calls.read_both,
            postgresql=[
                ([None, None, (11, 18)], left),
                ([None, REFUSED, (11, 19)], refused),
                ([None, REFUSED, (11, 19)], refused),
            ],
            sqlite=([None, None, (11, 19)], left),
        )

    def test_p4_lost_update(self):
        left = [(X, 11), (Y, 20)]
        refused = (["done", REFUSED], left)
        self.assertOutcomes(
            [("s1", "SELECT"), ("s2", "SELECT"), ("s1", None), ("s2", None)],
            calls.increment,
            calls.increment,
            postgresql=[(["done", "done"], left), refused, refused],
            sqlite=refused,
        )

    def test_g_single_read_skew(self):
        left = [(X, 12), (Y, 18)]
        self.assertOutcomes(
            [("s2", "SELECT"), ("s1", None)],
            partial(calls.write_both, 12, 18),
            calls.read_both,
            postgresql=[
                ([None, (10, 18)], left),
                ([None, (10, 20)], left),
                ([None, (10, 20)], left),
            ],
            sqlite=([None, (10, 20)], left),
        )

    def test_pmp_predicate_many_preceders(self):
        left = [(X, 10), (Y, 20), (3, 30)]
        self.assertOutcomes(
            [("s2", "SELECT"), ("s1", None)],
            calls.insert_30,
            calls.count_twice,
            postgresql=[
                ([None, (0, 1)], left),
                ([None, (0, 0)], left),
                ([None, (0, 0)], left),
            ],
            sqlite=([None, (0, 0)], left),
        )

    def test_pmp_for_writes(self):
        left = [(X, 20), (Y, 30)]
        self.assertOutcomes(
            [("s1", "UPDATE"), ("s2", "DELETE"), ("s1", None)],
            calls.add_10_to_all,
            calls.delete_and_count,
            postgresql=[
                ([None, 1], left),
                ([None, REFUSED], left),
                ([None, REFUSED], left),
            ],
            sqlite=([None, 0], [(Y, 30)]),
        )

    def test_g2_item_write_skew(self):
        skewed = (["done", "done"], [(X, 0), (Y, 0)])
        refused = (["done", REFUSED], [(X, 0), (Y, 20)])
        self.assertOutcomes(
            [
                ("s1", "SELECT"),
                ("s1", "SELECT"),
                ("s2", "SELECT"),
                ("s2", "SELECT"),
                ("s1", None),
            ],
            partial(calls.empty, X),
            partial(calls.empty, Y),
            postgresql=[skewed, skewed, refused],
            sqlite=refused,
        )

    def test_g2_write_skew_by_predicates(self):
        skewed = (["done", "done"], [(X, 10), (Y, 20), (3, 30), (4, 30)])
        refused = (["done", REFUSED], [(X, 10), (Y, 20), (3, 30)])
        self.assertOutcomes(
            [("s1", "SELECT"), ("s2", "SELECT"), ("s1", None)],
            partial(calls.insert_the_first, 3),
            partial(calls.insert_the_first, 4),
            postgresql=[skewed, skewed, refused],
            sqlite=refused,
        )

from __future__ import annotations

import unittest

from django_txtest.history import Event, History, Kind
from django_txtest.timeline.spans import transactions, waits
from tests.timeline.histories import deadlock, lost_update, statement


def spans(*events):
    return [
        (each.session, each.alias, each.first, each.last, each.ending)
        for each in transactions(History(events))
    ]


def event(kind, session="s1", alias="default", in_transaction=True):
    return Event(session, kind, alias, sql="A", in_transaction=in_transaction)


STATEMENT = event(Kind.STATEMENT)
COMMIT, ROLLBACK = event(Kind.COMMIT), event(Kind.ROLLBACK)
ERROR, RETURNS = event(Kind.ERROR), event(Kind.RETURNS)
ALONE = event(Kind.STATEMENT, in_transaction=False)


class TransactionTests(unittest.TestCase):
    def test_their_ends(self):
        for events, *expected in (
            ([STATEMENT, STATEMENT, COMMIT, RETURNS], (0, 2, Kind.COMMIT)),
            ([ALONE, STATEMENT, ROLLBACK], (1, 2, Kind.ROLLBACK)),
            ([STATEMENT, ERROR, ROLLBACK], (0, 2, Kind.ROLLBACK)),
            ([STATEMENT, RETURNS], (0, 0, None)),
            ([STATEMENT, ERROR], (0, 1, None)),
            ([STATEMENT, ALONE], (0, 0, None)),
            (
                [STATEMENT, COMMIT, STATEMENT, COMMIT],
                (0, 1, Kind.COMMIT),
                (2, 3, Kind.COMMIT),
            ),
            ([ALONE, ALONE, RETURNS],),
        ):
            with self.subTest([each.kind for each in events]):
                found = [("s1", "default", *each) for each in expected]
                self.assertEqual(spans(*events), found)

    def test_a_commit_that_is_refused(self):
        for events, *expected in (
            ([STATEMENT, COMMIT, ERROR, ROLLBACK], (0, 3, Kind.ROLLBACK)),
            (
                [STATEMENT, COMMIT, ERROR, STATEMENT, COMMIT],
                (0, 2, Kind.ROLLBACK),
                (3, 4, Kind.COMMIT),
            ),
        ):
            with self.subTest([each.kind for each in events]):
                found = [("s1", "default", *each) for each in expected]
                self.assertEqual(spans(*events), found)

    def test_several_databases_and_sessions(self):
        other = event(Kind.STATEMENT, alias="other")
        second = event(Kind.STATEMENT, "s2")
        self.assertEqual(
            spans(STATEMENT, other, second, COMMIT),
            [
                ("s1", "default", 0, 3, Kind.COMMIT),
                ("s1", "other", 1, 1, None),
                ("s2", "default", 2, 2, None),
            ],
        )

    def test_histories(self):
        found = [(t.session, t.first, t.last) for t in transactions(deadlock()[0])]
        self.assertEqual(found, [("s1", 6, 22), ("s2", 7, 19), ("s3", 8, 16)])


class WaitTests(unittest.TestCase):
    def test_histories(self):
        found = [(w.session, w.told, w.last) for w in waits(lost_update()[0])]
        self.assertEqual(found, [("alice", (6,), 10)])
        found = [(w.session, w.told, w.last) for w in waits(deadlock()[0])]
        self.assertEqual(found, [("s1", (10, 18), 21), ("s2", (12,), 15)])

    def test_one_that_does_not_end(self):
        history = [event(Kind.WAITS), statement("s2", "A")]
        self.assertEqual([(w.told, w.last) for w in waits(history)], [((0,), 1)])

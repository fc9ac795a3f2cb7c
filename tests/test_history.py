from __future__ import annotations

import unittest

from django_txtest.history import Event, History, Kind, Place, shorten

PLACE = Place("shop/services.py", 12, "redeem")


def events(*kinds, session="s1", **fields):
    return [Event(session, kind, **fields) for kind in kinds]


class ShortenTests(unittest.TestCase):
    def test_names_columns_and_parameters(self):
        sql = (
            'SELECT "shop_coupon"."id", "shop_coupon"."code", "shop_coupon"."left" '
            'FROM "shop_coupon" WHERE "shop_coupon"."code" = %s LIMIT 21'
        )
        self.assertEqual(
            shorten(sql, ("X",)),
            "SELECT shop_coupon.id, ... FROM shop_coupon "
            "WHERE shop_coupon.code = 'X' LIMIT 21",
        )

    def test_parameters(self):
        self.assertEqual(shorten("a %s %% %s %s", [1, None, b"x"]), "a 1 % NULL b'x'")
        self.assertEqual(shorten("a %(b)s", {"b": 2}), "a 2")
        self.assertEqual(shorten("a %s", [[1], [2]], many=True), "a 1 (and 1 more)")
        self.assertEqual(shorten("a %s", [[1]], many=True), "a 1")
        self.assertEqual(shorten("a %s", [], many=True), "a %s")
        # Arrays, as of UNNEST when Django creates rows in bulk on PostgreSQL.
        self.assertEqual(shorten("a %s, %s", [[1, 2], [3, 4]]), "a [1, 2], [3, 4]")
        self.assertEqual(shorten("a %s %s", [1]), "a 1 NULL")
        self.assertEqual(shorten("LIKE '%'"), "LIKE '%'")
        self.assertLess(len(shorten("%s", ["x" * 1000])), 50)

    def test_long_statements(self):
        self.assertLessEqual(len(shorten("x" * 1000)), 150)

    def test_lines_and_savepoints(self):
        self.assertEqual(
            shorten('SAVEPOINT\n  "s140234_x1"'), shorten('SAVEPOINT "s99_x1"')
        )


class HistoryTests(unittest.TestCase):
    def test_transcript(self):
        history = History()
        for event in (
            Event("alice", Kind.START, text="redeem('X')"),
            Event("alice", Kind.STATEMENT, sql="UPDATE a", place=PLACE),
            Event("bob", Kind.STATEMENT, sql="UPDATE a", place=PLACE),
            Event("bob", Kind.WAITS, others=("alice",)),
            Event("alice", Kind.CHECKPOINT, text="paid"),
            Event("alice", Kind.COMMIT),
            Event("bob", Kind.GOES_ON),
            Event("bob", Kind.ERROR, text="IntegrityError: no"),
            Event("bob", Kind.RAISES, text="IntegrityError: no"),
            Event("alice", Kind.RETURNS, text="10"),
        ):
            history.add(event)
        self.assertEqual(
            history.transcript(),
            "alice  begins redeem('X')\n"
            "alice  UPDATE a\n"
            "           shop/services.py:12 in redeem\n"
            "bob    UPDATE a\n"
            "           shop/services.py:12 in redeem\n"
            "bob      <waiting for alice>\n"
            "alice  checkpoint 'paid'\n"
            "alice  COMMIT\n"
            "bob      <goes on>\n"
            "bob      ! IntegrityError: no\n"
            "bob    raises IntegrityError: no\n"
            "alice  returns 10",
        )
        self.assertEqual(history.sessions, ["alice", "bob"])
        self.assertEqual(len(history.of("bob")), 5)
        self.assertEqual(str(history), history.transcript())

    def test_aliases_are_told_where_there_are_several(self):
        one = Event("s1", Kind.STATEMENT, sql="A")
        other = Event("s1", Kind.COMMIT, alias="other")
        self.assertNotIn("[", str(History([one])))
        self.assertEqual(
            str(History([one, other])), "s1  [default] A\ns1  [other] COMMIT"
        )

    def test_differences(self):
        first = History(
            [
                Event("s1", Kind.STATEMENT, sql="A %s", params=[1]),
                Event("s1", Kind.RAISES, text="Error: 1"),
            ]
        )
        alike = History(
            [
                Event("s1", Kind.STATEMENT, sql="A %s", params=[2]),
                Event("s1", Kind.RAISES, text="Error: 2"),
            ]
        )
        self.assertIsNone(first.first_difference(alike))
        self.assertNotEqual(first, alike)
        self.assertEqual(first, History(first))
        self.assertEqual(
            first.first_difference(History(first[:1])),
            "event 2 was s1: raises Error: 1, and then it was the end",
        )

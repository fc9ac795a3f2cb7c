from __future__ import annotations

import unittest

from django_txtest.databases.catalogue import Catalogue, ForeignKey, Relation, Unique
from django_txtest.scheduler.footprint import (
    Above,
    Action,
    Lock,
    can_be_same,
    can_meet,
    pins,
)
from django_txtest.scheduler.statements import Statements

BOOKS = Relation(
    "book",
    {"id": "integer", "name": "text", "copies": "integer", "available": "boolean"},
    ("id",),
    (Unique(("id",)), Unique(("name",))),
    {"id": 9},
    indexed=frozenset({"id", "name"}),
)
LOANS = Relation(
    "loan",
    {"id": "integer", "book_id": "integer", "note": "text"},
    ("id",),
    (Unique(("id",)),),
)
OPEN = Relation("open", shows=frozenset({"book", "loan"}))
AUDITED = Relation("audited", {"id": "integer"}, is_opaque=True)
KEY = ForeignKey("loan", ("book_id",), "book", ("id",), is_deferred=True)


def catalogue(key=KEY, **options):
    relations = {each.name: each for each in (BOOKS, LOANS, OPEN, AUDITED)}
    return Catalogue("postgresql", relations, (key,), **options)


def values(**known):
    return pins({name: frozenset(each) for name, each in known.items()})


class StatementTests(unittest.TestCase):
    def footprint(self, sql, *params, **options):
        return Statements(catalogue(**options)).footprint(sql, params)

    def one(self, sql, *params):
        footprint = self.footprint(sql, *params)
        self.assertEqual(footprint.unknown, "")
        [access] = footprint.accesses
        return access

    def test_what_looks_at_every_row(self):
        for sql, is_whole in {
            "SELECT COUNT(*) FROM book": True,
            "SELECT id, name FROM book b WHERE b.copies > 1 AND available": True,
            "SELECT MAX(copies) FROM book ORDER BY id": True,
            "SELECT MAX(id) FROM book": False,
            "SELECT copies FROM book WHERE name > 'x'": False,
            "SELECT copies FROM book WHERE copies = 1 LIMIT 1": False,
            "SELECT copies FROM book WHERE copies = 1 FOR UPDATE": False,
            "SELECT note FROM loan": False,  # whose indexes are not known
            "SELECT 1 FROM book WHERE EXISTS (SELECT 1 FROM book c)": False,
            "SELECT 1 FROM book b, book c": False,
            "SELECT 1 FROM book b JOIN book c ON b.copies = c.copies": False,
            "SELECT 1 FROM book UNION SELECT 2 FROM book": False,
            "SELECT 1 FROM book TABLESAMPLE SYSTEM (1)": False,
            "WITH b AS (SELECT copies FROM book) SELECT copies FROM b": False,
            "UPDATE book SET copies = 1 WHERE copies = 2": False,
        }.items():
            footprint = self.footprint(sql)
            self.assertEqual(footprint.unknown, "", sql)
            found = {access.is_whole for access in footprint.accesses}
            self.assertEqual(found, {is_whole}, sql)

    def test_reads(self):
        access = self.one('SELECT "b"."copies" FROM "book" "b" WHERE "b"."id" = %s', 1)
        self.assertEqual((access.table, access.action), ("book", Action.READ))
        self.assertEqual(access.where, values(id=[1]))
        self.assertEqual(access.columns, {"copies", "id"})
        self.assertIsNone(access.lock)

    def test_what_is_known_of_rows(self):
        for condition, params, expected in (
            ("id IN (%s, %s)", (1, "2"), values(id=[1, 2])),
            ("id = ANY(%s)", ([1, 2],), values(id=[1, 2])),
            ("(id = %s AND name = 'x')", (1,), values(id=[1], name=["x"])),
            ("name IS NULL AND available", (), values(name=[None], available=[True])),
            ("NOT available", (), values(available=[False])),
            ("%s = id::bigint", (1,), ()),
            ("id = %s::bigint", (1,), values(id=[1])),
            ("id = %s OR name = %s", (1, "x"), ()),
            ("copies > %s", (1,), ()),
            ("id = copies", (), ()),
            ("id = %s", (1.5,), ()),
        ):
            with self.subTest(condition):
                access = self.one(f"SELECT name FROM book WHERE {condition}", *params)
                self.assertEqual(access.where, expected)

    def test_columns_count_only_where_the_order_of_rows_does_not(self):
        self.assertIsNone(self.one("SELECT copies FROM book").columns)
        access = self.one("SELECT MAX(copies) FROM book WHERE available")
        self.assertEqual(access.columns, {"copies", "available"})
        self.assertIsNone(self.one("SELECT * FROM book WHERE id = 1").columns)

    def test_locks(self):
        for text, lock in (
            ("FOR UPDATE", Lock.UPDATE),
            ("FOR NO KEY UPDATE", Lock.NO_KEY_UPDATE),
            ("FOR SHARE", Lock.SHARE),
            ("FOR KEY SHARE", Lock.KEY_SHARE),
        ):
            access = self.one(f"SELECT id FROM book {text}")
            self.assertEqual((access.action, access.lock), (Action.LOCK, lock))
            self.assertTrue(self.one(f"SELECT id FROM book {text} NOWAIT").is_nowait)
            access = self.one(f"SELECT id FROM book {text} SKIP LOCKED")
            self.assertTrue(access.skips_locked)
        loan, book = self.footprint(
            "SELECT 1 FROM loan JOIN book b ON b.id = loan.book_id FOR UPDATE OF loan"
        ).accesses
        self.assertEqual((loan.lock, book.lock), (Lock.UPDATE, None))

    def test_inserts(self):
        access = self.one("INSERT INTO book (name, copies) VALUES (%s, %s)", "x", 1)
        self.assertEqual(access.action, Action.INSERT)
        self.assertEqual(
            access.after,
            (
                ("copies", frozenset({1})),
                ("id", Above(9)),
                ("name", frozenset({"x"})),
            ),
        )
        two = self.footprint(
            "INSERT INTO book (id, name) VALUES (DEFAULT, %s), (3, %s)", "x", "y"
        )
        self.assertEqual(dict(two.accesses[0].after)["id"], Above(9))
        self.assertEqual(dict(two.accesses[1].after)["id"], {3})
        selected = self.footprint("INSERT INTO book (id) SELECT book_id FROM loan")
        self.assertEqual([a.table for a in selected.accesses], ["book", "loan"])
        self.assertEqual(selected.accesses[0].after, ())

    def test_conflicts(self):
        insert, update = self.footprint(
            "INSERT INTO book (name, copies) VALUES (%s, 1) "
            "ON CONFLICT (name) DO UPDATE SET copies = EXCLUDED.copies",
            "x",
        ).writes
        self.assertEqual(insert.action, Action.INSERT)
        self.assertEqual(update.where, values(name=["x"]))
        self.assertEqual(update.columns, {"copies"})

    def test_updates(self):
        update, read = self.footprint(
            "UPDATE book SET name = %s, copies = copies + %s WHERE id = %s", "x", 1, 2
        ).accesses
        self.assertEqual(update.where, values(id=[2]))
        self.assertEqual(update.after, values(id=[2], name=["x"]))
        self.assertEqual(update.lock, Lock.UPDATE)  # as names are unique
        self.assertEqual(read.columns, {"id", "copies"})  # not what is only set
        update, _ = self.footprint("UPDATE book SET copies = 1").accesses
        self.assertEqual(update.lock, Lock.NO_KEY_UPDATE)

    def test_foreign_keys(self):
        loan, book = self.footprint(
            "INSERT INTO loan (id, book_id) VALUES (1, %s)", 7
        ).accesses
        self.assertEqual((book.table, book.lock), ("book", Lock.KEY_SHARE))
        self.assertEqual(book.where, values(id=[7]))
        self.assertTrue(book.at_commit)
        self.one("INSERT INTO loan (id, book_id) VALUES (1, %s)", None)
        for action, expected in (
            ("NO ACTION", Action.LOCK),
            ("CASCADE", Action.DELETE),
            ("SET NULL", Action.UPDATE),
        ):
            key = ForeignKey("loan", ("book_id",), "book", ("id",), on_delete=action)
            delete, loan, *_ = self.footprint(
                "DELETE FROM book WHERE id = %s", 7, key=key
            ).accesses
            self.assertEqual(delete.action, Action.DELETE)
            self.assertEqual((loan.table, loan.action), ("loan", expected))
            self.assertEqual(loan.where, values(book_id=[7]))

    def test_views_and_subqueries(self):
        for sql in (
            "SELECT * FROM open",
            "WITH b AS (SELECT * FROM book) SELECT * FROM b, loan",
            "SELECT 1 FROM book WHERE EXISTS (SELECT 1 FROM loan WHERE book_id = id)",
            "SELECT 1 FROM (SELECT id FROM book UNION SELECT id FROM loan) x",
            "DELETE FROM book USING loan WHERE book.id = loan.book_id",
            "SELECT 1 FROM (book JOIN loan ON true)",
        ):
            with self.subTest(sql):
                footprint = self.footprint(sql)
                tables = {access.table for access in footprint.accesses}
                if not footprint.unknown:
                    self.assertGreaterEqual(tables, {"book", "loan"})

    def test_advisory_locks(self):
        access = self.one("SELECT pg_advisory_xact_lock(%s)", 7)
        self.assertEqual(access.where, values(key=[7]))
        self.assertEqual(access.lock, Lock.UPDATE)
        access = self.one("SELECT pg_try_advisory_lock_shared(1, 2)")
        self.assertEqual((access.where, access.lock), ((), Lock.SHARE))
        self.assertTrue(access.is_nowait)

    def test_what_is_not_understood(self):
        for sql in (
            "LOCK TABLE book",
            "TRUNCATE book",
            "CREATE TABLE x (id int)",
            "SELECT audit()",
            "SELECT count(*) FROM pg_locks",
            "SELECT * INTO x FROM book",
            "INSERT INTO audited (id) VALUES (1)",
            "SELECT FROM WHERE",
            "SET search_path = x",
            "SELECT 1; SELECT 2",
        ):
            with self.subTest(sql):
                footprint = self.footprint(sql, impure=frozenset({"audit"}))
                self.assertTrue(footprint.unknown)

    def test_ends_and_savepoints(self):
        for sql, control in (
            ("BEGIN", "begin"),
            ('SAVEPOINT "s1"', "savepoint"),
            ('RELEASE SAVEPOINT "s1"', "release"),
            ('ROLLBACK TO SAVEPOINT "s1"', "rollback to"),
            ("ROLLBACK", "rollback"),
            ("COMMIT", "commit"),
            ("SET LOCAL lock_timeout = 1", "set"),
        ):
            footprint = self.footprint(sql)
            self.assertEqual((footprint.control, footprint.unknown), (control, ""))


class RowTests(unittest.TestCase):
    def test_rows_that_can_meet(self):
        for one, other, expected in (
            (values(a=[1]), values(a=[2]), False),
            (values(a=[1]), values(a=[1, 2]), True),
            (values(a=[1]), values(b=[2]), True),
            (values(a=[1], b=[1]), values(a=[1], b=[2]), False),
            ((), values(a=[1]), True),
        ):
            self.assertEqual(can_meet(one, other), expected)
            self.assertEqual(can_meet(other, one), expected)

    def test_what_a_sequence_will_give(self):
        self.assertFalse(can_be_same(Above(9), frozenset({9})))
        self.assertTrue(can_be_same(frozenset({10}), Above(9)))
        self.assertTrue(can_be_same(Above(9), Above(1)))
        self.assertFalse(can_be_same(Above(9), frozenset({None})))

    def test_locks_that_conflict(self):
        conflicts = {
            (one, other) for one in Lock for other in Lock if one.conflicts(other)
        }
        free = {(one, other) for one in Lock for other in Lock} - conflicts
        self.assertEqual(
            free,
            {
                (Lock.KEY_SHARE, Lock.KEY_SHARE),
                (Lock.KEY_SHARE, Lock.SHARE),
                (Lock.SHARE, Lock.KEY_SHARE),
                (Lock.SHARE, Lock.SHARE),
                (Lock.KEY_SHARE, Lock.NO_KEY_UPDATE),
                (Lock.NO_KEY_UPDATE, Lock.KEY_SHARE),
            },
        )

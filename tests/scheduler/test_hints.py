"""Each hint mends the example that it is given for."""

from __future__ import annotations

import unittest
from functools import partial
from unittest.mock import patch

from django.db import OperationalError, connection, transaction
from django.db.models import F

from django_txtest import DfsScheduler, TxTestCase, explore
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.utils import explores, on_postgresql


def lend_if_any(pk):
    with transaction.atomic():
        book = Book.objects.get(pk=pk)
        if book.copies < 1:
            return "none left"
        book.copies -= 1
        book.save()
    return "lent"


def lend_if_any_locked(pk):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=pk)
        if book.copies < 1:
            return "none left"
        book.copies -= 1
        book.save()
    return "lent"


def count_loan(pk):
    book = Book.objects.get(pk=pk)
    book.copies += 1
    book.save(update_fields=["copies"])


def count_loan_f(pk):
    book = Book.objects.get(pk=pk)
    book.copies = F("copies") + 1
    book.save(update_fields=["copies"])


def rename(pk, suffix):
    book = Book.objects.get(pk=pk)
    Book.objects.filter(pk=pk).update(title=book.title + suffix)


def rename_locked(pk, suffix):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=pk)
        Book.objects.filter(pk=pk).update(title=book.title + suffix)


def rename_after_lock(pk, suffix):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=pk)
    Book.objects.filter(pk=pk).update(title=book.title + suffix)


def rename_after_transaction(pk, suffix):
    with transaction.atomic():
        book = Book.objects.get(pk=pk)
    Book.objects.filter(pk=pk).update(title=book.title + suffix)


@transaction.atomic
def count_fans(pk):
    """Keep in a book how many readers like it."""
    Reader.objects.create(name="Ann", favourite_id=pk)
    fans = Reader.objects.filter(favourite_id=pk).count()
    Book.objects.filter(pk=pk).update(copies=fans)


def close(pk, other):
    """Close a book unless the other one is closed: write skew."""
    with transaction.atomic():
        if Book.objects.get(pk=other).available:
            Book.objects.filter(pk=pk).update(available=False)


def close_locked(pk, other):
    with transaction.atomic():
        books = Book.objects.select_for_update().order_by("pk")
        if {book.pk: book for book in books}[other].available:
            Book.objects.filter(pk=pk).update(available=False)


def look(*pks):
    with transaction.atomic():
        return [Book.objects.get(pk=pk).copies for pk in pks]


def move(pk, to):
    with transaction.atomic():
        Book.objects.filter(pk=pk).update(copies=F("copies") - 1)
        Book.objects.filter(pk=to).update(copies=F("copies") + 1)


def with_retry(call):
    def retried():
        for _ in range(5):
            try:
                return call()
            except OperationalError:
                pass
        raise AssertionError("five failures in a row")

    return retried


@explores
class HintTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.pk = Book.objects.create(title="a", copies=1).pk
        cls.other_pk = Book.objects.create(title="b", copies=5).pk

    def assertHint(self, text, *targets, **options):
        failure = explore(*targets, **options).failure
        self.assertIsNotNone(failure)
        self.assertIn(text, failure.hint)
        self.assertNotIn("\n", failure.hint)
        self.assertIn(f"Hint: {failure.hint}", str(failure))

    def assertMended(self, *targets, **options):
        exploration = explore(*targets, **options)
        self.assertTrue(exploration.exhausted, str(exploration))
        self.assertIsNone(exploration.failure)

    @on_postgresql
    def test_lock_what_is_read(self):
        racy = partial(lend_if_any, self.pk)
        self.assertHint("select_for_update()", racy, racy)
        self.assertHint("in lend_if_any.", racy, racy)
        fixed = partial(lend_if_any_locked, self.pk)
        self.assertMended(fixed, fixed)

    @on_postgresql
    def test_lock_what_is_read_within_a_transaction(self):
        racy = [partial(rename, self.pk, suffix) for suffix in "bb"]
        self.assertHint("within transaction.atomic()", *racy)
        fixed = [partial(rename_locked, self.pk, suffix) for suffix in "bb"]
        self.assertMended(*fixed)

    @on_postgresql
    def test_lock_what_is_read_in_the_transaction_that_writes(self):
        """There is one already, but it ends before the write."""
        racy = [partial(rename_after_transaction, self.pk, suffix) for suffix in "bb"]
        self.assertHint("select_for_update()", *racy)
        self.assertHint("within transaction.atomic()", *racy)

    @on_postgresql
    def test_lock_each_read_of_what_is_lost(self):
        racy = partial(rename, self.pk, "b"), partial(lend_if_any, self.pk)
        self.assertHint("in rename ", *racy)
        self.assertHint("in lend_if_any, ", *racy)
        fixed = (
            partial(rename_locked, self.pk, "b"),
            partial(lend_if_any_locked, self.pk),
        )
        self.assertMended(*fixed)

    @on_postgresql
    def test_no_lock_on_what_a_delete_does_not_find(self):
        pk = Reader.objects.create(name="Ann").pk

        def racy(book_pk):
            with transaction.atomic():
                borrowed = Reader.objects.get(pk=pk).borrowed
                borrowed.clear()
                borrowed.add(book_pk)

        racy = [partial(racy, each) for each in (self.pk, self.other_pk)]
        self.assertHint("SERIALIZABLE", *racy)
        self.assertMended(*map(with_retry, racy), isolation_level="SERIALIZABLE")

    @on_postgresql
    def test_hold_the_lock(self):
        racy = [partial(rename_after_lock, self.pk, suffix) for suffix in "bb"]
        self.assertHint("Hold the lock that is taken at tests", *racy)
        self.assertHint("do both within one transaction.atomic()", *racy)

    @on_postgresql
    def test_let_the_database_count_only_what_it_has(self):
        book = Book(copies=1)  # it is never saved

        def racy():
            book.copies += 1
            title = Book.objects.get(pk=self.pk).title
            Book.objects.filter(pk=self.pk).update(title=title + "b")

        self.assertHint("select_for_update()", racy, racy)

    def test_let_the_database_count(self):
        racy = partial(count_loan, self.pk)
        self.assertHint("F('copies')", racy, racy)
        self.assertHint("in count_loan.", racy, racy)
        fixed = partial(count_loan_f, self.pk)
        self.assertMended(fixed, fixed)

    @on_postgresql
    def test_lock_what_others_write(self):
        pks = [(self.pk, self.other_pk), (self.other_pk, self.pk)]
        self.assertHint("select_for_update()", *[partial(close, *each) for each in pks])
        self.assertMended(*[partial(close_locked, *each) for each in pks])

    @on_postgresql
    def test_serialize_what_has_no_rows_to_lock(self):
        racy = [partial(calls.leave_shelf, pk) for pk in (self.pk, self.other_pk)]
        self.assertHint("SERIALIZABLE", *racy)
        fixed = [with_retry(call) for call in racy]
        self.assertMended(*fixed, isolation_level="SERIALIZABLE")
        self.assertHint("SERIALIZABLE", calls.number_by_max, calls.number_by_max)
        number = with_retry(calls.number_by_max)
        self.assertMended(number, number, isolation_level="SERIALIZABLE")

    def test_a_unique_constraint(self):
        """Genres have one, readers do not."""
        racy = partial(calls.get_or_create_reader, "Ann")
        self.assertHint("Have a unique constraint on ", racy, racy)
        self.assertHint(" of library_reader.", racy, racy)
        fixed = partial(calls.get_or_create_genre, "thriller")
        self.assertMended(fixed, fixed)
        self.assertFalse(
            Reader.objects.exists() or "thriller" in map(str, Genre.objects.all())
        )

    def test_a_unique_constraint_where_the_new_row_is_changed_next(self):
        """Who names a new row by its key has made it: no two calls wrote one row."""

        def racy():
            reader, _ = Reader.objects.get_or_create(name="Ann")
            Reader.objects.filter(pk=reader.pk).update(name=F("name"))

        self.assertHint("Have a unique constraint on ", racy, racy)
        if connection.vendor == "postgresql":
            self.assertHint(
                "Have a unique constraint on ", *[transaction.atomic(racy)] * 2
            )

        def fixed():
            genre, _ = Genre.objects.get_or_create(name="thriller")
            Genre.objects.filter(pk=genre.pk).update(name=F("name"))

        if connection.vendor == "postgresql":  # SQLite refuses who reads first
            self.assertMended(fixed, fixed)

    @on_postgresql
    def test_one_order_of_locks(self):
        pks = self.pk, self.other_pk
        racy = [partial(calls.lend_both, *pks), partial(calls.lend_both, *pks[::-1])]
        self.assertHint("in one order", *racy)
        self.assertMended(racy[0], racy[0])
        self.assertHint("40P01", *racy)
        self.assertMended(
            *[partial(calls.lend_both_with_retry, *call.args) for call in racy]
        )

    @on_postgresql
    def test_retry(self):
        racy = partial(calls.lend_atomic, self.other_pk)
        level = "REPEATABLE READ"
        self.assertHint("40001", racy, racy, isolation_level=level)
        fixed = with_retry(racy)
        self.assertMended(fixed, fixed, isolation_level=level)

    @on_postgresql
    def test_one_snapshot(self):
        pks = self.pk, self.other_pk
        targets = partial(look, *pks), partial(move, *pks)
        self.assertHint("REPEATABLE READ", *targets)
        self.assertMended(*targets, isolation_level="REPEATABLE READ")

    @on_postgresql
    def test_no_snapshot_for_what_writes(self):
        racy = partial(count_fans, self.pk)
        self.assertHint("SERIALIZABLE", racy, racy)
        fixed = with_retry(racy)
        self.assertMended(fixed, fixed, isolation_level="SERIALIZABLE")

    @unittest.skipUnless(
        connection.vendor == "sqlite", "other databases lock rows, and have them wait"
    )
    def test_begin_with_the_lock(self):
        racy = partial(calls.lend_atomic, self.other_pk)
        self.assertHint('"transaction_mode": "IMMEDIATE"', racy, racy)
        options = connection.settings_dict["OPTIONS"]
        with patch.dict(options, transaction_mode="IMMEDIATE"):
            self.assertMended(racy, racy)

    def test_one_transaction(self):
        def give(pk, to):
            Book.objects.filter(pk=pk).update(copies=0)
            Book.objects.filter(pk=to).update(copies=6)

        def look():
            return [Book.objects.get(pk=pk).copies for pk in (self.pk, self.other_pk)]

        targets = partial(give, self.pk, self.other_pk), partial(look)
        options = {"invariant": lambda results: results[1] != [0, 5]}
        self.assertHint("what s1 does one transaction.atomic()", *targets, **options)
        give = transaction.atomic(give)
        self.assertMended(
            partial(give, self.pk, self.other_pk), partial(look), **options
        )

    def test_nothing_where_nothing_is_known(self):
        order = []
        failure = explore(
            lambda: order.append(1),
            lambda: order.append(2),
            setup=order.clear,
            invariant=lambda results: order == [1, 2],
            # A reduced search knows no difference between what no database sees.
            scheduler=DfsScheduler(),
        ).failure
        self.assertEqual(failure.hint, "")

    def test_no_locks_on_rows_in_sqlite(self):
        racy = [partial(rename, self.pk, suffix) for suffix in "bb"]
        failure = explore(*racy).failure
        self.assertEqual(
            "select_for_update" in failure.hint, connection.vendor != "sqlite"
        )

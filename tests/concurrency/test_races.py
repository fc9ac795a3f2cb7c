from __future__ import annotations

import time
from unittest import mock

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from django_txtest.concurrency import batch, locks
from tests.library.models import Book, Genre, Reader

TRIALS = 10


def lend(pk, before_the_write=lambda: None):
    """Lose updates."""
    book = Book.objects.get(pk=pk)
    before_the_write()
    Book.objects.filter(pk=pk).update(copies=book.copies + 1)


def read_three_times():
    for _ in range(3):
        Genre.objects.filter(name="none").exists()


def write_something_else():
    Reader.objects.create(name="Ann")


def lend_in_a_transaction(pk):
    with transaction.atomic():
        lend(pk)


def lend_with_f(pk):
    Book.objects.filter(pk=pk).update(copies=F("copies") + 1)


def lend_with_a_lock(pk):
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=pk)
        book.copies += 1
        book.save()
        write_something_else()


def lend_when_free(pk):
    while True:
        try:
            with transaction.atomic():
                book = Book.objects.select_for_update(nowait=True).get(pk=pk)
                book.copies += 1
                book.save()
        except OperationalError:
            time.sleep(0.001)
        else:
            return


def lend_with_a_unique_constraint(pk):
    try:
        Genre.objects.create(name=f"lent {pk}")
    except IntegrityError:
        return
    lend_with_f(pk)


def update_in_this_order(*pks):
    with transaction.atomic():
        for pk in pks:
            lend_with_f(pk)


class RacesMixin:
    """A lost update is seen each time, and none where there is none."""

    using: str
    trials = TRIALS

    def lost(self, target, *args, calls=2, only_one=False) -> int:
        """Return in how many trials an update was lost."""
        count = 0
        for _ in range(self.trials):
            book = Book.objects.create(title="Emma", copies=0)
            call = (target, [book.pk, *args], {})
            run_concurrently([call] * calls, using=self.using).raise_errors()
            book.refresh_from_db()
            count += book.copies != (1 if only_one else calls)
        return count

    def test_lost_updates(self):
        for calls in (2, 5):
            self.assertEqual(self.lost(lend, calls=calls), self.trials)

    def test_lost_updates_with_other_reads_before_the_write(self):
        self.assertEqual(self.lost(lend, read_three_times), self.trials)

    def test_lost_updates_with_another_write_before_the_write(self):
        self.assertEqual(self.lost(lend, write_something_else), self.trials)

    def test_lost_updates_in_transactions(self):
        if connection.vendor == "sqlite":
            self.skipTest("there the second transaction is refused")
        self.assertEqual(self.lost(lend_in_a_transaction), self.trials)

    def test_safe_in_the_database(self):
        self.assertEqual(self.lost(lend_with_f, calls=5), 0)

    def test_safe_with_a_lock(self):
        if not connection.features.has_select_for_update:
            self.skipTest("SQLite has no row locks")
        self.assertEqual(self.lost(lend_with_a_lock, calls=5), 0)

    def test_safe_with_a_unique_constraint(self):
        lost = self.lost(lend_with_a_unique_constraint, calls=5, only_one=True)
        self.assertEqual(lost, 0)

    # By no time, and by no question to the server.
    @mock.patch.object(batch, "MEETINGS_TIMEOUT", 600)
    @mock.patch.object(locks.LockWatch, "blocked", return_value=[])
    def test_loops_that_do_not_wait_for_a_lock(self, blocked):
        if not connection.features.has_select_for_update_nowait:
            self.skipTest("SQLite has no row locks")
        pk = Book.objects.create(title="Emma", copies=0).pk
        calls = [(lend_when_free, [pk], {})] * 3
        run_concurrently(calls, using=self.using).raise_errors()
        self.assertEqual(Book.objects.get(pk=pk).copies, 3)

    def test_a_deadlock(self):
        if connection.vendor == "sqlite":
            self.skipTest("SQLite has one lock for all")
        one, two = (Book.objects.create(title=title).pk for title in ("Emma", "Ida"))
        results = run_concurrently(
            [(update_in_this_order, pks, {}) for pks in ([one, two], [two, one])],
            using=self.using,
        )
        [error] = results.errors
        self.assertIsInstance(error.original, OperationalError)


def lend_with_composed_sql(pk):
    book = Book.objects.get(pk=pk)
    try:
        from psycopg import sql
    except ImportError:
        from psycopg2 import sql
    update = sql.SQL("UPDATE {} SET copies = {} WHERE id = {}").format(
        sql.Identifier("library_book"), sql.Literal(book.copies + 1), sql.Literal(pk)
    )
    with connection.cursor() as cursor:
        cursor.execute(update)


class ForkTests(RacesMixin, NoAtomicMixin, TestCase):
    using = "fork"

    def test_lost_updates_by_composed_sql(self):
        if connection.vendor != "postgresql":
            self.skipTest("about psycopg")
        self.assertEqual(self.lost(lend_with_composed_sql), self.trials)

    def test_calls_that_wait_for_each_other_in_other_ways_go_on(self):
        """The second never comes to a write, as it waits for the first to finish."""
        book = Book.objects.create(title="Emma", copies=0)

        def wait_for_the_first():
            while not Book.objects.filter(pk=book.pk, copies=1).exists():
                time.sleep(0.01)

        calls = [(lend, [book.pk], {}), wait_for_the_first]
        run_concurrently(calls, using="fork", timeout=20).raise_errors()

    def test_meet_at_the_start_only(self):
        pk = Book.objects.create(title="Emma", copies=0).pk
        for meet in ("start", None):
            calls = [(lend, [pk], {}), (lend, [pk, read_three_times], {})]
            run_concurrently(calls, using="fork", meet=meet).raise_errors()


class ThreadTests(RacesMixin, NoAtomicMixin, TestCase):
    using = "threads"


class SpawnTests(RacesMixin, NoAtomicMixin, TestCase):
    using = "spawn"
    trials = 1

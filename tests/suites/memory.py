"""What works on SQLite in memory, and what is refused there."""

from __future__ import annotations

from django.db import transaction
from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from django_txtest.exceptions import DatabaseNotSupported
from tests.concurrency import targets
from tests.library.models import Book, Genre


class CommittingTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(title="Emma")

    def test_a(self):
        self.assertEqual(Genre.objects.count(), 3)
        self.assertEqual(Book.objects.get(), self.book)
        Book.objects.all().delete()
        transaction.atomic().__enter__()
        Genre.objects.all().delete()

    def test_b(self):
        self.test_a()

    def test_threads_and_processes_are_refused(self):
        for using in ("threads", "spawn"):
            message = r"in-memory SQLite.*\['TEST'\]\['NAME'\]"
            with self.assertRaisesRegex(DatabaseNotSupported, message):
                run_concurrently([targets.titles], using=using)

    def test_inline(self):
        self.assertEqual(run_concurrently([targets.titles], using="inline"), [["Emma"]])


class PlainTests(TestCase):
    def test_rows_of_migrations(self):
        self.assertEqual(Genre.objects.count(), 3)
        self.assertFalse(Book.objects.exists())

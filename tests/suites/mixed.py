"""Test classes of every kind: each expects the database as migrations left it."""

from __future__ import annotations

from django.db import connection, connections
from django.test import TestCase, TransactionTestCase

from django_txtest import NoAtomicMixin, call_concurrently
from tests.concurrency import targets
from tests.library.models import Book, Genre, Loan

GENRES = {"Crime", "Poetry", "Travel"}


class ExpectationsMixin:
    databases = ("default", "other")

    def check(self):
        for alias in self.databases:
            genres = set(Genre.objects.using(alias).values_list("name", flat=True))
            self.assertEqual(genres, GENRES, alias)
            self.assertFalse(Loan.objects.using(alias).exists(), alias)
            self.assertFalse(Book.objects.using(alias).exists(), alias)

    def spoil(self):
        for alias in self.databases:
            Genre.objects.using(alias).filter(name="Crime").delete()
            Book.objects.using(alias).create(title="Emma")
            Loan.objects.using(alias).create(pk=1, reader="Ann")


class FirstPlainTests(ExpectationsMixin, TestCase):
    def test_a(self):
        self.check()
        self.spoil()

    def test_b(self):
        self.test_a()


class FirstCommittingTests(NoAtomicMixin, FirstPlainTests):
    """The tests of a TestCase, really committed."""


class SecondCommittingTests(NoAtomicMixin, ExpectationsMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.genre = Genre.objects.create(name="Diaries")

    def test_a(self):
        self.assertEqual(Genre.objects.count(), 4)
        self.spoil()

    def test_b(self):
        self.test_a()

    def test_processes_use_the_same_databases(self):
        Book.objects.create(title="Emma")
        [names] = call_concurrently(1, targets.database_names)
        for alias in self.databases:
            self.assertEqual(names[alias], connections[alias].settings_dict["NAME"])
        self.assertEqual(call_concurrently(1, targets.titles), [["Emma"]])


class SecondPlainTests(FirstPlainTests):
    pass


class FlushingTests(TransactionTestCase):
    """Empties the tables, as Django's own do; they run after all of the above."""

    databases = ("default", "other")

    def test_a(self):
        Book.objects.create(title="Emma")
        self.assertFalse(connection.in_atomic_block)

"""Test classes that know nothing of the mixin, for TxTestRunner and --fast-reset."""

from __future__ import annotations

import os
import threading

from django.test import (
    LiveServerTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)

from django_txtest import NoAtomicMixin
from tests.library.models import Book, Genre

GENRES = {"Crime", "Poetry", "Travel"}
IS_FAST = os.environ.get("TXTEST_SUITE_FAST") == "1"


class ExpectationsMixin:
    has_mixin = IS_FAST

    def setUp(self):
        super().setUp()
        self.reader = object()  # a class of its own, and state, as any test has

    def test_a(self):
        self.assertIs(isinstance(self, NoAtomicMixin), self.has_mixin)
        self.assertIsNotNone(self.reader)
        if self.has_mixin:
            self.assertEqual(set(Genre.objects.values_list("name", flat=True)), GENRES)
        self.assertFalse(Book.objects.filter(title="Emma").exists())
        Book.objects.create(title="Emma")
        Genre.objects.all().delete()

    def test_b(self):
        self.test_a()

    def test_its_name(self):
        name = type(self).__qualname__
        self.assertEqual(self.id(), f"tests.suites.plain.{name}.test_its_name")


class CommittingTests(ExpectationsMixin, TransactionTestCase):
    pass


class BaseTests(ExpectationsMixin, TransactionTestCase):
    """One that is a base of others, and itself adds rows for all of its tests."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.book = Book.objects.create(title="Persuasion")
        cls.calls = 0

    def test_rows_of_set_up_class(self):
        if self.has_mixin:
            self.assertEqual(Book.objects.get(), self.book)
        Book.objects.all().delete()


class DerivedTests(BaseTests):
    """One that calls itself by its name."""

    def test_name(self):
        self.assertEqual(DerivedTests.book, self.book)
        DerivedTests.calls += 1
        self.assertEqual(self.calls, 1)
        self.assertFalse(hasattr(BaseTests, "calls") and BaseTests.calls)
        super(DerivedTests, self).setUp()  # noqa: UP008


@override_settings(STATIC_URL="/static/")
class ServerTests(ExpectationsMixin, LiveServerTestCase):
    def test_server(self):
        self.assertTrue(self.live_server_url)
        thread = threading.Thread(target=Book.objects.create)
        thread.start()
        thread.join()
        self.assertEqual(Book.objects.count(), 1)


class DeclaredTests(NoAtomicMixin, CommittingTests):
    has_mixin = True


class RefusingTests(ExpectationsMixin, TransactionTestCase):
    fast_reset = False
    has_mixin = False


class PlainTests(ExpectationsMixin, TestCase):
    has_mixin = False

"""Explorations, for the command that replays them; run by tests/management."""

from __future__ import annotations

from functools import partial

from django_txtest import TxTestCase
from tests.library.models import Book
from tests.scheduler import calls


class RaceTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        Book.objects.create(pk=1000, title="a", copies=5)

    def test_lost_update(self):
        lend = partial(calls.lend, 1000)
        self.assertSerializable(lend, lend)

    def test_two_explorations(self):
        self.assertSerializable(partial(calls.lend_f, 1000), int)
        self.test_lost_update()

    def test_none(self):
        self.assertEqual(Book.objects.count(), 1)

    def test_fails_before(self):
        self.fail("not yet")

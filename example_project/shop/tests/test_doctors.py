"""Write skew: each transaction keeps the rule, and both together break it."""

from unittest import skipIf

from django.db import connection
from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from shop.exceptions import LastDoctor
from shop.models import Doctor
from shop.services import fixed, racy


class GoOffCallTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        Doctor.objects.create(name="Alice")
        Doctor.objects.create(name="Bob")

    def both_go(self, go_off_call):
        Doctor.objects.update(on_call=True)
        calls = [(go_off_call, {"name": name}) for name in ("Alice", "Bob")]
        return run_concurrently(calls)

    @skipIf(connection.vendor == "sqlite", "SQLite runs one atomic block at a time")
    def test_racy_lets_both_go(self):
        self.assertEqual(self.both_go(racy.go_off_call), [None, None])
        self.assertFalse(Doctor.objects.filter(on_call=True).exists())

    def test_fixed(self):
        results = self.both_go(fixed.go_off_call)

        self.assertEqual(Doctor.objects.filter(on_call=True).count(), 1)
        self.assertEqual([type(e.original) for e in results.errors], [LastDoctor])

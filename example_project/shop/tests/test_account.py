"""A lost update: read, reckon, write."""

from decimal import Decimal

from django.db.transaction import TransactionManagementError
from django.test import TestCase, skipUnlessDBFeature

from django_txtest import NoAtomicMixin, run_concurrently
from shop.exceptions import InsufficientFunds
from shop.models import Account
from shop.services import fixed, racy


class WithdrawTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.account = Account.objects.create(owner="ada@example.com", balance=0)

    def left_of_50_after_5_times_10(self, withdraw) -> Decimal:
        Account.objects.update(balance=50)
        call = (withdraw, {"owner": "ada@example.com", "amount": Decimal(10)})
        run_concurrently([call] * 5).raise_errors()
        self.account.refresh_from_db()
        return self.account.balance

    def test_racy_loses_updates(self):
        self.assertEqual(self.left_of_50_after_5_times_10(racy.withdraw), 40)

    def test_fixed(self):
        self.assertEqual(self.left_of_50_after_5_times_10(fixed.withdraw), 0)

    def test_fixed_never_overdraws(self):
        Account.objects.update(balance=30)
        call = (fixed.withdraw, {"owner": "ada@example.com", "amount": Decimal(10)})

        results = run_concurrently([call] * 5)

        self.assertCountEqual(results.values, [20, 10, 0])
        for error in results.errors:
            self.assertIsInstance(error.original, InsufficientFunds)

    @skipUnlessDBFeature("has_select_for_update")
    def test_lock_needs_a_transaction(self):
        """In a plain TestCase this passes: there is always a transaction around."""
        with self.assertRaises(TransactionManagementError):
            fixed.lock_account("ada@example.com")

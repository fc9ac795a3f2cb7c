"""Duplicate numbers: max() + 1."""

from unittest import skipIf

from django.db import connection
from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from shop.models import Invoice, Order, Product, VatRate
from shop.services import fixed, racy


class IssueInvoiceTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        product = Product.objects.create(
            sku="ASPIRIN", price=5, vat_rate=VatRate.objects.get(name="reduced")
        )
        cls.orders = [
            Order.objects.create(product=product, customer="ada@example.com", total=6)
            for _ in range(5)
        ]

    def numbers_of_5_invoices(self, issue_invoice) -> list[int]:
        calls = [(issue_invoice, {"order_id": order.pk}) for order in self.orders]
        run_concurrently(calls).raise_errors()
        return sorted(Invoice.objects.values_list("number", flat=True))

    @skipIf(connection.vendor == "sqlite", "SQLite runs one atomic block at a time")
    def test_racy_gives_all_the_same_number(self):
        self.assertEqual(self.numbers_of_5_invoices(racy.issue_invoice), [1] * 5)

    def test_fixed(self):
        self.assertEqual(
            self.numbers_of_5_invoices(fixed.issue_invoice), [1, 2, 3, 4, 5]
        )

"""Oversold: the check is out of date when the stock is counted down."""

from unittest import mock

from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from shop.exceptions import OutOfStock, PaymentDeclined
from shop.models import Order, Product, VatRate
from shop.services import fixed, racy


class CheckoutTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.product = Product.objects.create(
            sku="ASPIRIN", price=5, vat_rate=VatRate.objects.get(name="reduced")
        )

    def stock_after_5_buy_the_last(self, checkout) -> int:
        Product.objects.update(stock=1)
        call = (checkout, {"sku": "ASPIRIN", "customer": "ada@example.com"})
        self.results = run_concurrently([call] * 5)
        self.product.refresh_from_db()
        return self.product.stock

    def test_racy_oversells(self):
        self.assertEqual(self.stock_after_5_buy_the_last(racy.checkout), -4)

    def test_fixed(self):
        self.assertEqual(self.stock_after_5_buy_the_last(fixed.checkout), 0)
        self.assertEqual(self.results.values, [Order.objects.get().pk])
        for error in self.results.errors:
            self.assertIsInstance(error.original, OutOfStock)

    def test_fixed_gives_back_what_is_not_paid_for(self):
        Product.objects.update(stock=1)
        with (
            mock.patch("shop.gateway.charge", side_effect=PaymentDeclined),
            self.assertRaises(PaymentDeclined),
        ):
            fixed.checkout("ASPIRIN", "ada@example.com")
        self.product.refresh_from_db()
        self.assertEqual(self.product.stock, 1)

"""The same races, through the pages that customers use."""

from http import HTTPStatus

from django.test import Client, TestCase
from django.urls import reverse

from django_txtest import NoAtomicMixin, run_concurrently
from shop.models import Coupon, Order, Product, VatRate


def post(page: str, data: dict[str, str]) -> int:
    """Post a form; return the status of the answer."""
    return Client().post(reverse(page), data).status_code


class PageTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        Coupon.objects.create(code="WELCOME10")
        cls.product = Product.objects.create(
            sku="ASPIRIN", price=5, vat_rate=VatRate.objects.get(name="reduced")
        )

    def post_5_times(self, page: str) -> list[int]:
        Coupon.objects.update(uses_left=1)
        Product.objects.update(stock=1)
        data = {"code": "WELCOME10", "sku": "ASPIRIN", "customer": "ada@example.com"}
        return run_concurrently([(post, (page, data), {})] * 5)

    def test_racy_redeem(self):
        self.assertEqual(self.post_5_times("racy:redeem"), [HTTPStatus.OK] * 5)

    def test_fixed_redeem(self):
        self.assertEqual(
            sorted(self.post_5_times("fixed:redeem")),
            [HTTPStatus.OK] + [HTTPStatus.CONFLICT] * 4,
        )

    def test_racy_checkout(self):
        self.assertEqual(self.post_5_times("racy:checkout"), [HTTPStatus.OK] * 5)

    def test_fixed_checkout(self):
        self.assertEqual(
            sorted(self.post_5_times("fixed:checkout")),
            [HTTPStatus.OK] + [HTTPStatus.CONFLICT] * 4,
        )
        self.assertEqual(Order.objects.count(), 1)

    def test_unknown_coupon(self):
        data = {"code": "NONESUCH", "customer": "ada@example.com"}
        self.assertEqual(post("fixed:redeem", data), HTTPStatus.NOT_FOUND)

"""A double redemption: check, then act."""

from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from shop.exceptions import CouponUsedUp
from shop.models import Coupon
from shop.services import fixed, racy


class RedeemTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.coupon = Coupon.objects.create(code="WELCOME10")

    def redeem_at_the_same_time(self, redeem):
        Coupon.objects.update(uses_left=1)
        call = (redeem, {"code": "WELCOME10", "customer": "ada@example.com"})
        return run_concurrently([call] * 5)

    def test_racy_redeems_it_more_than_once(self):
        self.assertEqual(self.redeem_at_the_same_time(racy.redeem), [10] * 5)

    def test_fixed(self):
        results = self.redeem_at_the_same_time(fixed.redeem)

        self.assertEqual(results.values, [10])
        self.assertEqual(
            [type(error.original) for error in results.errors], [CouponUsedUp] * 4
        )
        self.coupon.refresh_from_db()
        self.assertEqual(self.coupon.uses_left, 0)

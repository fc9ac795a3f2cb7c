"""The confirmation goes out when the order is there to stay, and not before."""

from django.core import mail
from django.db import transaction
from django.test import TestCase

from django_txtest import NoAtomicMixin
from shop.models import Order, Product, VatRate
from shop.services import fixed


class ConfirmationTests(NoAtomicMixin, TestCase):
    @classmethod
    def setUpTestData(cls):
        Product.objects.create(
            sku="ASPIRIN",
            price=5,
            stock=1,
            vat_rate=VatRate.objects.get(name="reduced"),
        )

    def test_sent_at_the_commit(self):
        with self.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            fixed.checkout("ASPIRIN", "ada@example.com")
            self.assertEqual(mail.outbox, [])

        self.assertEqual(len(callbacks), 1)
        [message] = mail.outbox
        self.assertEqual(message.to, ["ada@example.com"])

    def test_not_sent_after_a_rollback(self):
        with self.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            fixed.checkout("ASPIRIN", "ada@example.com")
            transaction.set_rollback(True)

        self.assertEqual(callbacks, [])
        self.assertEqual(mail.outbox, [])
        self.assertFalse(Order.objects.exists())

"""Duplicate rows: get_or_create without a unique constraint."""

from django.test import TestCase

from django_txtest import NoAtomicMixin, run_concurrently
from shop.models import NewsletterSignup, NewsletterSubscription
from shop.services import fixed, racy


class SubscribeTests(NoAtomicMixin, TestCase):
    def subscribe_at_the_same_time(self, subscribe):
        call = (subscribe, {"email": "ada@example.com"})
        return run_concurrently([call] * 5)

    def test_racy_makes_duplicates(self):
        self.subscribe_at_the_same_time(racy.subscribe)

        self.assertEqual(NewsletterSignup.objects.count(), 5)
        with self.assertRaises(NewsletterSignup.MultipleObjectsReturned):
            racy.subscribe("ada@example.com")

    def test_fixed(self):
        results = self.subscribe_at_the_same_time(fixed.subscribe)

        subscription = NewsletterSubscription.objects.get()
        self.assertEqual(results, [subscription.pk] * 5)

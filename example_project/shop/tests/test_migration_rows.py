"""What migrations put in the database is there before each test and after it."""

from django.test import TestCase

from django_txtest import NoAtomicMixin
from shop.models import InvoiceCounter, VatRate


class MigrationRowsTests(NoAtomicMixin, TestCase):
    """Each test finds the rows, and really changes or deletes them."""

    def check_rows(self):
        self.assertEqual(
            list(VatRate.objects.order_by("pk").values_list("name", flat=True)),
            ["standard", "reduced", "zero"],
        )
        self.assertEqual(InvoiceCounter.objects.get().last_number, 0)

    def test_delete(self):
        self.check_rows()
        VatRate.objects.all().delete()
        InvoiceCounter.objects.all().delete()

    def test_update(self):
        self.check_rows()
        VatRate.objects.update(percent=99)
        InvoiceCounter.objects.update(last_number=99)

    def test_add(self):
        self.check_rows()
        VatRate.objects.create(name="luxury", percent=33)

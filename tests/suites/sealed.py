"""Tests under the TXTEST_READONLY of the settings module, whatever it protects by."""

from __future__ import annotations

from django.conf import settings
from django.db import connection
from django.test import TestCase, TransactionTestCase

from django_txtest import NoAtomicMixin, ReadOnlyViolation, allow_writes
from tests.vault.models import Entry, Foreign

INSERT = "INSERT INTO vault_foreign (text) VALUES ('x')"


class SealedMixin:
    fixtures = ("vault",)

    def test_what_migrations_and_fixtures_wrote(self):
        texts = list(Entry.objects.order_by("pk").values_list("text", flat=True))
        self.assertEqual(texts, ["from a migration", "from a fixture"])

    def test_writes_of_the_orm(self):
        self.check(lambda: Foreign.objects.create(text="x"))

    def test_writes_of_sql(self):
        def insert():
            with connection.cursor() as cursor:
                cursor.execute(INSERT)

        self.check(insert)

    def check(self, write):
        with self.assertRaises(ReadOnlyViolation) as raised:
            write()
        [part] = settings.TXTEST_READONLY.keys() - {"level"}
        self.assertEqual(raised.exception.setting, f'TXTEST_READONLY["{part}"]')
        self.assertFalse(Foreign.objects.exists())
        with allow_writes(Foreign):
            write()
        self.assertEqual(Foreign.objects.count(), 1)


class PlainTests(SealedMixin, TestCase):
    pass


class FlushingTests(SealedMixin, TransactionTestCase):
    reset_sequences = True
    serialized_rollback = True


class CommittingTests(NoAtomicMixin, SealedMixin, TestCase):
    reset_sequences = True

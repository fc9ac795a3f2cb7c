"""Of Django 6.1: foreign keys on which the database itself acts."""

from __future__ import annotations

import unittest

from django.db import connection, models
from django.test import TransactionTestCase
from django.test.utils import isolate_apps

from django_txtest import ReadOnlyModelMixin, ReadOnlyViolation, allow_writes
from django_txtest.readonly import targets
from tests.readonly.support import LEVELS, at_level


@unittest.skipUnless(hasattr(models, "DB_CASCADE"), "New in Django 6.1.")
@unittest.skipIf(connection.vendor == "mysql", "The levels are for other vendors.")
class DatabaseCascadeTests(TransactionTestCase):
    available_apps = None

    @isolate_apps("tests.vault")
    def test_refused(self):
        class Root(models.Model):
            class Meta:
                app_label = "vault"

        class Branch(models.Model):
            root = models.ForeignKey(Root, models.DB_CASCADE)

            class Meta:
                app_label = "vault"

        class Leaf(ReadOnlyModelMixin, models.Model):
            branch = models.ForeignKey(Branch, models.DB_CASCADE)

            class Meta:
                app_label = "vault"

        made = (Root, Branch, Leaf)
        with connection.schema_editor() as editor:
            for model in made:
                editor.create_model(model)
        known, targets.apps = targets.apps, Root._meta.apps
        try:
            self.check(*made)
        finally:
            targets.apps = known
            with connection.schema_editor() as editor:
                for model in reversed(made):
                    editor.delete_model(model)

    def check(self, root, branch, leaf):
        bare = root.objects.create()
        branch.objects.create(root=bare)
        full = root.objects.create()
        with allow_writes():
            leaf.objects.create(branch=branch.objects.create(root=full))
        for level in LEVELS:
            with self.subTest(level), at_level(level):
                for attempt in (
                    full.delete,
                    branch.objects.filter(root=full).delete,
                    root.objects.filter(pk=full.pk).delete,
                ):
                    with self.assertRaises(ReadOnlyViolation) as raised:
                        attempt()
                    self.assertIs(raised.exception.model, leaf)
                if level != "orm":
                    with (
                        self.assertRaises(ReadOnlyViolation),
                        connection.cursor() as cursor,
                    ):
                        cursor.execute("DELETE FROM vault_root")
        self.assertEqual(leaf.objects.count(), 1)
        bare.delete()  # nothing read-only is reached
        with allow_writes():
            full.delete()
        self.assertEqual(leaf.objects.count(), 0)

"""What no guard is to stop: migrations, flushes, resets, fixtures of tests."""

from __future__ import annotations

from django.apps import apps as global_apps
from django.core import serializers
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_txtest import NoAtomicMixin, ReadOnlyViolation, allow_writes
from django_txtest.maintenance import in_maintenance, maintenance
from django_txtest.runner import FastResetTestCase
from tests.readonly.support import LEVELS
from tests.utils import InnerTestsMixin
from tests.vault.models import Entry, Foreign

#: Whatever is written, anywhere, would be refused.
EVERYTHING = [
    {"databases": ["default"], "level": level}
    for level in (LEVELS if connection.vendor != "mysql" else ("orm",))
]


def texts():
    return set(Entry.objects.values_list("text", flat=True))


class MigratedTests(TestCase):
    def test_a_migration_wrote_to_a_read_only_model(self):
        self.assertEqual(texts(), {"from a migration"})


class FixturesTests(InnerTestsMixin, TransactionTestCase):
    """Fixtures are loaded; the tests that have them are guarded."""

    available_apps = None

    def check(self, *bases, **attributes):
        def test(self):
            self.assertIn("from a fixture", texts())
            assert not in_maintenance()
            with self.assertRaises(ReadOnlyViolation):
                Entry.objects.create(text="x")

        inner = type("Inner", bases, {"test": test, "test_2": test, **attributes})
        for value in EVERYTHING:
            with self.subTest(value), override_settings(TXTEST_READONLY=value):
                self.assertPasses(inner)

    def test_of_a_test_case(self):
        self.check(TestCase, fixtures=["vault"])

    def test_of_a_transaction_test_case(self):
        self.check(TransactionTestCase, fixtures=["vault"])

    def test_of_one_that_resets_sequences(self):
        self.check(TransactionTestCase, fixtures=["vault"], reset_sequences=True)

    def test_with_the_mixin(self):
        self.check(NoAtomicMixin, TestCase, fixtures=["vault"])
        self.check(NoAtomicMixin, TransactionTestCase, fixtures=["vault"])

    def test_with_the_fast_reset(self):
        self.check(FastResetTestCase, fixtures=["vault"])


class ResetTests(InnerTestsMixin, TransactionTestCase):
    """The rows of read-only models are put back, and emptied by a flush."""

    def test_reset(self):
        class Inner(NoAtomicMixin, TestCase):
            databases = ("default",)

            @classmethod
            def setUpTestData(cls):
                with allow_writes():
                    Entry.objects.create(text="of the class")

            def check(self):
                self.assertEqual(texts(), {"from a migration", "of the class"})
                with allow_writes():
                    Entry.objects.all().delete()
                    Foreign.objects.create(text="x")

            test_1 = test_2 = test_3 = check

        for value in EVERYTHING:
            with self.subTest(value), override_settings(TXTEST_READONLY=value):
                self.assertPasses(Inner)
        self.assertEqual(texts(), {"from a migration"})

    def test_checkpoints(self):
        """As between the executions of an exploration, and repeated calls."""

        class Inner(NoAtomicMixin, TestCase):
            databases = ("default",)

            def test(self):
                with self._layers.checkpoint() as put_back:
                    for _ in range(2):
                        with allow_writes():
                            Entry.objects.update(text="changed")
                        put_back()
                        self.assertEqual(texts(), {"from a migration"})

        for value in EVERYTHING:
            with self.subTest(value), override_settings(TXTEST_READONLY=value):
                self.assertPasses(Inner)

    def test_flush(self):
        class Inner(TransactionTestCase):
            def test(self):
                with allow_writes():
                    Entry.objects.create(text="x")

        class Restored(NoAtomicMixin, TestCase):
            def test(self):
                self.assertEqual(texts(), {"from a migration"})

        for value in EVERYTHING:
            with self.subTest(value), override_settings(TXTEST_READONLY=value):
                self.assertPasses(Inner)
                self.assertEqual(texts(), set())
                self.assertPasses(Restored)


class MaintenanceTests(TestCase):
    def test_the_executor_of_migrations(self):
        for value in EVERYTHING:
            with self.subTest(value), override_settings(TXTEST_READONLY=value):
                executor = MigrationExecutor(connection)
                executor.migrate(executor.loader.graph.leaf_nodes())

    def test_commands(self):
        for value in EVERYTHING:
            with self.subTest(value), override_settings(TXTEST_READONLY=value):
                call_command("migrate", "vault", verbosity=0)
                with self.assertRaises(ReadOnlyViolation):
                    call_command("loaddata", "vault", verbosity=0)

    def test_deserialisers_are_not_exempt(self):
        text = serializers.serialize("json", [Entry(pk=1, text="x")])
        [deserialized] = serializers.deserialize("json", text)
        with self.assertRaises(ReadOnlyViolation):
            deserialized.save()
        connection.creation.deserialize_db_from_string(text)  # of the test runner
        self.assertIn("x", texts())

    def test_it_ends(self):
        with maintenance():
            Entry.objects.create(text="x")
            with CaptureQueriesContext(connection):
                self.assertTrue(in_maintenance())
        self.assertFalse(in_maintenance())
        with self.assertRaises(ReadOnlyViolation):
            Entry.objects.create(text="x")

    def test_historical_models(self):
        executor = MigrationExecutor(connection)
        state = executor.loader.project_state(("vault", "0001_initial"))
        old = state.apps.get_model("vault", "Entry")
        self.assertIsNot(old, global_apps.get_model("vault", "Entry"))
        with self.assertRaises(ReadOnlyViolation):
            old.objects.create(text="x")
        with maintenance():
            old.objects.create(text="x")

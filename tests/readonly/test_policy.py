from __future__ import annotations

import io
import json
import subprocess
import sys
import types

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, connections, models
from django.test import SimpleTestCase, TestCase, override_settings
from django.test.utils import isolate_apps

from django_txtest import ReadOnlyModelMixin, ReadOnlyViolation, forbid_writes
from django_txtest.readonly import protection_of, readonly_models
from django_txtest.readonly.checks import check_managers, check_readonly
from django_txtest.readonly.hooks import install_app_hooks, install_hooks
from tests.utils import ROOT
from tests.vault.models import (
    Account,
    Child,
    Entry,
    EntryProxy,
    Foreign,
    ForeignTag,
    Parent,
    Review,
    SpecialEntry,
    Tag,
)

WITHOUT_OUR_APP = """
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
from django.core.management import call_command
from django.db import connection, models
from django_txtest import ReadOnlyModelMixin, ReadOnlyViolation, allow_writes

class Job(ReadOnlyModelMixin, models.Model):
    class Meta:
        app_label = "contenttypes"

def fill(**kwargs):
    Job.objects.create()

with connection.schema_editor() as editor:
    editor.create_model(Job)
models.signals.post_migrate.connect(fill)
call_command("migrate", verbosity=0)
assert Job.objects.count() == 1
try:
    Job.objects.all().delete()
except ReadOnlyViolation:
    pass
else:
    raise AssertionError("not refused")
with allow_writes(Job):
    Job.objects.all().delete()
"""


def setting_of(model, alias="default"):
    protection = protection_of(model, alias)
    return protection and protection.setting


def readonly(**parts):
    return override_settings(TXTEST_READONLY=parts)


class OrderTests(SimpleTestCase):
    """Model before app, app before database."""

    def test_declared(self):
        self.assertEqual(setting_of(Entry), "VAULT_READONLY")
        self.assertEqual(setting_of(EntryProxy), "VAULT_READONLY")
        self.assertEqual(setting_of(SpecialEntry), "VAULT_READONLY")
        self.assertEqual(setting_of(Entry.tags.through), "VAULT_READONLY")
        self.assertEqual(setting_of(Review), "TXTEST_READONLY")
        self.assertIsNone(setting_of(Account))
        self.assertIsNone(setting_of(Tag))

    def test_the_flag_of_a_model(self):
        with override_settings(VAULT_READONLY=False):
            self.assertIsNone(setting_of(Entry))
            self.assertIsNone(setting_of(Entry.tags.through))
            self.assertEqual(setting_of(Review), "TXTEST_READONLY")
            with readonly(apps=["vault"], databases=["default"]):
                self.assertIsNone(setting_of(Entry))
                self.assertEqual(setting_of(Review), "TXTEST_READONLY")

    def test_it_needs_no_signal(self):
        settings.VAULT_READONLY = False
        try:
            self.assertIsNone(setting_of(Entry))
        finally:
            del settings.VAULT_READONLY
        self.assertEqual(setting_of(Entry), "VAULT_READONLY")

    def test_a_setting_that_is_changed_in_place(self):
        with readonly(models=["vault.Foreign"]):
            self.assertIsNotNone(setting_of(Foreign))
            settings.TXTEST_READONLY["models"].clear()
            self.assertIsNone(setting_of(Foreign))

    def test_models(self):
        with readonly(models=["vault.Foreign"]):
            self.assertEqual(setting_of(Foreign), 'TXTEST_READONLY["models"]')
            self.assertIsNone(setting_of(ForeignTag))
        with readonly(models={"vault.review": False}, apps=["vault"]):
            self.assertIsNone(setting_of(Review))
            self.assertEqual(setting_of(Foreign), 'TXTEST_READONLY["apps"]')

    def test_apps(self):
        with readonly(apps={"vault": False}, databases=["default"]):
            self.assertIsNone(setting_of(Foreign))
            self.assertEqual(setting_of(Entry), "VAULT_READONLY")

    def test_databases(self):
        with readonly(databases=["replica"]):
            self.assertIsNone(setting_of(Foreign))
            self.assertEqual(
                setting_of(Foreign, "replica"), 'TXTEST_READONLY["databases"]'
            )

    def test_everything(self):
        with override_settings(TXTEST_READONLY=True):
            self.assertEqual(setting_of(Foreign), "TXTEST_READONLY")
        with override_settings(TXTEST_READONLY=False):
            self.assertIsNone(setting_of(Entry))
            with override_settings(VAULT_READONLY=True):
                self.assertIsNone(setting_of(Entry))

    def test_somebody_elses(self):
        take_back = readonly_models("vault.Foreign", setting="FOREIGN_READONLY")
        self.addCleanup(take_back)
        self.assertEqual(setting_of(Foreign), "FOREIGN_READONLY")
        self.assertIsNone(setting_of(ForeignTag))
        with override_settings(FOREIGN_READONLY=False):
            self.assertIsNone(setting_of(Foreign))
        take_back()
        self.assertIsNone(setting_of(Foreign))
        self.addCleanup(readonly_models("vault"))
        self.assertEqual(setting_of(Account), "TXTEST_READONLY")
        self.assertEqual(setting_of(Entry), "VAULT_READONLY")

    def test_values_that_cannot_be_used(self):
        for value, message in (
            ("all", "must be a dict or bool, not 'all'"),
            ({"model": []}, "has the unknown key 'model'"),
            ({"models": "vault.Entry"}, "must be a list of names"),
            ({"models": [{"vault.Entry": False}]}, "must be a list of names"),
            ({"apps": [1]}, "must be a list of names"),
            ({"level": "deep"}, "one of orm, sql, db, not 'deep'"),
        ):
            with (
                self.subTest(value),
                override_settings(TXTEST_READONLY=value),
            ):
                with self.assertRaisesMessage(ImproperlyConfigured, message):
                    protection_of(Foreign, "default")
                [error] = check_readonly(None)
                self.assertEqual(error.id, "txtest.E002")
                self.assertIn(message, error.msg)


class InheritedTests(TestCase):
    def test_what_is_written_with_a_child(self):
        with readonly(models=["vault.Parent"]):
            child = Child(name="c", extra="e")
            with self.assertRaises(ReadOnlyViolation) as raised:
                child.save()
            self.assertIs(raised.exception.model, Parent)
        with readonly(models=["vault.Child"]):
            Parent.objects.create(name="p")
            with self.assertRaises(ReadOnlyViolation) as raised:
                Child.objects.create(name="c")
            self.assertIs(raised.exception.model, Child)

    def test_a_library_without_our_app(self):
        """The mixin is enough: it installs what it needs."""
        before = models.Model.save_base, models.QuerySet.update
        install_hooks()
        install_app_hooks()
        self.assertEqual((models.Model.save_base, models.QuerySet.update), before)
        self.assertTrue(models.QuerySet.update.alters_data)
        self.assertTrue(models.QuerySet.delete.queryset_only)
        completed = subprocess.run(
            [sys.executable, "-c", WITHOUT_OUR_APP],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual((completed.returncode, completed.stderr), (0, ""))

    @isolate_apps("tests.vault")
    def test_a_model_made_later(self):
        class Later(ReadOnlyModelMixin, models.Model):
            class Meta:
                app_label = "vault"

        with self.assertRaises(ReadOnlyViolation):
            Later.objects.update(id=1)
        with self.assertRaises(ReadOnlyViolation):
            Later().save()


class ChecksTests(SimpleTestCase):
    def test_all_is_well(self):
        self.assertEqual(check_readonly(None), [])
        self.assertEqual(check_managers(None), [])

    def test_they_are_registered(self):
        with readonly(models=["vault.Nothing"]):
            found = checks.run_checks(databases=[])  # Django's own ask none of them
        self.assertIn("txtest.E002", [message.id for message in found])

    def test_unknown_names(self):
        self.addCleanup(readonly_models("nothing.Model"))
        self.addCleanup(readonly_models("nothing"))
        with readonly(
            models=["vault.Entry", "vault.Nothing", "vault"],
            apps=["vault", "none"],
            databases=["default", "gone"],
        ):
            found = [(error.id, error.msg) for error in check_readonly(None)]
        expected = [
            "TXTEST_READONLY[\"models\"] names 'vault.nothing', "
            "and there is no such model.",
            "TXTEST_READONLY[\"models\"] names 'vault', and there is no such model.",
            "TXTEST_READONLY[\"apps\"] names 'none', and there is no such app.",
            "readonly_models() names 'nothing.model', and there is no such model.",
            "readonly_models() names 'nothing', and there is no such app.",
            "TXTEST_READONLY[\"databases\"] names 'gone', which DATABASES lacks.",
        ]
        self.assertEqual(found, [("txtest.E002", message) for message in expected])

    def test_a_level_that_the_vendor_cannot_give(self):
        connection.vendor, vendor = "oracle", connection.vendor
        self.addCleanup(lambda: delattr(connections["default"], "vendor"))
        del vendor
        with readonly(level="sql"):
            errors = check_readonly(None)
        [error] = [e for e in errors if "'default'" in e.msg]
        self.assertEqual(error.id, "txtest.E003")
        self.assertIn("'sql', which cannot be had on the database 'default'", error.msg)
        with readonly(level="orm"):
            self.assertEqual(check_readonly(None), [])

    @isolate_apps("tests.vault")
    def test_managers_that_do_not_guard(self):
        class Own(models.QuerySet):
            def update(self, **kwargs):
                return 0

            def bulk_create(self, objs, **kwargs):
                return super().bulk_create(objs, **kwargs)

        class OwnManager(models.Manager):
            def bulk_update(self, objs, fields):
                return 0

        class Odd(ReadOnlyModelMixin, models.Model):
            plain = models.Manager()
            own = Own.as_manager()
            other = OwnManager()

            class Meta:
                app_label = "vault"

        class Free(models.Model):
            own = Own.as_manager()

            class Meta:
                app_label = "vault"

        apps = Odd._meta.apps
        from django_txtest.readonly import checks as module

        module_apps, module.apps = module.apps, apps
        try:
            warnings = check_managers(None)
        finally:
            module.apps = module_apps
        self.assertEqual({w.id for w in warnings}, {"txtest.W004"})
        self.assertEqual(
            [w.msg.partition(", but ")[2].partition(" does")[0] for w in warnings],
            ["own.update", "other.bulk_update"],
        )
        self.assertEqual({w.obj for w in warnings}, {Odd})


class CommandTests(SimpleTestCase):
    def run_command(self, *arguments):
        stdout, stderr = io.StringIO(), io.StringIO()
        try:
            call_command("txtest_readonly", *arguments, stdout=stdout, stderr=stderr)
        except SystemExit as error:
            return error.code, stdout.getvalue(), stderr.getvalue()
        return 0, stdout.getvalue(), stderr.getvalue()

    def test_table(self):
        with readonly(models=["vault.Foreign"]):
            _, stdout, _ = self.run_command()
        rows = [line.split() for line in stdout.splitlines()]
        self.assertEqual(rows[0], ["MODEL", "DATABASE", "LEVEL", "SETTING"])
        self.assertIn(["vault.Entry", "default", "orm", "VAULT_READONLY"], rows)
        self.assertIn(
            ["vault.Foreign", "other", "orm", 'TXTEST_READONLY["models"]'], rows
        )

    def test_nothing(self):
        with override_settings(TXTEST_READONLY=False):
            self.assertEqual(
                self.run_command("--expect"), (0, "Nothing is read-only.\n", "")
            )

    def test_json(self):
        with readonly(databases=["replica"]):
            _, stdout, _ = self.run_command("--json")
        lines = json.loads(stdout)
        self.assertIn(
            {
                "model": "*",
                "database": "replica",
                "level": "orm",
                "setting": 'TXTEST_READONLY["databases"]',
            },
            lines,
        )
        self.assertNotIn("*", [x["model"] for x in lines if x["database"] != "replica"])

    def test_as_expected(self):
        expected = ["vault.Entry", "vault.specialentry", "vault.Review", "vault.Mark"]
        self.assertEqual(self.run_command("--expect", *expected)[0], 0)
        self.assertEqual(self.run_command("--expect", "vault.*")[0], 0)
        self.assertEqual(self.run_command("--expect", "*=orm")[0], 0)

    def test_not_as_expected(self):
        code, _, stderr = self.run_command(
            "--expect", "vault.*@default=orm", "vault.*@other", "vault.Account"
        )
        self.assertEqual(code, 1)
        self.assertIn("Not read-only, but expected to be: vault.Account\n", stderr)
        self.assertIn(
            "Read-only, but not expected to be: vault.Entry@replica=orm\n", stderr
        )
        self.assertEqual(self.run_command("--expect")[0], 1)
        self.assertEqual(self.run_command("--expect", "vault.*=db")[0], 1)

    def test_the_level_that_can_be_had(self):
        with readonly(level="db"):
            _, stdout, _ = self.run_command("--json")
        level = "orm" if connection.vendor == "mysql" else "db"
        self.assertEqual({line["level"] for line in json.loads(stdout)}, {level})


class GuardTests(TestCase):
    def test_statements_of_a_scope(self):
        """A scope may go deeper than the setting."""
        if connection.vendor == "mysql":
            self.skipTest("The levels are for other vendors.")
        with (
            forbid_writes(Foreign, level="sql"),
            self.assertRaises(ReadOnlyViolation) as raised,
            connection.cursor() as cursor,
        ):
            cursor.execute("DELETE FROM vault_foreign")
        self.assertIs(raised.exception.model, Foreign)

    def test_a_connection_has_the_guard_once(self):
        names = [getattr(w, "__name__", "") for w in connection.execute_wrappers]
        self.assertEqual(names.count("guard_statement"), 1)
        self.assertIsInstance(connection.execute_wrappers[0], types.FunctionType)

    def test_a_connection_that_no_setting_names(self):
        """A copy is guarded as its original is."""
        if connection.vendor == "mysql":
            self.skipTest("The levels are for other vendors.")
        copy = connection.copy(alias="copy")
        self.addCleanup(copy.close)
        for level in ("sql", "db"):
            with (
                self.subTest(level),
                readonly(models=["vault.Foreign"], level=level),
                copy.cursor() as cursor,
            ):
                cursor.execute("SELECT 1")
                with self.assertRaises(ReadOnlyViolation):
                    cursor.execute("DELETE FROM vault_foreign")

    def test_the_connection_that_makes_databases(self):
        if connection.vendor != "postgresql":
            self.skipTest("PostgreSQL has a database of its own for that.")
        for level in ("sql", "db"):
            with (
                self.subTest(level),
                readonly(databases=["default"], level=level),
                connection._nodb_cursor() as cursor,
            ):
                cursor.execute("CREATE TEMPORARY TABLE t ()")

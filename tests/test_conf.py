from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase, override_settings

from django_txtest.apps import check_settings
from django_txtest.conf import settings


class SettingsTests(SimpleTestCase):
    def test_defaults(self):
        self.assertEqual(settings.call_timeout, 30.0)
        usual = "fork" if sys.platform == "linux" else "threads"
        self.assertEqual(settings.call_using, usual)
        self.assertEqual(settings.lock_timeout, 10.0)
        self.assertEqual(settings.step_timeout, 5.0)
        self.assertEqual(settings.transcript, "auto")
        self.assertEqual(check_settings(None), [])

    @override_settings(TXTEST_LOCK_TIMEOUT=3)
    def test_read_when_used(self):
        self.assertEqual(settings.lock_timeout, 3.0)

    @override_settings(TXTEST_LOCK_TIMEOUT=0, TXTEST_CALL_USING="magic")
    def test_values_that_cannot_be_used(self):
        with self.assertRaisesRegex(ImproperlyConfigured, "TXTEST_LOCK_TIMEOUT.*0"):
            _ = settings.lock_timeout
        with self.assertRaisesRegex(
            ImproperlyConfigured, "fork, threads, spawn, inline"
        ):
            _ = settings.call_using
        ids = [message.id for message in checks.run_checks()]
        self.assertEqual(ids, ["txtest.E001", "txtest.E001"])

    def test_the_folder_of_reports(self):
        folder = settings.report_dir
        self.assertEqual(folder.parent, Path(tempfile.gettempdir()))
        self.assertTrue(folder.name.startswith("django-txtest-"))
        with override_settings(TXTEST_REPORT_DIR="build/pictures"):
            self.assertEqual(settings.report_dir, Path.cwd() / "build" / "pictures")
        with override_settings(TXTEST_REPORT_DIR=Path("/reports")):
            self.assertEqual(settings.report_dir, Path("/reports"))
        with override_settings(TXTEST_REPORT_DIR=None):
            self.assertIsNone(settings.report_dir)
        for value in ("", 7, ["a"]):
            with (
                override_settings(TXTEST_REPORT_DIR=value),
                self.assertRaisesRegex(ImproperlyConfigured, "path of a folder"),
            ):
                _ = settings.report_dir

    @override_settings(TXTEST_CALL_TIMEOUT=True)
    def test_a_boolean_is_no_number_of_seconds(self):
        with self.assertRaises(ImproperlyConfigured):
            _ = settings.call_timeout

"""Runs whole suites under a TXTEST_READONLY that the settings module has."""

from __future__ import annotations

import json
import unittest

from django.db import DEFAULT_DB_ALIAS, connection

from tests.utils import SuitesMixin

PARTS = {
    "models": ["vault.Foreign"],
    "apps": ["vault"],
    "databases": [DEFAULT_DB_ALIAS],
}


@unittest.skipIf(connection.vendor == "mysql", "The levels are for other vendors.")
class SuiteTests(SuitesMixin, unittest.TestCase):
    """Test databases are made, migrated and filled; what tests write is refused."""

    def run_sealed(self, part, level, *options):
        setting = {part: PARTS[part], "level": level}
        self.environment["TXTEST_SUITE_READONLY"] = json.dumps(setting)
        self.run_suite(*options, module="suites.sealed", count=9)

    def test_models(self):
        self.run_sealed("models", "sql")
        self.run_sealed("models", "db")

    def test_apps(self):
        self.run_sealed("apps", "sql")
        self.run_sealed("apps", "db")

    def test_databases(self):
        self.run_sealed("databases", "sql")
        self.run_sealed("databases", "db")

    def test_in_parallel(self):
        self.run_sealed("models", "sql", "--parallel", "2")
        self.run_sealed("databases", "db", "--parallel", "2")

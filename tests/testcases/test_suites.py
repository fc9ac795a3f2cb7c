"""Runs whole suites, in processes of their own, the ways that runners run them."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest

from django.db import connections

from tests.utils import ROOT, SuitesMixin


class SuiteTests(SuitesMixin, unittest.TestCase):
    def test_in_order_and_in_reverse(self):
        self.run_suite(count=14)
        self.run_suite("--reverse", count=14)

    def test_shuffled(self):
        for seed in range(3):
            self.run_suite("--shuffle", str(seed), count=14)

    def test_in_parallel(self):
        self.run_suite("--parallel", "2", count=14)

    def test_a_run_that_was_killed(self):
        for name in ("FirstCommittingTests", "SecondCommittingTests"):
            self.environment["TXTEST_SUITE_KILL"] = name
            killed = self.run_process("--keepdb")
            self.assertEqual(killed.returncode, -9, killed.stderr)
            del self.environment["TXTEST_SUITE_KILL"]
            self.run_suite("--keepdb", count=14)
        self.run_suite(count=14)

    def test_with_a_role_that_is_no_superuser(self):
        if connections["default"].vendor != "postgresql":
            self.skipTest("a role of PostgreSQL")
        role = f"txtest_plain_{os.getpid()}"
        with connections["default"].cursor() as cursor:
            cursor.execute(f"CREATE ROLE {role} LOGIN CREATEDB")
            try:
                self.environment["TXTEST_SUITE_USER"] = role
                self.run_suite(count=14)
                self.run_suite(module="reset")
            finally:
                cursor.execute(f"DROP ROLE {role}")

    def test_with_an_account_of_few_privileges(self):
        if connections["default"].vendor != "mysql":
            self.skipTest("an account of MariaDB")
        user = f"plain_{os.getpid()}"
        self.environment["TXTEST_SUITE_USER"] = user
        with connections["default"].cursor() as cursor:
            cursor.execute(f"CREATE USER {user}@localhost")
            try:
                # It may not know of the sessions of others.
                databases = r"`test\_suite\_%`.*"
                cursor.execute(f"GRANT ALL ON {databases} TO {user}@localhost")
                self.run_suite(count=14)
                cursor.execute(f"REVOKE TRIGGER ON {databases} FROM {user}@localhost")
                self.run_suite(module="suites.mixed.SecondCommittingTests", count=3)
            finally:
                cursor.execute(f"DROP USER {user}@localhost")

    def test_sqlite_in_memory(self):
        self.environment["DJANGO_SETTINGS_MODULE"] = "tests.suites.memory_settings"
        self.run_suite(module="suites.memory", count=5)
        self.run_suite("--reverse", module="suites.memory", count=5)

    def test_calls_where_databases_are_refused(self):
        """As pytest-django refuses them to a test that has no mark for them."""
        script = """
import django
django.setup()
from django.db.backends.base.base import BaseDatabaseWrapper
def refuse(self):
    raise RuntimeError("no database for you")
BaseDatabaseWrapper.ensure_connection = refuse
from django_txtest import call_concurrently
from tests.concurrency import targets
call_concurrently(1, targets.add)
"""
        completed = subprocess.run(
            [sys.executable, "-c", script],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertIn("RuntimeError: no database for you", completed.stderr)
        self.assertNotIn("concurrent_call_wrapper", completed.stderr)

    def test_keepdb_twice(self):
        for _ in range(2):
            self.run_suite("--keepdb", count=14)
        # The databases are usable by a run without it, which drops them.
        self.run_suite("--reverse", count=14)

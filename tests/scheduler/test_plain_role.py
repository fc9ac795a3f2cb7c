from __future__ import annotations

import os
import unittest

from django.db import connections

from tests.utils import SuitesMixin


class PlainRoleTests(SuitesMixin, unittest.TestCase):
    """All of it, by a role that may not set deadlock_timeout, nor see much else."""

    def test_a_role_that_is_no_superuser(self):
        if connections["default"].vendor != "postgresql":
            self.skipTest("a role of PostgreSQL")
        role = f"txtest_plain_scheduler_{os.getpid()}"
        with connections["default"].cursor() as cursor:
            cursor.execute(f"CREATE ROLE {role} LOGIN CREATEDB")
            # It may not set it, so that each deadlock would take a second.
            cursor.execute(f"ALTER ROLE {role} SET deadlock_timeout = '50ms'")
            try:
                self.environment["TXTEST_SUITE_USER"] = role
                self.run_suite(module="scheduler.test_engine")
                self.run_suite(module="scheduler.test_races")
                self.run_suite(module="scheduler.test_kinds_of_calls.WaitTests")
                self.run_suite(module="anomalies.test_scripts")
            finally:
                cursor.execute(f"DROP ROLE {role}")

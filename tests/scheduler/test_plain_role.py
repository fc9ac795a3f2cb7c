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
            try:
                self.environment["TXTEST_SUITE_USER"] = role
                for module in ("api", "engine", "races", "kinds_of_calls"):
                    self.run_suite(module=f"scheduler.test_{module}")
                self.run_suite(module="anomalies")
            finally:
                cursor.execute(f"DROP ROLE {role}")

from __future__ import annotations

import subprocess
import sys
import unittest

import django_txtest

SCRIPT = """
import sys
import django_txtest
from django_txtest import CallError, Results
assert not [name for name in sys.modules if name.partition(".")[0] == "django"]
"""


class PublicNamesTests(unittest.TestCase):
    def test_all_of_them_can_be_had(self):
        for name in django_txtest.__all__:
            self.assertIsNotNone(getattr(django_txtest, name))
        self.assertLessEqual(set(django_txtest.__all__), set(dir(django_txtest)))

    def test_other_names(self):
        with self.assertRaisesRegex(AttributeError, "no attribute 'nothing'"):
            _ = django_txtest.nothing

    def test_importing_loads_no_django(self):
        subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=300)

"""What several tests need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from django.db import connections

from django_txtest import Exploration

ROOT = Path(__file__).resolve().parents[1]
DJANGO = (sys.executable, "-m", "django")
_SESSIONS = {
    "mysql": "SELECT id, command, info FROM information_schema.processlist "
    "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    "postgresql": "SELECT application_name, state, query FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
}

explores = unittest.skipIf(
    connections["default"].vendor == "mysql",
    "on MariaDB, interleavings cannot be explored",
)

on_postgresql = unittest.skipUnless(
    connections["default"].vendor == "postgresql",
    "only PostgreSQL has what the test is about",
)


def run_tests(*classes: type[unittest.TestCase]) -> unittest.TestResult:
    """Run the tests of the classes, in this order, as a runner would."""
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    result = unittest.TestResult()
    unittest.TestSuite(load(cls) for cls in classes).run(result)
    return result


def poll(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until the condition holds; return whether it does in the end."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def other_sessions(alias: str = "default") -> list[tuple[str, str, str]]:
    """Return the sessions that the server has on the database, but for this one."""
    with connections[alias].cursor() as cursor:
        cursor.execute(_SESSIONS[connections[alias].vendor])
        return list(cursor.fetchall())


class GoldenMixin:
    """For tests whose results are files of tests/expected, to the letter.

    With TXTEST_WRITE_EXPECTED=1 in the environment, the files are written anew.
    """

    maxDiff = None

    def assertGolden(self, name: str, text: str) -> None:
        file = ROOT / "tests" / "expected" / name
        if "TXTEST_WRITE_EXPECTED" in os.environ:
            file.write_text(text, encoding="utf-8")
        self.assertEqual(text, file.read_text(encoding="utf-8"))

    def assertPrinted(self, name: str, exploration: Exploration) -> None:
        """Compare what an exploration prints, but for where its picture is."""
        text, _, picture = str(exploration).rpartition("\n")
        self.assertEqual(picture, f"Picture: {exploration.failure.picture}")
        self.assertGolden(name, text + "\nPicture: /tmp/django-txtest/...\n")


class SessionsMixin:
    """For tests after which no session but their own is to be left."""

    def assertNoSessions(self) -> None:
        if not poll(lambda: not other_sessions()):
            self.assertEqual(other_sessions(), [])


class InnerTestsMixin:
    """For a test that runs other tests."""

    #: For the runner, which makes the databases that the tests list.
    databases = ("default",)

    def problems(self, *classes: type[unittest.TestCase]) -> list[str]:
        """Run the tests of the classes; return the tracebacks of what went wrong."""
        result = run_tests(*classes)
        # Python 3.12.1 does not count the tests that are skipped.
        ran = result.testsRun + len(result.errors) + len(result.skipped)
        self.assertGreater(ran, 0)
        return [text for _, text in [*result.errors, *result.failures]]

    def assertPasses(self, *classes: type[unittest.TestCase]) -> None:
        problems = self.problems(*classes)
        self.assertEqual(problems, [], "\n".join(problems))


class SuitesMixin:
    """For a test that runs suites of tests/suites, in processes of their own."""

    #: For the runner, as above.
    databases = ("default",)

    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        prefix = f"test_suite_{os.getpid()}"
        if connections["default"].vendor == "sqlite":
            prefix = f"{folder.name}/{prefix}"
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.suites.settings",
            "PYTHONPATH": str(ROOT),
            "TXTEST_SUITE_PREFIX": prefix,
        }

    def run_suite(self, *options, module="suites.mixed", count=None):
        completed = self.run_process(*options, module=module)
        output = completed.stdout + completed.stderr
        self.assertEqual(completed.returncode, 0, output)
        [ran] = re.findall(r"^Ran (\d+) tests? in", output, re.MULTILINE)
        self.assertEqual(int(ran), count or int(ran), output)

    def run_process(self, *options, module="suites.mixed"):
        return subprocess.run(
            [*DJANGO, "test", f"tests.{module}", "--noinput", *options],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

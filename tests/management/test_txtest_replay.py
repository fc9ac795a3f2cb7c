from __future__ import annotations

import contextlib
import io
import subprocess
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from django.core.management import CommandError, call_command
from django.test import override_settings
from django.test.runner import DiscoverRunner

from tests.utils import DJANGO, ROOT, SuitesMixin, explores

SUITE = "tests.suites.races.RaceTests"
HERE = f"{__name__}.RunnerHere"


class RunnerHere(DiscoverRunner):
    """Runs tests on the databases that there are, within a test of another runner."""

    def setup_test_environment(self, **kwargs):
        pass

    teardown_test_environment = setup_test_environment

    def setup_databases(self, **kwargs):
        return []

    def teardown_databases(self, old_config, **kwargs):
        pass

    def run_checks(self, databases):
        pass


@explores
class CommandTests(unittest.TestCase):
    databases = ("default",)

    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        settings = override_settings(TXTEST_REPORT_DIR=folder.name)
        settings.enable()
        self.addCleanup(settings.disable)

    def replay(self, schedule, name, *options):
        """Return the exit status, and what was printed."""
        out, log = io.StringIO(), io.StringIO()
        status = 0
        with contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
            try:
                call_command(
                    "txtest_replay",
                    schedule,
                    f"{SUITE}.{name}",
                    f"--testrunner={HERE}",
                    "--verbosity=0",
                    *options,
                    stdout=out,
                )
            except SystemExit as error:
                status = error.code
        return status, out.getvalue()

    def assertRefused(self, message, *arguments):
        with self.assertRaisesRegex(CommandError, message) as caught:
            self.replay(*arguments)
        self.assertEqual(caught.exception.returncode, 2)

    def test_one_that_fails(self):
        status, printed = self.replay("ba2b", "test_lost_update")
        self.assertEqual(status, 1, printed)
        self.assertIn("The schedule ba2b fails: No serial order", printed)
        self.assertRegex(printed, r" s2 +s1 ")
        [picture] = self.folder.iterdir()
        self.assertEqual(picture.name, f"{SUITE}.test_lost_update.ba2b.timeline.html")
        self.assertEqual(printed.splitlines()[-1], f"Picture: {picture}")
        self.assertIn(
            f"txtest_replay ba2b {SUITE}.test_lost_update", picture.read_text()
        )

    def test_one_that_does_not_fail(self):
        status, printed = self.replay("a2b2", "test_lost_update")
        self.assertEqual(status, 0, printed)
        self.assertIn("The schedule a2b2 does not fail.", printed)
        [picture] = self.folder.iterdir()
        self.assertIn("did not fail", picture.read_text())

    def test_one_of_several(self):
        status, printed = self.replay(
            "ba2b", "test_two_explorations", "--exploration=2"
        )
        self.assertEqual(status, 1, printed)
        status, printed = self.replay("ab", "test_two_explorations", "--exploration=1")
        self.assertEqual(status, 0, printed)

    def test_refusals(self):
        self.assertRefused(r"'a2\?b' is not a schedule", "a2?b", "test_lost_update")
        self.assertRefused("counts from 1", "a", "test_none", "--exploration=0")
        self.assertRefused("made no exploration", "a", "test_none")
        self.assertRefused("made no exploration", "a", "test_fails_before")
        self.assertRefused("made no exploration", "a", "test_that_is_not_there")
        self.assertRefused(
            f"more than one exploration in {SUITE}.test_two_explorations: choose one "
            f"with --exploration N",
            "ab",
            "test_two_explorations",
        )
        self.assertRefused(
            "no exploration 3: .* ended after 2",
            "ab",
            "test_two_explorations",
            "--exploration=3",
        )
        self.assertRefused(
            r"'z', and the sessions are a \(s1\) and b \(s2\).*--exploration",
            "zz",
            "test_lost_update",
        )
        self.assertRefused(
            "session b cannot go on there.*--exploration", "ab9", "test_lost_update"
        )

    def test_a_class(self):
        out = io.StringIO()
        with (
            contextlib.redirect_stderr(out),
            self.assertRaisesRegex(
                CommandError, "explorations in .* and in .*: name one test"
            ),
        ):
            call_command("txtest_replay", "ab", SUITE, testrunner=HERE)


@explores
class ShellTests(SuitesMixin, unittest.TestCase):
    """The command by itself, with the project's own runner."""

    def run_command(self, *arguments):
        return subprocess.run(
            [*DJANGO, "txtest_replay", *arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def test_exit_statuses(self):
        completed = self.run_command(
            "ba2b",
            f"{SUITE}.test_lost_update",
            "--noinput",
            "--testrunner=django_txtest.runner.TxTestRunner",
            "--fast-reset",
        )
        self.assertEqual(completed.returncode, 1, completed.stderr)
        self.assertIn("The schedule ba2b fails", completed.stdout)
        picture = Path(completed.stdout.splitlines()[-1].removeprefix("Picture: "))
        self.assertTrue(picture.exists())
        picture.unlink()
        completed = self.run_command("a?", f"{SUITE}.test_lost_update")
        self.assertEqual(completed.returncode, 2)
        self.assertIn("is not a schedule", completed.stderr)
        self.assertNotIn("Traceback", completed.stderr)

    def test_help(self):
        completed = self.run_command("--help", "--testrunner=no.such.Runner")
        self.assertNotEqual(completed.returncode, 0)
        completed = self.run_command("--help")
        self.assertEqual(completed.returncode, 0, completed.stderr)
        for told in ("--exploration N", "--keepdb", "schedule", "exit status is 0"):
            self.assertIn(told, completed.stdout)

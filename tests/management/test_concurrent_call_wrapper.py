from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from django.db import connection
from django.test import TestCase

from django_txtest import NoAtomicMixin
from tests.library.models import Book

ROOT = Path(__file__).resolve().parents[2]


class ShellTests(NoAtomicMixin, TestCase):
    """The command by itself, as from a shell."""

    def run_command(self, *options, stdin):
        return subprocess.run(
            [sys.executable, "-m", "django", "concurrent_call_wrapper", *options],
            input=stdin if isinstance(stdin, str) else json.dumps(stdin),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def options(self):
        """Lead the command to the database of this run, which may be a clone."""
        name = str(connection.settings_dict["NAME"])
        clone = name.removesuffix(".sqlite3").rpartition("_")[2]
        return ["--clone", clone] if clone.isdigit() else []

    def test_help(self):
        completed = self.run_command("--help", stdin="")
        self.assertEqual(completed.returncode, 0)
        self.assertIn('{"target": "package.module:function"', completed.stdout)
        self.assertIn("--no-test-db", completed.stdout)

    def test_a_result(self):
        Book.objects.create(title="Emma")
        completed = self.run_command(
            *self.options(), stdin={"target": "tests.concurrency.targets:titles"}
        )
        self.assertEqual(completed.returncode, 0, completed.stderr)
        self.assertEqual(json.loads(completed.stdout), ["Emma"])

    def test_arguments_and_output(self):
        completed = self.run_command(
            stdin={"target": "tests.concurrency.targets:chatter", "args": ["hello"]}
        )
        self.assertEqual(completed.returncode, 0, completed.stderr)
        self.assertEqual(json.loads(completed.stdout.splitlines()[-1]), "hello")
        self.assertIn("hello\nHELLO\n", completed.stderr)

    def test_an_exception(self):
        completed = self.run_command(
            stdin={
                "target": "tests.concurrency.targets:refuse",
                "kwargs": {"book": "E"},
            }
        )
        self.assertEqual(completed.returncode, 1)
        self.assertEqual(completed.stdout, "")
        self.assertIn("Refused: no copies of E", completed.stderr)
        self.assertIn("in refuse", completed.stderr)

    def test_what_is_not_a_call(self):
        for stdin, problem in {
            "nonsense": "not JSON",
            "[]": "'target'",
            '{"target": "m:f", "arguments": []}': "Unknown in the description: arg",
            '{"target": "no.such:thing"}': "cannot be found",
            '{"target": "tests.concurrency.targets:return_unpicklable"}': "as JSON",
        }.items():
            with self.subTest(stdin=stdin):
                completed = self.run_command(stdin=stdin)
                self.assertEqual(completed.returncode, 1)
                self.assertIn(problem, completed.stderr)
                self.assertNotIn("Traceback", completed.stderr)

    def test_a_test_database_that_is_not_there(self):
        completed = self.run_command(
            "--clone", "99", stdin={"target": "tests.concurrency.targets:titles"}
        )
        self.assertEqual(completed.returncode, 1)
        self.assertIn("--keepdb", completed.stderr)
        if connection.vendor == "sqlite":
            folder = Path(connection.settings_dict["NAME"]).parent
            self.assertEqual(list(folder.glob("*_99*")), [])

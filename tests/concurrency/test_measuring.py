from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import CoverageData
from django.test import SimpleTestCase

from tests.concurrency import measured
from tests.utils import ROOT

PROGRAM = """
import django
django.setup()
from django_txtest import run_concurrently
from tests.concurrency.measured import branch
run_concurrently([(branch, [1], {{}})], using={using!r}).raise_errors()
"""


class CoverageTests(SimpleTestCase):
    """Lines that only a call ran are in the coverage of its caller."""

    def measure(self, using, *options) -> list[int]:
        """Return the lines of the called module that were run."""
        with TemporaryDirectory() as folder:
            program = Path(folder, "program.py")
            program.write_text(PROGRAM.format(using=using))
            data_file = f"{folder}/data"
            command = [sys.executable, "-m", "coverage", "run", *options]
            subprocess.run(
                [*command, f"--data-file={data_file}", "--source=tests", program],
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.suites.bare_settings",
                    "PYTHONPATH": str(ROOT),
                },
                cwd=folder,
                check=True,
            )
            data = CoverageData(data_file)
            data.read()
            lines = data.lines(measured.__file__)
            data.close()
            return lines

    def test_lines(self):
        lines, first = inspect.getsourcelines(measured.branch)
        taken = first + next(n for n, line in enumerate(lines) if '"taken"' in line)
        for using in ("fork", "spawn", "threads"):
            for options in ((), ("--branch",)):
                with self.subTest(using=using, options=options):
                    run = self.measure(using, *options)
                    self.assertIn(taken, run)
                    self.assertNotIn(taken + 1, run)

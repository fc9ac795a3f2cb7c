"""The command that runs these tests, run as a developer does."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest import TestCase, skipIf, skipUnless

import runtests

from .embedded.support import BOUND, ROOT, can_start, clean_environment, poll

QUICK = "tests.embedded.test_binaries"


def run(*arguments, cwd=ROOT, **variables):
    return subprocess.run(
        [sys.executable, str(ROOT / "runtests.py"), *arguments],
        capture_output=True,
        cwd=cwd,
        env=clean_environment(**variables),
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=BOUND,
    )


class CommandTests(TestCase):
    def test_help(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("usage: runtests.py ", done.stdout)
        for option in (
            "--sqlite",
            "--mariadb",
            "--parallel",
            "--shuffle",
            "--keepdb",
            "--timing",
        ):
            self.assertIn(option, done.stdout)

    def test_sqlite_announces_itself(self):
        done = run("--sqlite", QUICK)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Testing on SQLite ", done.stderr)
        self.assertIn("\nOK", done.stderr)

    @skipUnless(can_start(), "needs PostgreSQL's programs")
    def test_postgresql_announces_itself(self):
        done = run(QUICK)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(
            done.stderr, r"Testing on PostgreSQL [\d.]+ with psycopg2? [\d.]+, Django "
        )

    def test_paths_from_any_folder(self):
        for cwd, label in (
            (ROOT, "tests/embedded/test_binaries.py"),
            (ROOT / "tests", "embedded/test_binaries.py"),
            ("/", str(ROOT / "tests/embedded/test_binaries.py")),
            ("/", QUICK),
        ):
            with self.subTest(label, cwd=cwd):
                done = run("--sqlite", label, cwd=cwd)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn("Found 0", done.stderr + done.stdout)

    def test_failure(self):
        done = run("--sqlite", "tests.no_such_module")
        self.assertEqual(done.returncode, 1, done.stderr)

    def test_no_postgresql(self):
        done = run(QUICK, TXTEST_PG_BIN="/nowhere")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("TXTEST_PG_BIN is '/nowhere'", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertNotIn("Ran ", done.stderr)

    def test_a_server_that_does_not_answer(self):
        url = "postgres://postgres@%2Fnowhere:1/name"
        done = run(QUICK, TXTEST_DATABASE_URL=url)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("The database does not answer", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


@skipIf(sys.platform == "win32", "about signals")
class EndTests(TestCase):
    def begin(self, script=""):
        """Start a run on SQLite that is busy; return it and its folder."""
        process = subprocess.Popen(
            [sys.executable, "-c", BUSY.format(script)],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(self.end, process)
        return process, Path(process.stdout.readline().strip())

    def end(self, process):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def test_ctrl_c(self):
        process, folder = self.begin()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(BOUND), 130)
        self.assertFalse(folder.exists())

    def test_sigkill_leaves_no_folder(self):
        process, folder = self.begin()
        self.assertTrue(folder.is_dir())
        process.kill()
        self.assertTrue(poll(lambda: not folder.exists()))

    def test_sigkill_with_a_forked_child_that_goes_on_writing(self):
        process, folder = self.begin("os.fork() or write()")
        process.kill()
        self.assertTrue(poll(lambda: not folder.exists()))


BUSY = """
import os, runtests, sys, time
def test(arguments):
    {}
    print(os.environ["TXTEST_SQLITE"], flush=True)
    time.sleep(600)
def write():
    try:
        while True:
            for number in range(300):
                open(os.environ["TXTEST_SQLITE"] + "/" + str(number), "w").close()
    finally:
        os._exit(0)  # the folder is gone
runtests._test = test
sys.exit(runtests.main(["--sqlite"]))
"""


class LabelTests(TestCase):
    def test_dotted(self):
        here = str(ROOT)
        for label, wanted in (
            ("tests.embedded", "tests.embedded"),
            ("tests/embedded/", "tests.embedded"),
            (os.path.join(here, "tests"), "tests"),
            (tempfile.gettempdir(), tempfile.gettempdir()),
        ):
            self.assertEqual(runtests._dotted(label, here), wanted)

"""When bootstrap.py makes an environment, and when it leaves well alone."""

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import TestCase, mock, skipUnless

import bootstrap

CAN_MAKE = importlib.util.find_spec("ensurepip") or shutil.which("uv")


class BootstrapTestCase(TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.venv = os.path.join(self.folder, "an environment")
        self.calls = []
        self.replace("VENV", self.venv)
        self.errors = io.StringIO()
        redirect = contextlib.redirect_stderr(self.errors)
        redirect.__enter__()
        self.addCleanup(redirect.__exit__, None, None, None)

    def replace(self, name, value):
        patch = mock.patch.object(bootstrap, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def give_up(self, function, *arguments):
        with self.assertRaises(SystemExit) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.code, 2)
        return self.errors.getvalue()


class DecisionTests(BootstrapTestCase):
    def setUp(self):
        super().setUp()
        self.replace("build", lambda folder: self.calls.append("build"))
        self.replace("_start_again", lambda python: self.calls.append("start"))
        self.replace("is_ready", lambda folder: self.ready)
        self.replace("missing", lambda extras: self.missing)
        self.ready, self.missing = False, ["hypothesis"]
        patch = mock.patch.dict(os.environ)
        patch.start()
        self.addCleanup(patch.stop)
        os.environ.pop(bootstrap.VARIABLE, None)

    def test_all_is_there(self):
        self.missing = []
        os.environ[bootstrap.VARIABLE] = "1"
        bootstrap.ensure_environment()
        self.assertEqual(self.calls, [])
        self.assertNotIn(bootstrap.VARIABLE, os.environ)
        self.assertEqual(self.errors.getvalue(), "")

    def test_nothing_is_there(self):
        bootstrap.ensure_environment()
        self.assertEqual(self.calls, ["build", "start"])
        self.assertEqual(os.environ[bootstrap.VARIABLE], "1")
        self.assertEqual(len(self.errors.getvalue().splitlines()), 1)

    def test_an_environment_is_ready(self):
        self.ready = True
        bootstrap.ensure_environment()
        self.assertEqual(self.calls, ["start"])

    def test_a_ready_environment_that_is_broken_is_mended_once(self):
        self.ready = True
        os.environ[bootstrap.VARIABLE] = "1"
        bootstrap.ensure_environment()
        self.assertEqual(self.calls, ["build", "start"])
        said = self.give_up(bootstrap.ensure_environment)
        self.assertIn("still lacks hypothesis", said)

    def test_old_python(self):
        self.replace("OLDEST", (9, 9))
        said = self.give_up(bootstrap.ensure_environment)
        self.assertIn("needs Python 9.9 or newer", said)
        self.assertEqual(self.calls, [])


class MissingTests(TestCase):
    def test_one_of_the_alternatives_is_enough(self):
        required = {"": ["os|no_such_module"], "x": ["no_such_module"]}
        with mock.patch.object(bootstrap, "REQUIRED", required):
            self.assertEqual(bootstrap.missing(()), [])
            self.assertEqual(bootstrap.missing(("x",)), ["no_such_module"])

    def test_a_django_that_is_too_old(self):
        with mock.patch.object(bootstrap, "OLDEST_DJANGO", (99, 0)):
            self.assertEqual(bootstrap.missing(()), ["django>=5.2"])


@skipUnless(CAN_MAKE, "no tool that makes an environment")
class BuildTests(BootstrapTestCase):
    """A real environment each, into which nothing is installed."""

    def build(self, *requirements):
        # A local project without dependencies needs no network.
        bootstrap.build(self.venv, requirements or ("--no-index", "pip"))

    def test_made_and_marked(self):
        self.build()
        self.assertTrue(bootstrap.is_ready(self.venv))

    def test_a_half_made_one_is_made_anew(self):
        os.makedirs(os.path.join(self.venv, "bin"))
        Path(self.venv, "rubbish").touch()
        self.build()
        self.assertTrue(bootstrap.is_ready(self.venv))
        self.assertFalse(os.path.exists(os.path.join(self.venv, "rubbish")))

    def test_an_outdated_one_is_mended(self):
        self.build()
        Path(self.venv, "kept").touch()
        self.replace("fingerprint", lambda: "newer")
        self.assertFalse(bootstrap.is_ready(self.venv))
        self.build()
        self.assertTrue(bootstrap.is_ready(self.venv))
        self.assertTrue(os.path.exists(os.path.join(self.venv, "kept")))

    def test_a_failed_installation_leaves_no_mark(self):
        self.replace("_is_usable", lambda folder: True)
        failing = [sys.executable, "-c", "raise SystemExit(1)"]
        self.replace("_installer", lambda folder: failing)
        said = self.give_up(self.build)
        self.assertIn("could not be installed", said)
        self.assertFalse(bootstrap.is_ready(self.venv))

    def test_no_tool_that_makes_one(self):
        with (
            mock.patch("importlib.util.find_spec", return_value=None),
            mock.patch.dict(os.environ, PATH=self.folder),
        ):
            said = self.give_up(bootstrap.create, self.venv)
        for remedy in (
            "apt install python3-venv",
            "uv or virtualenv",
            "pip install -e",
        ):
            self.assertIn(remedy, said)

    def test_another_tool_is_used(self):
        tool = Path(self.folder, "virtualenv")
        tool.write_text('#!/bin/sh\nfor last; do :; done\n/bin/mkdir "$last"\n')
        tool.chmod(0o755)
        with (
            mock.patch("importlib.util.find_spec", return_value=None),
            mock.patch.dict(os.environ, PATH=self.folder),
        ):
            bootstrap.create(self.venv)
        self.assertTrue(os.path.isdir(self.venv))

    def test_two_at_the_same_time(self):
        code = (
            "import bootstrap\n"
            f"bootstrap.VENV = {self.venv!r}\n"
            "with bootstrap._Lock():\n"
            "    if not bootstrap.is_ready(bootstrap.VENV):\n"
            "        print('building', flush=True)\n"
            "        bootstrap.build(bootstrap.VENV, ('--no-index', 'pip'))\n"
        )
        runs = [
            subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        said = [run.communicate(timeout=300)[0] for run in runs]
        self.assertEqual(sorted(said), ["", "building\n"])
        self.assertTrue(bootstrap.is_ready(self.venv))

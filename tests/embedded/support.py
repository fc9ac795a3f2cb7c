"""Child processes that start servers, and what is left of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import suppress
from pathlib import Path

from django_txtest.embedded.address import Address
from django_txtest.embedded.binaries import Found, search

ROOT = Path(__file__).resolve().parents[2]
BOUND = 300  # seconds: generous, since only a failure waits that long

PRELUDE = """
import json, os, signal, sys, time
from django_txtest import embedded
from django_txtest.embedded.launcher import running
database = embedded.postgresql()
print(running().dumps(), flush=True)
"""


def can_start():
    """Tell whether there are PostgreSQL's programs, and a driver to connect with."""
    drivers = ("psycopg", "psycopg2")
    has_driver = any(importlib.util.find_spec(name) for name in drivers)
    return has_driver and any(isinstance(place, Found) for place in search())


def clean_environment(**variables):
    """Return an environment in which no server is known yet."""
    ours = ("TXTEST_", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "PG")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    pg_bin = os.environ.get("TXTEST_PG_BIN")
    named = {"TXTEST_PG_BIN": pg_bin} if pg_bin else {}
    return kept | named | variables


def poll(condition):
    """Wait until the condition holds, and return what it returned."""
    deadline = time.monotonic() + BOUND
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def connect(host):
    """Return a connection by the driver that is installed."""
    try:
        import psycopg as driver
    except ImportError:
        import psycopg2 as driver
    return driver.connect(host=host, port=5432, user="postgres", dbname="postgres")


def processes():
    """Return the command line of each process, by its id."""
    proc = Path("/proc")
    if (proc / "self" / "cmdline").exists():
        found = {}
        for folder in proc.glob("[0-9]*"):
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if words:
                    found[int(folder.name)] = words.replace(b"\0", b" ").decode()
        return found
    listing = subprocess.check_output(["ps", "-axwwo", "pid=,command="], text=True)
    pairs = (line.split(None, 1) for line in listing.splitlines())
    return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2}


def processes_with(text):
    return [pid for pid, command in processes().items() if text in command]


def watchdog_of(owner):
    """Return the id of the watchdog that a process started, or None."""
    # Both: a process that is being started still has its parent's command line.
    marks = ("django_txtest.embedded", f"--owner={owner} ")
    return next(
        (
            pid
            for pid, command in processes().items()
            if all(mark in f"{command} " for mark in marks)
        ),
        None,
    )


def folders_of(watchdog):
    """Return the folders that a watchdog has made."""
    parents = {Path("/dev/shm"), Path("/tmp"), Path(tempfile.gettempdir())}
    return [path for parent in parents for path in parent.glob(f"txtest-{watchdog}-*")]


@unittest.skipIf(sys.platform == "win32", "about signals and forks")
@unittest.skipUnless(can_start(), "needs PostgreSQL's programs")
class ServerTestCase(unittest.TestCase):
    def temporary_folder(self, mode=0o755):
        folder = Path(tempfile.mkdtemp(prefix="t x'", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(mode)
        return folder

    def begin(self, script, *, prelude=PRELUDE, **variables):
        """Start a process that runs the script after having started a server."""
        process = subprocess.Popen(
            [sys.executable, "-c", prelude + script],
            cwd=ROOT,
            env=clean_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def begin_server(self, script="", **variables):
        """Start a process and its server; return both, and what to look for later."""
        process = self.begin(script, **variables)
        line = process.stdout.readline()
        if not line:
            self.fail(process.communicate(timeout=BOUND)[1])
        return process, Address.loads(line).host

    def assertGone(self, host, owner):
        self.assertTrue(poll(lambda: not Path(host).exists()), f"{host} is there")
        self.assertTrue(poll(lambda: not processes_with(host)), "the server runs")
        self.assertTrue(poll(lambda: not watchdog_of(owner)), "the watchdog runs")

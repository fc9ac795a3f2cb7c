"""The side of the process that wants a server: start the watchdog, or reuse one."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path

from django_txtest.embedded.address import Address
from django_txtest.embedded.errors import ServerError

# Tells this process and its children of the server that runs.
VARIABLE = "TXTEST_EMBEDDED"
# The watchdog has bounds of its own for each step; this one is for a stuck watchdog.
REPORT_SECONDS = 240
STOP_SECONDS = 30


def running() -> Address | None:
    """Return the server that we or one of our parents started, if it lives."""
    try:
        address = Address.loads(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    return address if address.answers() else None


def launch(bin_folder: Path) -> Address:
    """Start a server that ends with this process, and tell our children of it."""
    watchdog = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "django_txtest.embedded",
            f"--bin={bin_folder.absolute()}",
            f"--owner={os.getpid()}",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=os.path.abspath(os.sep),
        env=_environment(),
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        address = _read_report(watchdog)
    except BaseException:  # also Ctrl-C: nothing may stay behind
        _stop(watchdog)
        raise
    atexit.register(_stop_at_exit, watchdog, os.getpid())
    os.environ[VARIABLE] = address.dumps()
    return address


def _environment() -> dict[str, str]:
    # The watchdog must import this very package, wherever we got it from.
    root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([root, inherited]) if inherited else root
    return os.environ | {"PYTHONPATH": path, "PYTHONUTF8": "1"}


def _read_report(watchdog: subprocess.Popen[str]) -> Address:
    assert watchdog.stdout is not None
    timer = threading.Timer(REPORT_SECONDS, watchdog.kill)
    timer.daemon = True
    timer.start()
    output = []
    try:
        with watchdog.stdout as lines:
            for line in lines:
                output.append(line)
                try:
                    return Address.loads(line)
                except ValueError:
                    continue
    finally:
        timer.cancel()
        timer.join()  # a thread that is left would be a danger to a later fork
    raise ServerError("".join(output).strip() or "the watchdog ended without a word")


def _stop(watchdog: subprocess.Popen[str]) -> None:
    if watchdog.stdin is not None:
        watchdog.stdin.close()
    try:
        watchdog.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        watchdog.terminate()


def _stop_at_exit(watchdog: subprocess.Popen[str], owner: int) -> None:
    # A forked child inherits this callback, but not the server.
    if os.getpid() == owner:
        _stop(watchdog)

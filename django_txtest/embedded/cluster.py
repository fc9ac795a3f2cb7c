"""One database cluster in a folder of its own: initdb, start, stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django_txtest.embedded.account import Account
from django_txtest.embedded.address import Address
from django_txtest.embedded.binaries import program
from django_txtest.embedded.errors import Ended, ServerError
from django_txtest.embedded.lifeline import Lifeline

INITDB_SECONDS = 120
START_SECONDS = 60
FAST_STOP_SECONDS = 10
IMMEDIATE_STOP_SECONDS = 5

# Nothing here has to survive a crash of the machine.
CONFIGURATION = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    # In the data folder, not in /dev/shm, where a killed server would leave it.
    "dynamic_shared_memory_type": "windows" if sys.platform == "win32" else "mmap",
    "max_connections": "200",
    "max_wal_size": "256MB",
    # Else each session that has a trigger or function called loads it anew.
    "shared_preload_libraries": "plpgsql",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Cluster:
    """A server in the making, running, or stopped.

    Waiting for it raises Ended as soon as the lifeline ends, and ServerError when it
    takes too long or fails.
    """

    def __init__(
        self, bin_folder: Path, folder: Path, account: Account, lifeline: Lifeline
    ) -> None:
        self._bin_folder = bin_folder
        self._folder = folder
        self._account = account
        self._lifeline = lifeline
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether the last program that was started still runs."""
        return self._process is not None and self._process.poll() is None

    def initialise(self) -> None:
        """Make the data folder."""
        self._launch(
            "initdb",
            "-D",
            str(self._data),
            "-U",
            Address.user,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
            *self._locale(),
        )
        self._wait("initdb", INITDB_SECONDS, lambda: not self.is_running)
        if self._process is None or self._process.returncode:
            raise self._failure("initdb failed")

    def start(self) -> Address:
        """Start the server, and return where it listens."""
        address = self._listen()
        self._launch("postgres", "-D", str(self._data))
        self._wait("postgres", START_SECONDS, self._is_ready)
        return address

    def stop(self) -> None:
        """Stop whatever runs: fast, then at once, then by force."""
        if self._process is None or not self.is_running:
            return
        if sys.platform == "win32":
            self._process.kill()
            self._ends_within(IMMEDIATE_STOP_SECONDS)
            return
        self._process.send_signal(signal.SIGINT)
        if not self._ends_within(FAST_STOP_SECONDS):
            self._process.send_signal(signal.SIGQUIT)
            self._ends_within(IMMEDIATE_STOP_SECONDS)
        # Whatever is left of its session: a program that initdb started, for one.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ends_within(IMMEDIATE_STOP_SECONDS)

    def _ends_within(self, seconds: float) -> bool:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return not self.is_running

    def _locale(self) -> list[str]:
        # Plain C would compare only ASCII letters without regard to case.
        if version(self._bin_folder, self._account) >= 17:
            return [
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ]
        return ["--locale=C.UTF-8"]

    def _listen(self) -> Address:
        if sys.platform == "win32":
            with socket.create_server(("127.0.0.1", 0)) as free:
                address = Address("127.0.0.1", free.getsockname()[1])
            network = {"listen_addresses": address.host, "port": str(address.port)}
        else:
            address = Address(str(self._folder))
            sockets = f'"{self._folder}"'  # a list, whose elements may be quoted
            network = {"listen_addresses": "", "unix_socket_directories": sockets}
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
            for name, value in (CONFIGURATION | network).items():
                quoted = value.replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")
        return address

    def _launch(self, name: str, *arguments: str) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program(self._bin_folder, name) or name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=environment(),
                start_new_session=True,
                **self._account.process_options,
            )

    def _is_ready(self) -> bool:
        if not self.is_running:
            raise self._failure("postgres ended at once")
        try:
            lines = (self._data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _wait(self, name: str, seconds: float, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self._lifeline.wait(0.02):
                raise Ended
            if time.monotonic() > deadline:
                raise self._failure(f"{name} was not ready after {seconds} seconds")

    def _failure(self, fact: str) -> ServerError:
        output = self._log.read_text("utf-8", errors="replace").strip()
        tail = "\n".join(output.splitlines()[-15:])
        return ServerError(f"{fact}:\n{tail}" if tail else fact)


def version(bin_folder: Path, account: Account) -> int:
    """Return the major version; raise OSError or SubprocessError if it cannot run."""
    done = subprocess.run(
        [program(bin_folder, "postgres") or "postgres", "--version"],
        capture_output=True,
        check=True,
        cwd=os.path.abspath(os.sep),
        env=environment(),
        text=True,
        timeout=START_SECONDS,
        **account.process_options,
    )
    number = re.search(r"\d+", done.stdout)
    return int(number[0]) if number else 0


def environment() -> dict[str, str]:
    """Return our environment without what would steer PostgreSQL's programs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}

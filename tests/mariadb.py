"""A throw-away MariaDB for the tests: it and its folder go away with its owner.

Run as a program, ``python -m tests.mariadb OWNER``, it starts the server, says where
its socket is, and ends it when the process OWNER has ended, or standard input.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from django_txtest.embedded.account import Account
from django_txtest.embedded.folders import cluster_folder
from django_txtest.embedded.lifeline import Lifeline

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120
STOP_SECONDS = 20
HOW_TO_GET_IT = """\
No MariaDB to test on: there is no {} on PATH, nor in /usr/sbin.
Install it: "apt-get install mariadb-server" or "brew install mariadb"."""

# Nothing here has to survive a crash of the machine.
OPTIONS = (
    "--skip-networking",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--innodb-buffer-pool-size=64M",
    "--max-connections=100",
    "--character-set-server=utf8mb4",
)


class MariaDBUnavailable(Exception):
    """No MariaDB could be started."""


class MariaDB:
    """A server, started by a process of its own, for as long as the block runs."""

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mariadb", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            start_new_session=True,
        )
        kind, _, text = self.process.stdout.readline().strip().partition(" ")
        if kind != "socket":
            error = f"{text}\n{self.process.stdout.read()}".strip()
            self.__exit__()
            raise MariaDBUnavailable(error or "The server could not be started.")
        return text

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.wait(2 * STOP_SECONDS)
        self.process.stdout.close()


def program(*names: str) -> str:
    """Return the path of the first of the programs that is here."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    if found is None:
        raise MariaDBUnavailable(HOW_TO_GET_IT.format(" or ".join(names)))
    return found


def serve(lifeline: Lifeline) -> None:
    """Start a server; end it, and remove its folder, when the lifeline ends."""
    server = program("mariadbd", "mysqld")
    install = program("mariadb-install-db", "mysql_install_db")
    account = Account.choose()
    with ExitStack() as cleanup:
        folder = cluster_folder(account, cleanup)
        log = cleanup.enter_context((folder / "log").open("w+b"))
        # Of its own: a server that starts removes what others have in it.
        temporary = folder / "tmp"
        temporary.mkdir()
        account.own(temporary)
        options = {
            "env": {**os.environ, "TMPDIR": str(temporary)},
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
            "cwd": folder,
            **account.process_options,
        }
        data = f"--datadir={folder / 'data'}"
        made = subprocess.run(
            [
                install,
                "--no-defaults",
                data,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            timeout=START_SECONDS,
            check=False,
            **options,
        )
        if made.returncode:
            raise MariaDBUnavailable(f"{install} failed:\n{_tail(folder)}")
        socket = folder / "s"
        command = [server, "--no-defaults", data, f"--socket={socket}", *OPTIONS]
        process = subprocess.Popen(
            [*command, f"--pid-file={folder / 'pid'}"], **options
        )
        cleanup.callback(_stop, process)
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise MariaDBUnavailable(f"{server} did not start:\n{_tail(folder)}")
            if lifeline.wait(0.05):
                return
        print("socket", socket, flush=True)
        while not lifeline.wait(1) and process.poll() is None:
            pass


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Its data are to be removed: there is nothing that it has to write any more.
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)


def _tail(folder: Path) -> str:
    lines = (folder / "log").read_text("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-15:])


def main() -> None:
    """Serve; where that is not possible, say why on standard output."""
    try:
        serve(Lifeline(int(sys.argv[1])))
    except (MariaDBUnavailable, OSError, subprocess.SubprocessError) as error:
        print("error", error, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

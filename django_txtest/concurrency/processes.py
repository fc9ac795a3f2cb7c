"""Calls in fresh processes: the parent's side."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from typing import IO, Any, TextIO

from django.apps import apps
from django.db import connections

from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.child import DONE, READY
from django_txtest.concurrency.travel import Surroundings, pack_call, settings_module
from django_txtest.databases import get_database
from django_txtest.exceptions import (
    CallError,
    CallTimeout,
    ChildCrashed,
    PicklingError,
    TxTestError,
)
from django_txtest.outcomes import Outcome

#: How long all processes together may take to start, in seconds.
START_TIMEOUT = 120.0
#: How long a process gets to exit by itself after it has sent its outcome.
EXIT_TIMEOUT = 5.0
#: How long a process gets to exit after SIGTERM.
TERM_TIMEOUT = 0.5
#: How long a process that is late gets to write its stack, in seconds.
STACK_TIMEOUT = 0.3


def run_in_processes(
    calls: Sequence[Call], aliases: Sequence[str], timeout: float
) -> list[Outcome]:
    """Make each call in a process; all start together when all have connections."""
    _check_can_spawn()
    surroundings = Surroundings.here(aliases, timeout)
    # All are packed before the first process starts: nothing to undo on an error.
    packed = [pack_call(surroundings, call) for call in calls]
    processes: list[CallProcess] = []
    try:
        for call, stdin in zip(calls, packed, strict=True):
            processes.append(CallProcess(call, stdin))
        _receive(processes, START_TIMEOUT, lambda p: p.is_ready or p.is_done)
        ready = [process for process in processes if process.is_ready]
        for process in ready:
            process.go(timeout)
        _receive(ready, timeout + STACK_TIMEOUT, lambda p: p.is_done)
        _end(processes)
        return [process.outcome() for process in processes]
    finally:
        _end_sessions([process for process in processes if process.kill()])
        for process in processes:
            process.close()


def _check_can_spawn() -> None:
    if os.name != "posix":
        raise TxTestError(
            "Calls in processes need a POSIX system. Use using='threads', or set "
            "TXTEST_CALL_USING = 'threads'."
        )
    if not apps.is_installed("django_txtest"):
        raise TxTestError(
            "Calls in processes need a management command of django-txtest. Add "
            "'django_txtest' to INSTALLED_APPS, or use using='threads'."
        )
    if settings_module() is None:
        raise TxTestError(
            "Calls in processes need a settings module to import, but the settings "
            "were set by settings.configure(). Use using='threads'."
        )


class CallProcess:
    """A process that makes one call, and what is known of it."""

    def __init__(self, call: Call, stdin: bytes) -> None:
        self.call = call
        #: Whether it has its connections, and waits to begin.
        self.is_ready = False
        #: Whether it ended without a word on its call.
        self.is_dead = False
        self.sessions: dict[str, int] = {}
        # PostgreSQL's client library tells the server: so all sessions can be found.
        self.application_name = f"txtest {uuid.uuid4()}"
        self._packed_outcome: bytes | None = None
        self._timeout = 0.0
        self.channel, channel = multiprocessing.Pipe()
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        with channel, tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            self.process = subprocess.Popen(
                _command(channel.fileno()),
                stdin=file,
                stdout=self._stdout,
                stderr=self._stderr,
                env={**_environment(), "PGAPPNAME": self.application_name},
                pass_fds=[channel.fileno()],
                # Ctrl-C is for this process, which then ends the others; and a
                # group of its own, so that what the call starts ends with it.
                start_new_session=True,
            )

    def go(self, timeout: float) -> None:
        """Let the call begin."""
        self._timeout = timeout
        with suppress(OSError):
            self.channel.send(None)

    def receive(self) -> None:
        """Take in one message, or the end of the process."""
        try:
            # It may have ended without a word, and what it started hold the channel.
            if not self.channel.poll():
                raise EOFError
            kind, content = self.channel.recv()
        except (EOFError, OSError):
            self.is_dead = True
            return
        if kind == READY:
            self.is_ready = True
            self.sessions = content
        elif kind == DONE:
            self._packed_outcome = content

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to come."""
        return self.is_dead or self._packed_outcome is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def wait(self, deadline: float) -> bool:
        """Wait for the exit until `deadline`; return whether it came."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def outcome(self) -> Outcome:
        """Return what became of the call; show what the process printed."""
        stdout, stderr = _text(self._stdout), _text(self._stderr)
        stack = ""
        if not self.is_done:
            stderr, stack = _split_stack(stderr)
        _show(stdout, sys.stdout)
        _show(stderr, sys.stderr)
        return replace(
            self._unpack_outcome(stderr, stack),
            stdout=stdout,
            stderr=stderr,
            pid=self.process.pid,
            exitcode=self.process.returncode,
        )

    def _unpack_outcome(self, stderr: str, stack: str) -> Outcome:
        label = self.call.label
        if self._packed_outcome is not None:
            try:
                outcome: Outcome = pickle.loads(self._packed_outcome)
            except Exception as error:  # noqa: BLE001 - code of users' classes
                original = PicklingError(
                    f"The result cannot be unpickled here: "
                    f"{type(error).__name__}: {error}"
                )
                return Outcome(error=CallError(label, original))
            return outcome
        if self.is_dead:
            return Outcome(error=ChildCrashed(label, self.process.returncode, stderr))
        if not self.is_ready:
            late = CallTimeout(label, START_TIMEOUT, stderr, started=False)
            return Outcome(error=late)
        late = CallTimeout(label, self._timeout, stack)
        return Outcome(error=late, duration=self._timeout)

    def kill(self) -> bool:
        """End the process at once; return whether there was need to."""
        if self.process.poll() is not None:
            return False
        self.signal(signal.SIGKILL)
        self.process.wait()
        return True

    def close(self) -> None:
        """Give back what the parent has of the process."""
        self.channel.close()
        self._stdout.close()
        self._stderr.close()


def _receive(
    processes: Sequence[CallProcess],
    seconds: float,
    is_enough: Callable[[CallProcess], bool],
) -> None:
    deadline = time.monotonic() + seconds
    while waiting := [process for process in processes if not is_enough(process)]:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        # Not only the channels: a process that the call started may keep one open.
        readable = wait([process.channel for process in waiting], min(left, 0.1))
        for process in waiting:
            if process.channel in readable or process.process.poll() is not None:
                process.receive()


def _end(processes: Sequence[CallProcess]) -> None:
    """Wait for the exit of the processes that are done; end the others."""
    late = [process for process in processes if not process.is_done]
    for process in late:
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + TERM_TIMEOUT
    for process in late:
        process.wait(deadline)
    deadline = time.monotonic() + EXIT_TIMEOUT
    for process in processes:
        if process in late or not process.wait(deadline):
            process.signal(signal.SIGKILL)
            process.process.wait()
        # What the call itself started ends with it.
        process.signal(signal.SIGKILL)
    _end_sessions(processes)


def _end_sessions(processes: Sequence[CallProcess]) -> None:
    """End what processes that have ended left in the databases."""
    names = [process.application_name for process in processes]
    for alias in {alias for process in processes for alias in process.sessions}:
        with get_database(connections[alias]).second_connection() as database:
            for pid in database.application_pids(names):
                database.terminate(pid)


def _command(fd: int) -> list[str]:
    # Private: there is no public way to hand on this interpreter's -W, -X and so on.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    django = [sys.executable, *flags, "-m", "django"]
    return [*django, "concurrent_call_wrapper", "--channel", str(fd)]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings_module() or "",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }


def _split_stack(stderr: str) -> tuple[str, str]:
    """Take what faulthandler wrote out of a child's standard error.

    It wrote the stacks of all threads, that of the main one last, and in each the most
    recent call first.
    """
    before, mark, dump = stderr.rpartition("Timeout (")
    if not mark:
        return stderr, ""
    main_thread = dump.rstrip().rpartition("\n\n")[2]
    calls = [line for line in main_thread.splitlines() if line.startswith("  File")]
    return before, "\n".join(reversed(calls))


def _show(text: str, stream: TextIO) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _text(file: IO[Any]) -> str:
    file.seek(0)
    content: bytes = file.read()
    return content.decode(errors="replace")

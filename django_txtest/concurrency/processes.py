"""Calls in processes: what the parent does with them, however they were made."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import uuid
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from typing import IO, Any, TextIO

from django.db import Error, connections

from django_txtest.concurrency import measuring
from django_txtest.concurrency.batch import (
    EXIT_TIMEOUT,
    START_TIMEOUT,
    Participant,
)
from django_txtest.concurrency.calls import Call, frames_of_call, has_whole_call
from django_txtest.concurrency.child import STACK_SIGNAL
from django_txtest.databases import get_database
from django_txtest.exceptions import CallError, CallTimeout, ChildCrashed, PicklingError
from django_txtest.outcomes import Outcome

#: How long a process gets to exit after SIGTERM.
TERM_TIMEOUT = 0.5
#: How long a process that is late gets to write its stack, in seconds.
STACK_TIMEOUT = 0.4


class ProcessParticipant(Participant):
    """A process that makes one call at a time."""

    pid: int
    exitcode: int | None = None

    def __init__(self, call: Call) -> None:
        channel, self._childs_channel = multiprocessing.Pipe()
        super().__init__(call, channel)
        # PostgreSQL's client library tells the server: so all sessions can be found.
        self.application_name = f"txtest {uuid.uuid4()}"
        self._packed_outcome: bytes | None = None
        self._has_threads = False
        self._ended_by_itself: bool | None = None
        self._timeout = 0.0
        self._stdout, self._stderr, self._stack_file = (
            tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
            for _ in range(3)
        )

    def begin(self, call: Call, timeout: float) -> None:
        """Get ready for another call.

        :param timeout: how long it may take, in seconds.
        """
        self.call = call
        self.is_ready = self.is_done = self.is_refused = False
        self.started = None
        self._packed_outcome = None
        self._timeout = timeout

    def take(self, content: Any) -> None:
        """Take in the outcome, and what was measured on the way to it."""
        self._packed_outcome, measured, self._has_threads = content
        measuring.add(measured)

    def clear_up(self) -> None:
        """End the sessions of the process, whose locks may outlive it."""
        with suppress(Error):  # it is tried again at the end of the batch
            _end_sessions([self], list(self.sessions))

    @property
    def task(self) -> str:
        """The folder of the process."""
        return f"/proc/{self.pid}"

    def is_alive(self) -> bool:
        """Tell whether the process has not ended."""
        return not self.wait(0.0)

    @abstractmethod
    def poll(self) -> int | None:
        """Return how the process ended, as `subprocess` has it; None if it has not."""

    def wait(self, seconds: float) -> bool:
        """Wait for the exit; return whether it came."""
        deadline = time.monotonic() + seconds
        while self.exitcode is None and (exitcode := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            _await_exit(self.pid, left)
        if self.exitcode is None:
            self.exitcode = exitcode
        return True

    def signal(self, number: int) -> bool:
        """Send a signal to the process and to all that it started.

        :returns: whether there was any of them.
        """
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def end(self, seconds: float) -> bool:
        """Wait for the exit, then end the process and all that it started.

        :returns: whether it ended by itself, and there was nothing else to end.
        """
        if self._ended_by_itself is not None:
            return self._ended_by_itself
        has_exited = self.wait(seconds)
        if not has_exited:
            self.signal(signal.SIGKILL)
            self.wait(EXIT_TIMEOUT)
        # What the call itself started ends with it.
        has_others = self.signal(signal.SIGKILL)
        has_more = has_others or self._has_threads
        self._ended_by_itself = self.exitcode == 0 and not has_more
        return self._ended_by_itself

    def ask_for_stack(self) -> None:
        """Let the process write where it is."""
        if STACK_SIGNAL is not None and self.is_ready:
            with suppress(ProcessLookupError):
                os.kill(self.pid, STACK_SIGNAL)

    def await_stack(self, deadline: float) -> None:
        """Wait until the process has written where it is."""
        while self.is_ready and not has_whole_call(self._stack()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)

    def _stack(self) -> list[str]:
        """Return the frames that the process has written, the most recent first."""
        # Read without a seek: the position in the file is the process's, too.
        fd = self._stack_file.fileno()
        text = os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
        lines = text.splitlines(keepends=True)
        return [line for line in lines if line.startswith("  ") and line.endswith("\n")]

    def outcome(self) -> Outcome:
        """Return what became of the call; show what the process printed."""
        stdout, stderr = _take_text(self._stdout), _take_text(self._stderr)
        _show(stdout, sys.stdout)
        _show(stderr, sys.stderr)
        return replace(
            self._unpack_outcome(stderr),
            stdout=stdout,
            stderr=stderr,
            pid=self.pid,
            exitcode=self.exitcode,
        )

    def _unpack_outcome(self, stderr: str) -> Outcome:
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
            return Outcome(error=ChildCrashed(label, self.exitcode, stderr))
        if not self.is_ready:
            late = CallTimeout(label, START_TIMEOUT, stderr, started=False)
            return Outcome(error=late)
        late = CallTimeout(label, self._timeout, frames_of_call(self._stack()[::-1]))
        return Outcome(error=late, started=self.started, duration=self._timeout)

    def close(self) -> None:
        """Give back what the parent has of the process."""
        self.channel.close()
        self._childs_channel.close()
        for file in (self._stdout, self._stderr, self._stack_file):
            file.close()


def end_late(processes: Sequence[ProcessParticipant]) -> None:
    """End the processes whose calls have taken too long."""
    late = [process for process in processes if not process.is_over]
    for process in late:
        process.ask_for_stack()
    deadline = time.monotonic() + STACK_TIMEOUT
    for process in late:
        process.await_stack(deadline)
        process.signal(signal.SIGTERM)
    _end(late, TERM_TIMEOUT)


def end_all(processes: Sequence[ProcessParticipant], aliases: Sequence[str]) -> None:
    """End all processes, and what they leave in the databases."""
    late = [process for process in processes if not process.is_over]
    over = [process for process in processes if process.is_over]
    is_clean = [*_end(late, 0.0), *_end(over, EXIT_TIMEOUT)]
    if all(is_clean):
        return
    _end_sessions(processes, aliases)


def _end_sessions(
    processes: Sequence[ProcessParticipant], aliases: Sequence[str]
) -> None:
    names = [process.application_name for process in processes]
    for alias in aliases:
        with get_database(connections[alias]).second_connection() as database:
            reported = [pid for process in processes for pid in process.sessions[alias]]
            database.terminate_all(database.application_pids(names, reported))


def _end(processes: Sequence[ProcessParticipant], seconds: float) -> list[bool]:
    deadline = time.monotonic() + seconds
    return [process.end(max(0.0, deadline - time.monotonic())) for process in processes]


def _await_exit(pid: int, seconds: float) -> None:
    """Wait until a process has ended; on some systems, for no more than a moment."""
    if sys.platform == "linux":
        with suppress(OSError):  # Linux before 5.3, or it has ended already
            fd = os.pidfd_open(pid)
            try:
                wait([fd], seconds)
            finally:
                os.close(fd)
            return
    time.sleep(min(seconds, 0.001))


def _show(text: str, stream: TextIO) -> None:
    if not text:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _take_text(file: IO[Any]) -> str:
    """Return what was written since the file was last empty, and empty it.

    Only while the child is not writing: the position in the file is its, too.
    """
    if not file.seek(0, os.SEEK_END):
        return ""
    file.seek(0)
    content: bytes = file.read()
    file.seek(0)
    file.truncate()
    return content.decode(errors="replace")

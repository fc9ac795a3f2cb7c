"""Calls in threads of this process."""

from __future__ import annotations

import contextvars
import multiprocessing
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.concurrency.batch import (
    EXIT_TIMEOUT,
    START_TIMEOUT,
    Participant,
    conduct,
)
from django_txtest.concurrency.calls import Call, frames_of_call
from django_txtest.concurrency.child import take_part
from django_txtest.concurrency.line import DONE, Line
from django_txtest.concurrency.tasks import busy_time_of_threads, task_of_thread
from django_txtest.databases import (
    close_connections,
    end_connection,
    get_database,
    leave_pools,
)
from django_txtest.exceptions import CallError, CallTimeout, DatabaseNotAllowed
from django_txtest.outcomes import Outcome

#: How long a thread gets to end after its statement, and then its session, were ended.
GRACE = 0.4


def run_in_threads(
    calls: Sequence[Call], aliases: Sequence[str], meet: str | None, timeout: float
) -> list[Outcome]:
    """Make each call in a thread."""
    threads = [ThreadParticipant(call, aliases, meet, timeout) for call in calls]
    try:
        for thread in threads:
            thread.start()
        conduct(threads, meet, timeout)
    finally:
        _wait([thread for thread in threads if thread.is_done], EXIT_TIMEOUT)
        for thread in threads:
            thread.note_stack()
            thread.channel.close()  # what has not begun will not begin any more
        _end([thread for thread in threads if thread.is_late])
    return [thread.outcome() for thread in threads]


class ThreadParticipant(Participant):
    """Makes one call, in a copy of the context of its creator."""

    def __init__(
        self, call: Call, aliases: Sequence[str], meet: str | None, timeout: float
    ) -> None:
        channel, self._channel = multiprocessing.Pipe()
        super().__init__(call, channel)
        #: The connections that the thread opened, and their sessions' numbers.
        self.connections: list[tuple[BaseDatabaseWrapper, int | None]] = []
        self._aliases = aliases
        self._meet = meet
        self._timeout = timeout
        self._outcome = Outcome()
        self._stack: str | None = None
        # Not join() and is_alive(): up to Python 3.12, an interrupted join() takes a
        # thread that goes on for one that has ended.
        self.finished = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run,
            args=[self._run],
            name=f"txtest {call.label}",
            daemon=True,
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Tell whether the thread has not finished."""
        return not self.finished.is_set()

    @property
    def task(self) -> str:
        """The folder of the thread."""
        return task_of_thread(self._thread.native_id)

    def busy(self) -> float:
        """Return for how long any thread of this process was busy."""
        return busy_time_of_threads()

    @property
    def is_late(self) -> bool:
        """Whether the thread was started and has not finished."""
        return self._thread.ident is not None and self.is_alive()

    def note_stack(self) -> None:
        """Remember where the thread is, if it has no outcome yet."""
        if self._thread.ident is not None and not self.is_over:
            frame = sys._current_frames().get(self._thread.ident)
            stack = traceback.format_stack(frame) if frame else []
            self._stack = frames_of_call(stack)

    def refuse_databases(self) -> None:
        """Let the thread, which goes on, never again use a database."""

        def connect() -> None:
            raise DatabaseNotAllowed(f"{self.call.label} was ended after its timeout.")

        for connection, _ in self.connections:
            connection.connect = connect  # type: ignore[method-assign]

    def outcome(self) -> Outcome:
        """Return what became of the call."""
        if self.finished.is_set():
            self._thread.join()
        if self.is_over:
            return self._outcome
        timeout = self._timeout if self.is_ready else START_TIMEOUT
        error = CallTimeout(
            self.call.label,
            timeout,
            self._stack or "",
            started=self.is_ready,
            goes_on=self.is_late,
        )
        duration = timeout if self.is_ready else None
        return Outcome(error=error, started=self.started, duration=duration)

    def _run(self) -> None:
        line = Line(self._channel)
        connection_created.connect(self._note)
        try:
            leave_pools(self._aliases)
            self._outcome = take_part(line, self.call, self._aliases, self._meet)
        except BaseException as error:  # noqa: BLE001 - the caller is to see it
            self._outcome = Outcome(error=CallError(self.call.label, error))
        finally:
            connection_created.disconnect(self._note)
            close_connections()
            with suppress(OSError):  # the batch may be over
                line.say(DONE)
            self._channel.close()
            self.finished.set()

    def _note(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if threading.current_thread() is self._thread:
            pid = get_database(connection).session_pid()
            self.connections.append((connection, pid))


def _end(threads: Sequence[ThreadParticipant]) -> None:
    # A thread cannot be ended, but what it does in the databases can: first its
    # statement, and if it goes on, its connections and all that it might still do.
    for thread in threads:
        thread.refuse_databases()
        for connection, pid in thread.connections:
            if pid is not None and connection.connection is not None:
                with get_database(connection).second_connection() as other:
                    other.cancel(pid)
    _wait(threads, GRACE)
    for thread in threads:
        if thread.is_late:
            for connection, _ in thread.connections:
                end_connection(connection)
    _wait(threads, GRACE)


def _wait(threads: Sequence[ThreadParticipant], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.finished.wait(max(0.0, deadline - time.monotonic()))

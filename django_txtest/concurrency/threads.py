"""Calls in threads of this process."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.concurrency.calls import Call
from django_txtest.databases import end_connection, get_database
from django_txtest.exceptions import CallError, CallTimeout, DatabaseNotAllowed
from django_txtest.outcomes import Outcome

#: How long opening the connections may take, in seconds.
START_TIMEOUT = 60.0
#: How long a thread gets to end after its statement, and then its session, were ended.
GRACE = 1.0


def run_in_threads(
    calls: Sequence[Call], aliases: Sequence[str], timeout: float
) -> list[Outcome]:
    """Make each call in a thread; all start together when all have connections."""
    go = threading.Event()
    threads = [CallThread(call, aliases, go) for call in calls]
    try:
        for thread in threads:
            thread.start()
        ready_by = time.monotonic() + START_TIMEOUT
        for thread in threads:
            if not thread.ready.wait(max(0.0, ready_by - time.monotonic())):
                thread.is_cancelled = True
        go.set()
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.finished.wait(max(0.0, deadline - time.monotonic()))
        stacks = {thread: thread.stack() for thread in threads if thread.is_late}
    except BaseException:  # Ctrl-C: no call is to begin any more
        for thread in threads:
            thread.is_cancelled = True
        raise
    finally:
        go.set()
        _end([thread for thread in threads if thread.is_late])
        for thread in threads:
            if thread.finished.is_set():
                thread.join()
    return [thread.result(timeout, stacks.get(thread)) for thread in threads]


class CallThread(threading.Thread):
    """Makes one call, in a copy of the context of its creator."""

    def __init__(self, call: Call, aliases: Sequence[str], go: threading.Event) -> None:
        super().__init__(name=f"txtest {call.label}", daemon=True)
        self.call = call
        self.ready = threading.Event()
        # Not join() and is_alive(): up to Python 3.12, an interrupted join() takes a
        # thread that goes on for one that has ended.
        self.finished = threading.Event()
        self.started: float | None = None
        self.outcome = Outcome()
        self.is_cancelled = False
        #: The connections that the thread opened, and their sessions' numbers.
        self.sessions: list[tuple[BaseDatabaseWrapper, int | None]] = []
        self._aliases = aliases
        self._go = go
        self._context = contextvars.copy_context()

    def run(self) -> None:
        """Open the connections, wait for the others, make the call, close."""
        connection_created.connect(self._note)
        try:
            self._context.run(self._make_call)
        finally:
            connection_created.disconnect(self._note)
            self.ready.set()
            connections.close_all()
            self.finished.set()

    def _note(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if threading.current_thread() is self:
            pid = get_database(connection).session_pid()
            self.sessions.append((connection, pid))

    def refuse_databases(self) -> None:
        """Let the thread, which goes on, never again use a database."""

        def connect() -> None:
            raise DatabaseNotAllowed(f"{self.call.label} was ended after its timeout.")

        for connection, _ in self.sessions:
            connection.connect = connect  # type: ignore[method-assign]

    @property
    def is_late(self) -> bool:
        """Whether the thread was started and has not finished."""
        return self.ident is not None and not self.finished.is_set()

    def _make_call(self) -> None:
        try:
            for alias in self._aliases:
                connections[alias].ensure_connection()
        except Exception as error:  # noqa: BLE001 - belongs to the caller's thread
            self.outcome = Outcome(error=CallError(self.call.label, error))
            return
        self.ready.set()
        self._go.wait()
        if self.is_cancelled:
            return
        self.started = time.monotonic()
        self.outcome = self.call.make()

    def result(self, timeout: float, stack: str | None) -> Outcome:
        """Return what became of the call; `stack` is where it was if it was late."""
        if self.is_cancelled:
            error = CallTimeout(self.call.label, START_TIMEOUT, started=False)
            return Outcome(error=error)
        if stack is None:
            return self.outcome
        error = CallTimeout(self.call.label, timeout, stack)
        return Outcome(error=error, started=self.started, duration=timeout)

    def stack(self) -> str:
        """Return where the thread is now."""
        frame = sys._current_frames().get(self.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else ""


def _end(threads: Sequence[CallThread]) -> None:
    # A thread cannot be ended, but what it does in the databases can: first its
    # statement, and if it goes on, its connections and all that it might still do.
    for thread in threads:
        thread.refuse_databases()
        for connection, pid in thread.sessions:
            if pid is not None and connection.connection is not None:
                with get_database(connection).second_connection() as other:
                    other.cancel(pid)
    _wait(threads)
    for thread in threads:
        if thread.is_late:
            for connection, _ in thread.sessions:
                end_connection(connection)
    _wait(threads)


def _wait(threads: Sequence[CallThread]) -> None:
    deadline = time.monotonic() + GRACE
    for thread in threads:
        thread.finished.wait(max(0.0, deadline - time.monotonic()))

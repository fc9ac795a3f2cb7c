"""The line between a call, in its thread or process, and the batch that it is in."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.concurrency.meeting import is_write
from django_txtest.databases import get_database, text_of

#: What a call says first: it has its connections.
READY = "ready"
#: It opened a connection: the alias, and the server's number for the session.
OPENED = "opened"
#: It has come to a write, and waits for the batch's word.
WRITE = "write"
#: It asks for a lock again and again, without waiting for it.
REFUSED = "refused"
#: What it says last; from a process, with its outcome, pickled.
DONE = "done"


class Line:
    """The call's end.

    :param threads: whether other threads of this process belong to the call, too.
    """

    def __init__(self, channel: Connection, *, threads: bool = False) -> None:
        self._channel = channel
        self._owner = _here()
        self._threads = threads
        self._lock = threading.Lock()
        #: The statements since the last write that were refused a lock.
        self._refused: set[str] = set()

    def say(self, kind: str, content: Any = None) -> None:
        """Tell the batch something."""
        with self._lock:
            self._channel.send((kind, content))

    def hear(self) -> Any:
        """Wait for the batch's word.

        :raises EOFError: if the batch is over.
        """
        return self._channel.recv()

    @contextmanager
    def report_sessions(self) -> Iterator[None]:
        """Within the block, tell the batch of each connection that is opened."""

        def report(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
            process, thread = _here()
            if process == self._owner[0] and (
                self._threads or thread == self._owner[1]
            ):
                pid = get_database(connection).session_pid()
                self.say(OPENED, (connection.alias, pid))

        connection_created.connect(report)
        try:
            yield
        finally:
            connection_created.disconnect(report)

    @contextmanager
    def meetings(self, connections: Any) -> Iterator[None]:
        """Within the block, wait for the batch's word before each write.

        :param connections: Django's; each is watched from its first use on.
        """
        watched: list[BaseDatabaseWrapper] = []
        self._refused.clear()

        def watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
            if self._owner == _here() and connection not in watched:
                watched.append(connection)
                connection.execute_wrappers.append(self._meet)

        for connection in connections.all(initialized_only=True):
            watch(connection)
        connection_created.connect(watch)
        try:
            yield
        finally:
            connection_created.disconnect(watch)
            for connection in watched:
                with suppress(ValueError):  # the call may have removed it
                    connection.execute_wrappers.remove(self._meet)

    def _meet(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: Any,
    ) -> Any:
        # What the call has forked has this, too, but not the line.
        if self._owner != _here():
            return execute(sql, params, many, context)
        text = text_of(sql, context["connection"])
        if is_write(text):
            self._refused.clear()
            self.say(WRITE)
            self.hear()
        try:
            return execute(sql, params, many, context)
        except DatabaseError as error:
            if get_database(context["connection"]).is_lock_timeout(error):
                self._note_refusal(text)
            raise

    def _note_refusal(self, sql: str) -> None:
        # Once is no loop. Others are not to go on before a call that then does so.
        if sql in self._refused:
            self.say(REFUSED)
        self._refused.add(sql)


def _here() -> tuple[int, int]:
    # Of a fork, too: what the call forks inherits the receivers of signals.
    return os.getpid(), threading.get_ident()

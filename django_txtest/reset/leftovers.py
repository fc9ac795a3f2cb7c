"""The connections that other threads open while a test class runs.

Django keeps a connection for each thread and closes it only at the end of a request.
A thread that a test starts leaves its session open, even when it has ended: the
session may hold locks, and keeps the test database from being dropped.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.databases import get_database


class Leftovers:
    """Watches for connections of other threads than its own, to close them."""

    def __init__(self) -> None:
        self._own_thread = threading.current_thread()
        self._threads: WeakKeyDictionary[BaseDatabaseWrapper, threading.Thread] = (
            WeakKeyDictionary()
        )

    def watch(self) -> None:
        """Begin to watch; goes on until `close_all`."""
        connection_created.connect(self._note)

    def close_ended(self) -> None:
        """Close the connections of threads that have ended."""
        for connection, thread in self._open():
            if not thread.is_alive():
                _close(connection)

    def close_all(self) -> None:
        """Close every connection, whatever it is doing, and stop watching.

        A thread that is still alive gets a new one from Django when it needs one.
        """
        connection_created.disconnect(self._note)
        for connection, thread in self._open():
            self._end(connection, thread)

    def end_sessions(self, alias: str) -> list[str]:
        """End the sessions of other threads on `alias`; return the threads' names."""
        names = []
        for connection, thread in self._open():
            if connection.alias == alias:
                self._end(connection, thread)
                names.append(thread.name)
        return names

    def _note(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        thread = threading.current_thread()
        if thread is not self._own_thread:
            self._threads[connection] = thread

    def _open(self) -> list[tuple[BaseDatabaseWrapper, threading.Thread]]:
        # A list: while it is gone through, threads may add to the dictionary.
        return [
            (connection, thread)
            for connection, thread in list(self._threads.items())
            if connection.connection is not None
        ]

    def _end(self, connection: BaseDatabaseWrapper, thread: threading.Thread) -> None:
        if thread.is_alive():
            with suppress(Error), connection.wrap_database_errors:
                get_database(connections[connection.alias]).end_session_of(connection)
        _close(connection)
        # Closed within an atomic block, it still refers to what is closed.
        self._threads.pop(connection, None)


def _close(connection: BaseDatabaseWrapper) -> None:
    connection.inc_thread_sharing()
    try:
        with suppress(Error):
            connection.close()
    finally:
        connection.dec_thread_sharing()

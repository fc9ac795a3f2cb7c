"""The connections that a test opens besides Django's own, and may leave open.

Django keeps a connection for each thread and closes it only at the end of a request.
A thread that a test starts leaves its session open, even when it has ended, and so does
a copy of a connection: the session may hold locks, and keeps the test database from
being dropped.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.databases import end_connection


class Leftovers:
    """Watches for connections other than those of its own thread, to close them."""

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
                self._end(connection)

    def close_all(self) -> None:
        """Close every connection, whatever it is doing, and stop watching."""
        connection_created.disconnect(self._note)
        for connection, _ in self._open():
            self._end(connection)

    def end_sessions(self, alias: str) -> list[str]:
        """End the sessions on `alias`; return the names of the threads."""
        found = [item for item in self._open() if item[0].alias == alias]
        for connection, _ in found:
            self._end(connection)
        return [thread.name for _, thread in found]

    def _note(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        thread = threading.current_thread()
        # By identity: an alias need not be one of the settings.
        is_djangos = any(
            connection is one for one in connections.all(initialized_only=True)
        )
        if thread is not self._own_thread or not is_djangos:
            self._threads[connection] = thread

    def _open(self) -> list[tuple[BaseDatabaseWrapper, threading.Thread]]:
        # A list: while it is gone through, threads may add to the dictionary.
        return [
            (connection, thread)
            for connection, thread in list(self._threads.items())
            if connection.connection is not None
        ]

    def _end(self, connection: BaseDatabaseWrapper) -> None:
        end_connection(connection)
        # Closed within an atomic block, it still refers to what is closed.
        self._threads.pop(connection, None)

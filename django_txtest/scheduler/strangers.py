"""Notices who else uses the databases while calls are made: they are no sessions."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Collection
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.databases import get_database


class Strangers:
    """Remembers who else connects to an explored database, or uses it.

    :param is_known: tells whether a thread is the engine's or that of a session.
    """

    def __init__(
        self, aliases: Collection[str], is_known: Callable[[threading.Thread], bool]
    ) -> None:
        #: The threads, or the sessions where it is not known whose they are.
        self.names: set[str] = set()
        #: Whether calls are made now.
        self.is_watching = False
        self._aliases = aliases
        self._is_known = is_known
        #: The server's numbers of the sessions that belong here, also of past ones.
        self._pids: set[int] = set()
        self._began: dict[str, Any] = {}

    def watch(self) -> None:
        """Begin to watch; goes on until `close`."""
        connection_created.connect(self._note)
        for alias in self._aliases:
            database = get_database(connections[alias])
            self._began[alias] = database.clock()
            self._keep(database.session_pid())

    def look(self) -> bool:
        """Ask the server, too, who was connected before; return if any was seen."""
        for alias, moment in self._began.items():
            if not self.names and moment is not None:
                database = get_database(connections[alias])
                for each in database.active_since(moment, self._pids):
                    self.names.add(f"by a session with pid {each.pid}")
        return bool(self.names)

    def close(self) -> None:
        """Stop watching, and warn of those that were seen."""
        connection_created.disconnect(self._note)
        if self.names:
            warnings.warn(
                f"While interleavings were explored, other threads used the database "
                f"({', '.join(sorted(self.names))}). What they do there is no step of "
                f"any session, so not every order was tried. Call async functions by "
                f"async_to_sync, which stays in the thread, and give what threads are "
                f"to do as calls of their own.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _note(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        thread = threading.current_thread()
        if self._is_known(thread):
            self._keep(get_database(connection).session_pid())
        elif self.is_watching and connection.alias in self._aliases:
            self.names.add(thread.name)

    def _keep(self, pid: int | None) -> None:
        if pid is not None:
            self._pids.add(pid)

"""Notices who else uses the databases while calls are made: they are no sessions."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Collection
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class Strangers:
    """Remembers the threads that connect to an explored database of their own accord.

    :param is_known: tells whether a thread is the engine's or that of a session.
    """

    def __init__(
        self, aliases: Collection[str], is_known: Callable[[threading.Thread], bool]
    ) -> None:
        self.names: set[str] = set()
        #: Whether calls are made now.
        self.is_watching = False
        self._aliases = aliases
        self._is_known = is_known

    def watch(self) -> None:
        """Begin to watch; goes on until `close`."""
        connection_created.connect(self._note)

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
        is_explored = connection.alias in self._aliases
        if self.is_watching and is_explored and not self._is_known(thread):
            self.names.add(thread.name)

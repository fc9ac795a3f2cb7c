"""Notices when a test changes the session of a connection, beyond its transactions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from django.db import connections

# What lasts for longer than a transaction: settings, temporary tables, locks, ...
_CHANGES = re.compile(
    r"\s*(SET|RESET|DISCARD|LISTEN|LOAD|PREPARE|PRAGMA|ATTACH|CREATE\s+TEMP(ORARY)?"
    r"|USE|LOCK\s+TABLES)\b"
    r"|.*\b(set_config|pg_(try_)?advisory_lock\w*|pg_temp|get_lock)\b",
    re.IGNORECASE | re.DOTALL,
)


# What SET says of the current transaction only.
_LOCAL = re.compile(r"\s*SET\s+(LOCAL|TRANSACTION|CONSTRAINTS)\b", re.IGNORECASE)


def outlasts_transaction(sql: object) -> bool:
    """Tell whether a statement changes its session beyond the transaction."""
    return _outlasts_transaction(sql if isinstance(sql, str) else str(sql))


# Most statements are executed many times.
@lru_cache(maxsize=1000)
def _outlasts_transaction(text: str) -> bool:
    return bool(_CHANGES.match(text)) and not _LOCAL.match(text)


class SessionWatch:
    """Sees the statements of this thread's connections, for one test."""

    def __init__(self) -> None:
        self.has_changes = False

    def begin(self) -> None:
        """Begin to watch."""
        self.has_changes = False
        for connection in connections.all(initialized_only=True):
            if self._see not in connection.execute_wrappers:
                connection.execute_wrappers.append(self._see)

    def end(self) -> None:
        """Stop watching."""
        for connection in connections.all(initialized_only=True):
            if self._see in connection.execute_wrappers:
                connection.execute_wrappers.remove(self._see)

    @contextmanager
    def looks_away(self) -> Iterator[None]:
        """Within the block, what is executed is not the test's."""
        has_changes = self.has_changes
        try:
            yield
        finally:
            self.has_changes = has_changes

    def _see(self, execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        if outlasts_transaction(sql):
            self.has_changes = True
        return execute(sql, *rest)

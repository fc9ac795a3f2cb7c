"""Learns from the databases which sessions wait for which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack

from django.db import connections

from django_txtest.databases import Database, get_database
from django_txtest.scheduler.session import SessionThread


class WaitWatch:
    """Asks over connections of its own, opened when there is first a question."""

    def __init__(self) -> None:
        self._databases: dict[str, Database] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        """Close the connections."""
        self._databases.clear()
        self._stack.close()

    def look(
        self, moving: Iterable[SessionThread], sessions: Collection[SessionThread]
    ) -> dict[int, frozenset[int]]:
        """Return, for each that waits for others of the sessions, which these are.

        What waits for anybody else is not returned: no step of ours could end that.
        """
        found: dict[int, set[int]] = {}
        asked: dict[str, dict[int, int]] = {}
        for session in moving:
            for alias, pid in session.pids.items():
                asked.setdefault(alias, {})[pid] = session.number
        for alias, numbers in asked.items():
            owners = {
                session.pids[alias]: session.number
                for session in sessions
                if alias in session.pids
            }
            answer = self.database(alias).blockers(list(numbers))
            for pid, blockers in answer.items():
                others = {owners[each] for each in blockers if each in owners}
                if others:
                    found.setdefault(numbers[pid], set()).update(others)
        return {number: frozenset(others) for number, others in found.items()}

    def database(self, alias: str) -> Database:
        """Return the database, over a connection of the watch's own."""
        if alias not in self._databases:
            database = get_database(connections[alias])
            self._databases[alias] = self._stack.enter_context(
                database.second_connection()
            )
        return self._databases[alias]


def has_circle(waits: Mapping[int, frozenset[int]]) -> bool:
    """Tell whether some wait for each other."""
    left = dict(waits)
    while free := [n for n, others in left.items() if not others & left.keys()]:
        for number in free:
            del left[number]
    return bool(left)

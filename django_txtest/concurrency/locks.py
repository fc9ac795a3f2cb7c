"""Finds out which calls wait for a lock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

from django.db import connections

from django_txtest.databases import Database, get_database

#: A call that was silent for so long, in seconds, is taken for waiting: where the
#: database can tell, for something else, such as a lock of Python's; where it cannot,
#: for a lock of the database.
SILENCE = 1.0
SILENCE_WITHOUT_PROOF = 0.25


class LockWatch:
    """Asks the databases, over connections of its own."""

    def __init__(self) -> None:
        self._databases: dict[str, Database] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        """Close the connections."""
        self._stack.close()

    def blocked(
        self,
        sessions: Mapping[int, Mapping[str, Collection[int]]],
        silence: Mapping[int, float],
        patience: float,
    ) -> Sequence[int]:
        """Return the calls that wait for a lock.

        :param sessions: those of each call, by alias.
        :param silence: for how long nothing was heard of each, in seconds.
        :param patience: after how much silence at most a call is taken for waiting.
        """
        waiting: set[int] = set()
        can_tell = True
        aliases = {alias for each in sessions.values() for alias in each}
        for alias in aliases:
            pids = {pid for each in sessions.values() for pid in each.get(alias, ())}
            answer = self._database(alias).waiting_pids(sorted(pids))
            if answer is None:
                can_tell = False
                continue
            waiting |= {
                number
                for number, each in sessions.items()
                if not answer.isdisjoint(each.get(alias, ()))
            }
        limit = SILENCE if can_tell else SILENCE_WITHOUT_PROOF
        limit = min(limit, patience)
        return [n for n in sessions if n in waiting or silence[n] > limit]

    def _database(self, alias: str) -> Database:
        if alias not in self._databases:
            database = get_database(connections[alias])
            self._databases[alias] = self._stack.enter_context(
                database.second_connection()
            )
        return self._databases[alias]

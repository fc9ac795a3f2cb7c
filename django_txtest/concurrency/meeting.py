"""Where calls meet before each of their writes, so that those collide."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from enum import Enum

# What follows WITH may be a write or not, so all of it is searched.
_WRITE = re.compile(
    r"[\s(;]*(INSERT|UPDATE|DELETE|MERGE|REPLACE|TRUNCATE|COPY|CALL|DO|LOAD|EXECUTE"
    r"|REFRESH|EXPLAIN[\s(]+ANALY[SZ]E"
    r"|WITH\b.*\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO))\b",
    re.IGNORECASE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_LOCKING_READ = re.compile(r"\bFOR\s+(NO\s+KEY\s+)?UPDATE\b", re.IGNORECASE)


def is_write(sql: str) -> bool:
    """Tell whether a statement writes rows, by how it begins."""
    if "--" in sql or "/*" in sql:
        sql = _COMMENT.sub(" ", sql)
    return bool(_WRITE.match(_LOCKING_READ.sub("", sql)))


class State(Enum):
    """What a call is doing, as far as its meetings go."""

    RUNNING = "running"
    HELD = "held"
    FINISHED = "finished"


class Meeting:
    """Knows which calls of a batch are held before a write, and which may go on.

    The phase of a call is the number of writes that it has come to. A held call may go
    on when each of the others has reached its phase, has finished, or is blocked: waits
    for a lock that one of them may hold.
    """

    def __init__(self, count: int) -> None:
        self.states = [State.RUNNING] * count
        self.phases = [0] * count

    def arrive(self, number: int) -> None:
        """Note that a call is held before its next write."""
        self.states[number] = State.HELD
        self.phases[number] += 1

    def finish(self, number: int) -> None:
        """Note that a call has ended, in whatever way."""
        self.states[number] = State.FINISHED

    def release(self, blocked: Collection[int] = ()) -> Sequence[int]:
        """Return the calls that may go on now, and take them for running."""
        free = [
            number
            for number in self._with(State.HELD)
            if not any(
                self.phases[other] < self.phases[number] and other not in blocked
                for other in self._with(State.RUNNING, State.HELD)
            )
        ]
        for number in free:
            self.states[number] = State.RUNNING
        return free

    def awaited(self) -> Sequence[int]:
        """Return the running calls that keep others held."""
        held = self._with(State.HELD)
        if not held:
            return []
        last = max(self.phases[number] for number in held)
        running = self._with(State.RUNNING)
        return [number for number in running if self.phases[number] < last]

    def _with(self, *states: State) -> list[int]:
        return [n for n, state in enumerate(self.states) if state in states]

"""What lasts: the transactions of a history, and the waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django_txtest.history import Event, Kind

_ENDS = (Kind.COMMIT, Kind.ROLLBACK)
_OVER = (Kind.RETURNS, Kind.RAISES)


@dataclass(frozen=True)
class Transaction:
    """From its first statement to its end, by their numbers in the history.

    `ending` is COMMIT or ROLLBACK, or None where the history does not show the end.
    """

    session: str
    alias: str
    first: int
    last: int
    ending: Kind | None


@dataclass(frozen=True)
class Wait:
    """From when a session has to wait to when it goes on.

    `told` has the numbers of the events that say for whom, the first one first. `last`
    is the event that ends it, or else the last of the history.
    """

    session: str
    told: tuple[int, ...]
    last: int

    @property
    def first(self) -> int:
        """The event that the wait begins with."""
        return self.told[0]


def transactions(history: Sequence[Event]) -> list[Transaction]:
    """Return the transactions, in the order in which they began."""
    found: list[Transaction] = []
    begun: dict[tuple[str, str], Transaction] = {}

    def end(key: tuple[str, str]) -> None:
        if key in begun:
            found.append(begun.pop(key))

    for index, event in enumerate(history):
        key = event.session, event.alias
        if event.kind in _OVER:
            for other in [each for each in begun if each[0] == event.session]:
                end(other)
        elif event.kind is Kind.STATEMENT and not event.in_transaction:
            end(key)
        elif event.kind is Kind.STATEMENT or event.kind in _ENDS:
            if event.kind is not Kind.ROLLBACK and key in begun and begun[key].ending:
                end(key)
            first = begun[key].first if key in begun else index
            ending = event.kind if event.kind in _ENDS else None
            begun[key] = Transaction(*key, first, index, ending)
            if ending is Kind.ROLLBACK:
                end(key)
        elif event.kind is Kind.ERROR and key in begun:
            before = begun[key]
            # A COMMIT that is refused rolls back, whether a ROLLBACK follows or not.
            ending = Kind.ROLLBACK if before.ending else None
            begun[key] = Transaction(*key, before.first, index, ending)
    for key in list(begun):
        end(key)
    return sorted(found, key=lambda transaction: transaction.first)


def waits(history: Sequence[Event]) -> list[Wait]:
    """Return the waits, in the order in which they began."""
    found: list[Wait] = []
    told: dict[str, list[int]] = {}
    for index, event in enumerate(history):
        name = event.session
        if event.kind is Kind.WAITS:
            told.setdefault(name, []).append(index)
        elif name in told:
            found.append(Wait(name, tuple(told.pop(name)), index))
    last = len(history) - 1
    found += [Wait(name, tuple(indexes), last) for name, indexes in told.items()]
    return sorted(found, key=lambda wait: wait.first)

"""Executions that were made elsewhere, kept until their turn comes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from django_txtest.history import Event, History
from django_txtest.scheduler.base import Choice, Scheduler

Choices = tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """What a scheduler is told of an execution, without what came of it.

    `steps` has for each of the choices which sessions could be chosen, and how many of
    the events there were by then.
    """

    choices: Choices
    steps: tuple[tuple[tuple[int, ...], int], ...]
    events: tuple[Event, ...]
    has_failed: bool
    was_bounded: bool

    def choice(self, depth: int) -> Choice:
        """Return what there was to choose from, after so many choices."""
        runnable, count = self.steps[depth]
        current = self.choices[depth - 1] if depth else None
        return Choice(runnable, current, self.events[:count])

    def is_like(self, other: Record, depth: int) -> bool:
        """Tell whether another one went the same way, until so many choices."""
        return self.steps[:depth] == other.steps[:depth]


class Records:
    """Records in the order of their choices: those that begin alike are neighbours."""

    def __init__(self) -> None:
        self._keys: list[Choices] = []
        self._records: list[Record] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, record: Record) -> None:
        """Keep a record."""
        index = bisect_left(self._keys, record.choices)
        self._keys.insert(index, record.choices)
        self._records.insert(index, record)

    def find(self, choices: Choices) -> Record | None:
        """Return a record that begins so; the one that has no more, if it is there."""
        index = bisect_left(self._keys, choices)
        is_found = index < len(self) and self._keys[index][: len(choices)] == choices
        return self._records[index] if is_found else None

    def discard(self, choices: Choices, most: int | None = None) -> None:
        """Forget the records that begin so, or the first of them."""
        first = last = bisect_left(self._keys, choices)
        while last < len(self) and self._keys[last][: len(choices)] == choices:
            if last - first == most:
                break
            last += 1
        del self._keys[first:last], self._records[first:last]


class Follower:
    """One execution, as far as records tell of it, and from there on as it is made.

    :param more: waits for records that there may soon be; returns False if there is
        nothing to wait for.
    """

    def __init__(
        self, scheduler: Scheduler, records: Records, more: Callable[[], bool]
    ) -> None:
        self._scheduler = scheduler
        self._records = records
        self._more = more
        self._choices: Choices = ()
        #: What the scheduler was told last.
        self._told: Record | None = None
        self._made = 0

    def find(self) -> Record | None:
        """Ask the scheduler for as long as records tell what comes of its choices.

        Returns the record of the execution, if there is one, and it did not fail. Else
        it is to be made, with `choose`, unless the scheduler has lost its way.
        """
        while (record := self._next()) is not None:
            depth = len(self._choices)
            self._told = record
            if len(record.choices) == depth:
                self._records.discard(record.choices, most=1)
                return None if record.has_failed else record
            number = self._scheduler.choose(record.choice(depth))
            if self._scheduler.lost is not None:
                self._records.discard(self._choices)
                return None
            self._choices = (*self._choices, number)
        return None

    def _next(self) -> Record | None:
        depth = len(self._choices)
        while (record := self._records.find(self._choices)) is None:
            if not self._more():
                return None
        is_alike = self._told is None or record.is_like(self._told, depth)
        return record if is_alike else None

    def choose(self, choice: Choice) -> int:
        """Follow what the scheduler has chosen before, and then ask it."""
        depth = self._made
        self._made += 1
        if self._scheduler.lost is None and depth < len(self._choices):
            if self._is_as_told(choice, depth):
                return self._choices[depth]
            self._scheduler.lost = (
                f"What was made elsewhere could not be made here: after {depth} steps "
                f"something else happened."
            )
            self._records.discard(self._choices[:depth])
        if self._scheduler.lost is not None:
            return choice.in_order[0]
        return self._scheduler.choose(choice)

    def _is_as_told(self, choice: Choice, depth: int) -> bool:
        assert self._told is not None
        if self._told.steps[depth] != (choice.runnable, len(choice.history)):
            return False
        before = self._told.steps[depth - 1][1] if depth else 0
        told = History(self._told.events[before : len(choice.history)])
        return told.first_difference(History(choice.history[before:])) is None

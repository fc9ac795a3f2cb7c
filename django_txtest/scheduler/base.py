"""What a way to choose schedules has to do, and what it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django_txtest.history import Event, History

#: How often a schedule is tried again that could not be followed to its end.
TRIES = 20

T = TypeVar("T", bound="Scheduler")
Choices = TypeVar("Choices", bytes, "tuple[int, ...]")


@dataclass(frozen=True)
class Program:
    """What is explored.

    `twins` has for each session one before it that makes the same call, if it makes no
    difference to anybody which of them does; else None.
    """

    sessions: tuple[str, ...]
    twins: tuple[int | None, ...] = ()
    #: Returns what is known of the databases, by alias; it asks them.
    databases: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class Choice:
    """Which sessions can make the next step.

    `runnable` has their numbers, in ascending order. `current` is the session that
    made the last step, also if it cannot go on, and None before the first. `history` is
    what happened until now.
    """

    runnable: tuple[int, ...]
    current: int | None = None
    history: Sequence[Event] = field(default=(), compare=False, repr=False)

    @property
    def in_order(self) -> tuple[int, ...]:
        """The runnable sessions, the one that can just go on first."""
        if self.current not in self.runnable:
            return self.runnable
        others = (number for number in self.runnable if number != self.current)
        return (self.current, *others)

    def is_preemption(self, number: int) -> bool:
        """Tell whether to choose it interrupts one that could have gone on."""
        return self.current in self.runnable and number != self.current


class Scheduler(ABC):
    """Chooses the schedules of an exploration."""

    #: Whether every schedule was tried, once `begin` has said that there is no other.
    exhausted = False
    #: Why an execution was none of those wanted, and does not count; else None. Where
    #: several sessions wait for one lock, it is up to the database who gets it.
    lost: str | None = None
    #: Whether it leaves out schedules in which twins have but changed places.
    is_symmetric = False
    #: Whether it tries a part of what another one does, and not the whole.
    is_part = False

    def restart(self) -> None:
        """Forget what was tried, as another exploration begins."""
        self.exhausted = False
        self.lost = None

    def prepare(self, program: Program) -> None:  # noqa: B027 - few need it
        """Learn what is explored."""

    @abstractmethod
    def begin(self) -> bool:
        """Tell whether there is to be another execution, and prepare for it."""

    @abstractmethod
    def choose(self, choice: Choice) -> int:
        """Return which of the runnable sessions makes the next step.

        It may be asked in the thread of any session, and is not to use a database.
        """

    def end(self, history: History) -> None:  # noqa: B027 - few need it
        """Learn what happened in the execution that has just ended."""

    def split(self, count: int) -> Sequence[Scheduler]:
        """Return up to `count` parts of what is left, to be tried ahead elsewhere.

        Between two executions. Each part can be pickled, and tries its own alone. What
        comes next is in none. A scheduler that is a part leaves out what it gave away;
        one that is not comes to all of it in its own order, and is then told of an
        execution as if it had just been made. If it cannot be made like that, `lost`
        is set, and the scheduler has to begin the same execution again.
        """
        return ()

    def covers(self, other: Scheduler) -> bool:
        """Tell whether this part still has to try what another one has begun."""
        return False

    def _part(self: T) -> T:
        """Return a copy that is a part, and has its own attributes."""
        part = copy(self)
        part.is_part = True
        return part


def begins_with_one(choices: Choices, beginnings: Collection[Choices]) -> bool:
    """Tell whether some choices begin as one of these beginnings says."""
    return any(choices[:n] in beginnings for n in range(len(choices) + 1))

"""Ways to choose schedules: is there to be another execution, and who goes next?"""

from __future__ import annotations

import heapq
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django_txtest.exceptions import InvalidSchedule, NotDeterministic
from django_txtest.history import Event, History
from django_txtest.scheduler.schedule import Schedule, letter

#: How often a schedule is tried again that could not be followed to its end.
TRIES = 20


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


class DfsScheduler(Scheduler):
    """Tries every schedule, once each.

    Those with the fewest preemptions come first, as most races need one or two; among
    those, it goes depth first. A preemption is to interrupt a session that could have
    gone on.
    """

    def __init__(self) -> None:
        #: Beginnings of schedules that are still to be tried, by preemptions; of those
        #: with as many, the one that was added last is the first.
        self._waiting: list[tuple[int, int, bytes]] = [(0, 0, b"")]
        self._added = 0
        self._prefix = b""
        self._tries = 0
        self._made = bytearray()
        self._preemptions = 0

    def begin(self) -> bool:
        """Tell whether there is a schedule that was not tried.

        :raises NotDeterministic: if one could not be followed, again and again.
        """
        if self.lost is not None:
            self._tries += 1
            if self._tries == TRIES:
                raise NotDeterministic(f"{self.lost} {NotDeterministic.REMEDY}")
        elif self._waiting:
            _, _, self._prefix = heapq.heappop(self._waiting)
            self._tries = 0
        else:
            self.exhausted = True
            return False
        self.lost = None
        self._made = bytearray()
        self._preemptions = 0
        return True

    def choose(self, choice: Choice) -> int:
        """Follow the beginning that is to be tried, then go on as long as possible."""
        depth = len(self._made)
        if depth < len(self._prefix):
            chosen = self._prefix[depth]
            if chosen not in choice.runnable:
                self.lost = (
                    f"The schedule {Schedule(self._prefix)} could be followed before, "
                    f"and now not beyond step {depth}."
                )
        if self.lost is not None:
            return choice.in_order[0]
        if depth >= len(self._prefix):
            chosen, *others = choice.in_order
            for other in reversed(others):
                self._add(choice, other)
        self._preemptions += choice.is_preemption(chosen)
        self._made.append(chosen)
        return chosen

    def _add(self, choice: Choice, number: int) -> None:
        self._added += 1
        preemptions = self._preemptions + choice.is_preemption(number)
        prefix = bytes(self._made) + bytes([number])
        heapq.heappush(self._waiting, (preemptions, -self._added, prefix))


class RandomScheduler(Scheduler):
    """Chooses any of the runnable sessions, each time with the same chance.

    :param seed: the same seed gives the same schedules.
    :param executions: how many to make.
    """

    def __init__(self, seed: int = 0, executions: int = 1000) -> None:
        self._seed = seed
        self._executions = _check_executions(executions)
        self._made = 0
        self._random = random.Random()

    def begin(self) -> bool:
        """Tell whether there are executions left."""
        if self._made >= self._executions:
            return False
        # Of a text, as that of a number and its neighbour begin alike.
        self._random = random.Random(f"{self._seed}/{self._made}")
        self._made += 1
        return True

    def choose(self, choice: Choice) -> int:
        """Return any of them."""
        return self._random.choice(choice.runnable)


class PctScheduler(Scheduler):
    """Probabilistic concurrency testing: random priorities, changed at a few steps.

    Of the runnable sessions, the one with the highest priority goes on; at `depth` - 1
    random steps it gets the lowest. Each execution finds a race that needs `depth`
    steps of different sessions to come in one order with a chance of at least
    1 / (n * k ** (depth - 1)), for n sessions with k steps in all.

    :param depth: how many steps the race is made of; 2 or 3 are those of most.
    :param seed: the same seed gives the same schedules.
    :param executions: how many to make.
    """

    def __init__(self, depth: int = 3, seed: int = 0, executions: int = 1000) -> None:
        if depth < 1:
            raise InvalidSchedule(f"depth={depth!r} is not a positive number.")
        self._depth = depth
        self._seed = seed
        self._executions = _check_executions(executions)
        self._made = 0
        self._random = random.Random()
        self._priorities: dict[int, float] = {}
        self._changes: dict[int, int] = {}
        self._steps = 0
        #: The most steps that an execution had so far; before the first, a guess.
        self._length = 20

    def begin(self) -> bool:
        """Tell whether there are executions left."""
        if self._made:
            self._length = max(self._steps, 1 if self._made == 1 else self._length)
        if self._made >= self._executions:
            return False
        self._random = random.Random(f"{self._seed}/{self._made}")
        self._made += 1
        self._priorities = {}
        self._steps = 0
        population = range(1, self._length + 1)
        count = min(self._depth - 1, len(population))
        changes = self._random.sample(population, count)
        self._changes = {step: -number for number, step in enumerate(changes, start=1)}
        return True

    def choose(self, choice: Choice) -> int:
        """Return the one with the highest priority."""
        for number in choice.runnable:
            if number not in self._priorities:
                self._priorities[number] = self._random.random()
        chosen = max(choice.runnable, key=self._priorities.__getitem__)
        if self._steps in self._changes:
            self._priorities[chosen] = self._changes[self._steps]
            chosen = max(choice.runnable, key=self._priorities.__getitem__)
        self._steps += 1
        return chosen


class ReplayScheduler(Scheduler):
    """Follows one schedule, once. Where it ends, each session goes on in turn."""

    def __init__(self, schedule: Schedule | str) -> None:
        if isinstance(schedule, str):
            schedule = Schedule.decode(schedule)
        self._schedule = schedule
        self._tries = 0
        self._made = 0

    def prepare(self, program: Program) -> None:
        """See that each letter of the schedule is that of a session.

        :raises InvalidSchedule: for one that is not.
        """
        names = program.sessions
        wrong = [each for each in self._schedule.choices if each >= len(names)]
        if wrong:
            letters = [f"{letter(n)} ({name})" for n, name in enumerate(names)]
            raise InvalidSchedule(
                f"The schedule {self._schedule} has {letter(wrong[0])!r}, and "
                f"the sessions are {' and '.join(letters)}. Copy what the failure "
                f"printed, and give the calls that it was found with."
            )

    def begin(self) -> bool:
        """Tell whether this is the first time, or the schedule was not followed.

        :raises InvalidSchedule: if it could not be followed, again and again.
        """
        if self._tries and self.lost is None:
            return False
        if self._tries == TRIES:
            raise InvalidSchedule(self.lost)
        self.lost = None
        self._tries += 1
        self._made = 0
        return True

    def choose(self, choice: Choice) -> int:
        """Return what the schedule has next."""
        choices: Sequence[int] = self._schedule.choices
        if self.lost is not None or self._made >= len(choices):
            return choice.in_order[0]
        chosen = choices[self._made]
        if chosen not in choice.runnable:
            self.lost = (
                f"The schedule {self._schedule} cannot be followed beyond step "
                f"{self._made}: session {letter(chosen)} cannot go on there. Was it "
                f"found with other calls, other rows or another version of the code?"
            )
            return choice.in_order[0]
        self._made += 1
        return chosen


def _check_executions(executions: int) -> int:
    if executions < 1:
        raise InvalidSchedule(f"executions={executions!r} is not a positive number.")
    return executions

"""Ways to choose schedules: is there to be another execution, and who goes next?"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

from django_txtest.exceptions import InvalidSchedule, NotDeterministic
from django_txtest.history import History
from django_txtest.scheduler.base import (
    TRIES,
    Choice,
    Program,
    Scheduler,
    begins_with_one,
)
from django_txtest.scheduler.schedule import Schedule, letter


class DfsScheduler(Scheduler):
    """Tries every schedule, once each.

    Those with the fewest preemptions come first, as most races need one or two; among
    those, it goes depth first. A preemption is to interrupt a session that could have
    gone on.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was tried, as another exploration begins."""
        super().restart()
        #: Beginnings of schedules that are still to be tried, by preemptions; of those
        #: with as many, the one that was added last is the first.
        self._waiting: list[tuple[int, int, bytes]] = [(0, 0, b"")]
        self._added = 0
        #: Those that the execution has found; they count if it does.
        self._found: list[tuple[int, int, bytes]] = []
        self._prefix = b""
        self._tries = 0
        self._made = bytearray()
        self._preemptions = 0
        #: Of a part, how all that it tries begins.
        self._roots: frozenset[bytes] = frozenset({b""})
        #: How that begins which was given away.
        self._given: set[bytes] = set()

    def begin(self) -> bool:
        """Tell whether there is a schedule that was not tried.

        :raises NotDeterministic: if one could not be followed, again and again.
        """
        if self.lost is not None:
            self._tries += 1
            if self._tries == TRIES:
                raise NotDeterministic(f"{self.lost} {NotDeterministic.REMEDY}")
            self._added -= len(self._found)
            self._found = []
        else:
            self._keep_found()
            if not self._waiting:
                self.exhausted = True
                return False
            _, _, self._prefix = heapq.heappop(self._waiting)
            self._tries = 0
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
        self._found.append((preemptions, -self._added, prefix))

    def _keep_found(self) -> None:
        for each in self._found:
            heapq.heappush(self._waiting, each)
        self._found = []

    def split(self, count: int) -> Sequence[Scheduler]:
        """Return parts that each begin with some of what comes soon."""
        self._keep_found()
        left = sorted(
            each for each in self._waiting if not begins_with_one(each[-1], self._given)
        )
        parts = []
        # In turns, as the schedules with fewer preemptions come first in all parts.
        for number in range(1, count + 1):
            if share := left[number :: count + 1]:
                part = self._part()
                part._waiting, part._found = share, []
                part._roots = frozenset(prefix for _, _, prefix in share)
                part._given = set()
                self._given |= part._roots
                parts.append(part)
        if self.is_part:
            self._waiting = left[:: count + 1]
        return parts

    def covers(self, other: Scheduler) -> bool:
        """Tell whether the beginning of a schedule is one of this part's."""
        return (
            isinstance(other, DfsScheduler)
            and begins_with_one(other._prefix, self._roots)
            and not begins_with_one(other._prefix, self._given)
        )


class _SeededScheduler(Scheduler):
    """Makes a number of executions, each with random numbers of its own."""

    def __init__(self, seed: int, executions: int) -> None:
        if executions < 1:
            raise InvalidSchedule(
                f"executions={executions!r} is not a positive number."
            )
        self._seed = seed
        self._executions = executions
        self.restart()

    def restart(self) -> None:
        """Forget what was made, as another exploration begins."""
        super().restart()
        self._made = 0
        #: Up to where executions were not given away.
        self._own = self._executions
        self._random = random.Random()

    def begin(self) -> bool:
        """Tell whether there are executions left."""
        if self.lost is not None:
            self.lost = None
            self._made -= 1
        if self._made >= self._executions:
            return False
        # Of a text, as that of a number and its neighbour begin alike.
        self._random = random.Random(f"{self._seed}/{self._made}")
        self._made += 1
        return True

    def split(self, count: int) -> Sequence[Scheduler]:
        """Return parts that each make as many of the last executions."""
        size = -(-(self._own - self._made) // (count + 1))
        parts: list[Scheduler] = []
        while len(parts) < count and self._own - self._made > size:
            part = self._part()
            part._executions = part._own
            self._own = part._made = part._own - size
            parts.append(part)
        if self.is_part:
            self._executions = self._own
        return parts

    def covers(self, other: Scheduler) -> bool:
        """Tell whether this part makes the execution of that number."""
        return (
            isinstance(other, _SeededScheduler)
            and self._made < other._made <= self._executions
        )


class RandomScheduler(_SeededScheduler):
    """Chooses any of the runnable sessions, each time with the same chance.

    :param seed: the same seed gives the same schedules.
    :param executions: how many to make.
    """

    def __init__(self, seed: int = 0, executions: int = 1000) -> None:
        super().__init__(seed, executions)

    def choose(self, choice: Choice) -> int:
        """Return any of them."""
        return self._random.choice(choice.runnable)


class PctScheduler(_SeededScheduler):
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
        super().__init__(seed, executions)

    def restart(self) -> None:
        """Forget what was made, as another exploration begins."""
        super().restart()
        self._priorities: dict[int, float] = {}
        self._changes: dict[int, int] = {}
        self._steps = 0
        #: The most steps that an execution had so far.
        self._longest = 0

    def begin(self) -> bool:
        """Tell whether there are executions left."""
        if self.lost is None:
            self._longest = max(self._longest, self._steps)
        if not super().begin():
            return False
        self._priorities = {}
        self._steps = 0
        # Before the first, a guess.
        population = range(1, (self._longest or 20) + 1)
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
        self.restart()

    def restart(self) -> None:
        """Forget that it was followed, as another exploration begins."""
        super().restart()
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

    def end(self, history: History) -> None:
        """See that the execution was not over before the schedule was."""
        left = len(self._schedule) - self._made
        if self.lost is None and left:
            self.lost = (
                f"The calls were over after {self._made} steps of the schedule "
                f"{self._schedule}, and {left} are left. Was it found with other "
                f"calls, other rows or another version of the code?\n\n{history}"
            )

"""Tries one schedule of those that cannot differ.

Dynamic partial-order reduction with source sets, sleep sets and wakeup trees (Flanagan
and Godefroid, POPL 2005; Abdulla, Aronis, Jonsson and Sagonas, POPL 2014, JACM 2017).
After each execution it is asked which steps of different sessions were a race: one
after the other, such that they depend on each other, with nothing in between that
orders them. For each, a schedule is kept in which the second comes first.

No step keeps another session from its next one, which is what the method asks for: a
statement that has to wait is a step, made when it is sent. What goes on when a lock is
given free is part of the step that gives it free, which is a step of both sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django_txtest.exceptions import NotDeterministic
from django_txtest.history import Event, History
from django_txtest.scheduler.base import (
    TRIES,
    Choice,
    Program,
    Scheduler,
    begins_with_one,
)
from django_txtest.scheduler.dependency import Dependency
from django_txtest.scheduler.effects import Effects
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.traces import Step, Trace

#: After how many times it is clear that a step usually does something else.
RARE = 4
MOST_REBASED = 100


@dataclass
class Branch:
    """Schedules that are to be tried: who goes first, and what comes after that.

    The step is what it was when it was seen.
    """

    step: Step
    after: list[Branch] = field(default_factory=list)

    def copy(self) -> Branch:
        """Return one that can be changed by itself."""
        return Branch(self.step, [branch.copy() for branch in self.after])


@dataclass
class Node:
    """A state that executions pass through, with what was and is to be tried there."""

    chosen: int
    #: Steps that were tried, here or before, and need not be tried again here.
    sleeping: dict[int, Step]
    #: What is to be tried yet.
    waiting: list[Branch]
    #: What is to be done after the chosen step.
    after: list[Branch]
    step: Step | None = None
    #: Whether all that can come of it was tried elsewhere.
    is_redundant: bool = False


class DporScheduler(Scheduler):
    """Tries one schedule of those that cannot differ, and so all that can.

    Two schedules cannot differ if one can be made of the other by changing the order of
    neighbouring steps that do not depend on each other. Identical calls are
    interchangeable: of the schedules in which they change places it tries one.
    """

    is_symmetric = True

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was tried, as another exploration begins."""
        super().restart()
        self._effects = Effects()
        self._depend = Dependency()
        self._numbers: Mapping[str, int] = {}
        self._twins: Sequence[int | None] = ()
        self._path: list[Node] = []
        self._trace = Trace(self._depend)
        #: How many steps of the execution are those of one before.
        self._known = 0
        #: How many steps it has, and how many events of them are known.
        self._made = 0
        self._seen = 0
        self._tries = 0
        #: The step that did not do what it did before, and how often that was so.
        self._strayed: int | None = None
        self._rebased = 0
        self._has_begun = False
        #: Of a part, how many of the choices are the same in all that it tries.
        self._floor = 0
        #: How that begins which was given away.
        self._given: set[tuple[int, ...]] = set()

    def prepare(self, program: Program) -> None:
        """Learn what is explored."""
        self._numbers = {name: n for n, name in enumerate(program.sessions)}
        databases = program.databases()
        self._effects = self._effects.afresh(databases)
        catalogues = {each.name: each.catalogue for each in databases.values()}
        self._depend = Dependency(catalogues)
        self._twins = program.twins

    def begin(self) -> bool:
        """Tell whether there is a schedule to be tried that may differ.

        :raises NotDeterministic: if one could not be followed, again and again.
        """
        if self._effects.was_wrong:
            if self.is_part:  # what it was given was, too
                self.exhausted = True
                return False
            self._path.clear()
            self._given.clear()
            self._tries = 0
        elif self.lost is not None:
            self._tries += 1
            if self._tries == TRIES or self._rebased == MOST_REBASED:
                raise NotDeterministic(f"{self.lost} {NotDeterministic.REMEDY}")
            del self._path[self._known :]
            if self._strayed is not None and self._tries >= RARE:
                self._rebase(self._strayed)
        elif self._has_begun and not self._go_back():
            self.exhausted = True
            return False
        else:
            self._tries = 0
        self._has_begun = True
        self.lost = self._strayed = None
        self._known = len(self._path)
        self._trace = Trace(self._depend, self._twins)
        self._made = self._seen = 0
        self._effects.begin()
        return True

    def _rebase(self, depth: int) -> None:
        """Go on from what a step usually does, and not from what it did before.

        Where several sessions wait for a lock, it is up to the server who gets it. If
        it was one that usually does not, what comes after that cannot be followed.
        """
        del self._path[depth + 1 :]
        self._path[depth].step = None
        self._path[depth].after = []
        self._rebased += 1
        self._tries = 0

    def _go_back(self) -> bool:
        """Go back to the last node where there is something to be tried."""
        while len(self._path) > self._floor:
            node = self._path[-1]
            assert node.step is not None
            node.sleeping[node.chosen] = node.step
            while node.waiting:
                branch = node.waiting.pop(0)
                if self.is_part and self._beginning(branch) in self._given:
                    node.sleeping[branch.step.session] = branch.step
                    continue
                node.chosen = branch.step.session
                node.after = branch.after
                node.step = None
                return True
            self._path.pop()
        return False

    def choose(self, choice: Choice) -> int:
        """Follow the schedule that is to be tried, then go on as long as possible."""
        if not self._observe(choice.history):
            return choice.in_order[0]
        depth = self._made
        self._made += 1
        if depth < self._known:
            chosen = self._path[depth].chosen
            if chosen not in choice.runnable:
                self.lost = (
                    f"The schedule {self._schedule(depth + 1)} could be followed "
                    f"before, and now not beyond step {depth}."
                )
                return choice.in_order[0]
            return chosen
        node = self._new_node(choice)
        self._path.append(node)
        return node.chosen

    def end(self, history: History) -> None:
        """Look for races in the execution that has just ended."""
        if self._observe(history):
            self._reverse_races()

    def _new_node(self, choice: Choice) -> Node:
        sleeping: dict[int, Step] = {}
        waiting: list[Branch] = []
        is_redundant = False
        if self._path:
            parent, made = self._path[-1], self._trace.steps[-1]
            waiting = list(parent.after)
            is_redundant = parent.is_redundant
            sleeping = {
                number: step
                for number, step in parent.sleeping.items()
                if number not in made.sessions
                and not self._trace.are_ordered(step, made)
            }
        allowed = self._trace.allowed(choice.in_order)
        while waiting and waiting[0].step.session not in allowed:
            waiting.pop(0)
        if waiting:
            branch = waiting.pop(0)
            return Node(branch.step.session, sleeping, waiting, branch.after)
        awake = [number for number in allowed if number not in sleeping]
        is_redundant = is_redundant or not awake
        chosen = (awake or allowed)[0]
        return Node(chosen, sleeping, [], [], is_redundant=is_redundant)

    def _schedule(self, length: int) -> Schedule:
        return Schedule(node.chosen for node in self._path[:length])

    # What happened

    def _observe(self, history: Sequence[Event]) -> bool:
        """Take note of what the last step did; return whether it was as expected."""
        events = history[self._seen :]
        self._seen = len(history)
        if self.lost is not None or len(self._trace.steps) == self._made:
            return self.lost is None
        node = self._path[self._made - 1]
        effect, names = self._effects.of_step(events)
        sessions = {node.chosen, *(self._numbers[name] for name in names)}
        step = self._trace.add(node.chosen, effect, frozenset(sessions))
        if self._made >= self._known:
            node.step = step
        elif node.step is not None and node.step.sessions != step.sessions:
            self._strayed = self._made - 1
            self.lost = (
                f"In the schedule {self._schedule(self._made)} it was not always the "
                f"same sessions that went on after the last step."
            )
        return self.lost is None

    # Races

    def _reverse_races(self) -> None:
        """Keep for each race that is new a schedule in which the other one is first."""
        trace = self._trace
        steps, causes = trace.steps, trace.causes
        end = next(
            (n for n, node in enumerate(self._path) if node.is_redundant), len(steps)
        )
        # What comes before that was looked at before.
        for later in range(max(self._known - 1, 0), end):
            for earlier in trace.races[later]:
                others = [
                    number
                    for number in range(earlier + 1, end)
                    if number != later and not causes[number] >> earlier & 1
                ]
                self._try(earlier, [steps[number] for number in (*others, later)])

    def _try(self, depth: int, steps: list[Step]) -> None:
        """Keep these steps to be tried at a node, if nothing else comes to the same."""
        if depth < self._floor:
            return  # it is found by the whole one, too, when this comes up there
        node = self._path[depth]
        if any(self._without(s, steps) is not None for s in node.sleeping.values()):
            return
        branches = node.waiting
        while steps:
            for branch in branches:
                rest = self._without(branch.step, steps)
                if rest is not None:
                    break
            else:
                branch = Branch(steps.pop())
                while steps:
                    branch = Branch(steps.pop(), [branch])
                branches.append(branch)
                return
            if not branch.after:
                return
            branches, steps = branch.after, rest

    def _without(self, step: Step, steps: list[Step]) -> list[Step] | None:
        """Return what is left of some steps if this may as well come before them."""
        for number, each in enumerate(steps):
            if each.session == step.session:
                if any(self._trace.are_ordered(b, each) for b in steps[:number]):
                    return None
                return steps[:number] + steps[number + 1 :]
        if any(self._trace.are_ordered(each, step) for each in steps):
            return None
        return steps

    # Parts

    def split(self, count: int) -> Sequence[Scheduler]:
        """Return parts for what waits nearest to the start, of which the most comes."""
        left = [
            (depth, branch)
            for depth in reversed(range(self._floor, len(self._path)))
            for branch in self._path[depth].waiting
            if not begins_with_one(self._beginning(branch, depth), self._given)
        ]
        parts = []
        for depth, branch in reversed(left[1:][-count:]):
            parts.append(self._part_of(depth, branch))
            self._given.add(self._beginning(branch, depth))
        return parts

    def _part_of(self, depth: int, branch: Branch) -> DporScheduler:
        above, node = self._path[:depth], self._path[depth]
        sleeping = dict(node.sleeping)
        assert node.step is not None
        sleeping[node.chosen] = node.step
        for other in node.waiting:
            if other is branch:
                break
            sleeping[other.step.session] = other.step
        part = self._part()
        part._path = [
            replace(each, sleeping={}, waiting=[], after=[]) for each in above
        ]
        part._path.append(
            replace(
                node,
                chosen=branch.step.session,
                sleeping=sleeping,
                waiting=[],
                after=branch.copy().after,
                step=None,
            )
        )
        part._floor = len(part._path)
        part._given = set()
        part._has_begun = False
        return part

    def covers(self, other: Scheduler) -> bool:
        """Tell whether a schedule is one of this part's that was not tried yet."""
        if not isinstance(other, DporScheduler):
            return False
        wanted = other._choices()
        if begins_with_one(wanted, self._given):
            return False
        for depth, (node, chosen) in enumerate(zip(self._path, wanted, strict=False)):
            if node.chosen != chosen:
                sessions = [branch.step.session for branch in node.waiting]
                return depth >= self._floor and chosen in sessions
        return len(wanted) >= self._floor and not self._has_begun

    def _beginning(self, branch: Branch, depth: int = -1) -> tuple[int, ...]:
        return (*self._choices()[:depth], branch.step.session)

    def _choices(self) -> tuple[int, ...]:
        return tuple(node.chosen for node in self._path)

    def __getstate__(self) -> dict[str, Any]:
        # What was learned of statements is learned again.
        depend = Dependency()
        own = {"_effects": self._effects.afresh({}), "_depend": depend}
        return {**vars(self), **own, "_trace": Trace(depend)}

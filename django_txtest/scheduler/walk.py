"""One execution as it goes: who makes the next step, and what happened until then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django_txtest.exceptions import TooManySteps
from django_txtest.history import History, Kind
from django_txtest.outcomes import Results
from django_txtest.scheduler.base import Choice
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.session import SessionThread
from django_txtest.scheduler.state import State


@dataclass(frozen=True)
class Execution:
    """One execution: who went when, what happened, and what came of the calls."""

    schedule: Schedule
    history: History
    results: Results


class Walk:
    """Goes from step to step.

    :param choose: tells which of the sessions makes the next step.
    :param bound: how often it may interrupt one that could go on.
    """

    def __init__(
        self,
        threads: Sequence[SessionThread],
        max_steps: int,
        choose: Callable[[Choice], int] | None = None,
        bound: int | None = None,
    ) -> None:
        self.history = History()
        #: When the last step began, by the monotonic clock.
        self.step_began = 0.0
        #: Who makes the step, or made the last one.
        self.mover: SessionThread | None = None
        #: Whether the bound ever left a choice out.
        self.was_bounded = False
        self._threads = threads
        self._max_steps = max_steps
        self._choose = choose
        self._bound = bound
        self._preemptions = 0
        self._choices: list[int] = []
        self._steps = 0

    @property
    def schedule(self) -> Schedule:
        """Who was chosen so far."""
        return Schedule(self._choices)

    @property
    def is_over(self) -> bool:
        """Whether every call is."""
        return all(thread.state is State.DONE for thread in self._threads)

    def execution(self) -> Execution:
        """Return the execution that is over."""
        outcomes = [thread.outcome for thread in self._threads]
        results = Results(outcome for outcome in outcomes if outcome is not None)
        return Execution(self.schedule, self.history, results)

    def next(self) -> SessionThread | None:
        """Choose who makes the next step, and begin it; None if nobody can."""
        if self.mover is not None and self._has_just_begun(self.mover):
            return self.step_of(self.mover.number)
        runnable = tuple(
            thread.number for thread in self._threads if thread.state is State.PAUSED
        )
        if not runnable:
            return None
        current = None if self.mover is None else self.mover.number
        choice = Choice(runnable, current, self.history)
        if self._bound is not None and self._preemptions >= self._bound:
            choice = self._uninterrupted(choice)
        assert self._choose is not None
        number = self._choose(choice)
        self._preemptions += choice.is_preemption(number)
        self._choices.append(number)
        return self.step_of(number)

    def step_of(self, number: int) -> SessionThread:
        """Begin a step of this session.

        :raises TooManySteps: if there were too many.
        """
        thread = self.mover = self._threads[number]
        self._steps += 1
        if self._steps > self._max_steps:
            raise self._too_many_steps(thread)
        self.step_began = time.monotonic()
        self.history.add(thread.point)
        return thread

    def _has_just_begun(self, thread: SessionThread) -> bool:
        """Tell whether it goes on to its first step at once.

        Nobody could tell when what is before it was done. Unless that is a checkpoint,
        which says that somebody could.
        """
        is_start = self.history[-1].kind is Kind.START
        is_checkpoint = thread.point.kind is Kind.CHECKPOINT
        return is_start and thread.state is State.PAUSED and not is_checkpoint

    def _uninterrupted(self, choice: Choice) -> Choice:
        if choice.current not in choice.runnable:
            return choice
        self.was_bounded |= len(choice.runnable) > 1
        return replace(choice, runnable=(choice.current,))

    def _too_many_steps(self, thread: SessionThread) -> TooManySteps:
        tail = History(self.history[-10:])
        place = thread.point.place
        return TooManySteps(
            f"An execution made more than {self._max_steps} steps, and session "
            f"{thread.name} would go on with {thread.point} (in {place}). If it "
            f"tries again and again, let it give up at some time; if it has much to "
            f"do, raise max_steps. The calls were ended. The last steps were:\n\n{tail}"
        )

"""Lets one exploration of a test replay a schedule, without a change to the test."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

from django_txtest.exceptions import ReplayRefused, TxTestError
from django_txtest.reset import current_test
from django_txtest.scheduler.base import Scheduler
from django_txtest.scheduler.exploration import Exploration
from django_txtest.scheduler.explorer import Explorer
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.strategies import ReplayScheduler


class ReplayRequest:
    """A schedule that is wanted in place of an exploration.

    :param number: which one, from 1, in the order in which a run comes to them; None if
        there is to be only one.
    """

    def __init__(self, schedule: Schedule, number: int | None = None) -> None:
        self.schedule = schedule
        self.number = number
        #: The tests whose explorations there were, by name, as often.
        self.tests: list[str] = []
        #: What came of the schedule.
        self.exploration: Exploration | None = None
        #: Why nothing did.
        self.problem: TxTestError | None = None

    def explore(self, explorer: Explorer, scheduler: Scheduler) -> Exploration:
        """Replay the schedule, or explore, where another exploration was meant.

        :raises ReplayRefused: if one was meant, and this is the second.
        """
        self.tests.append(current_test() or "?")
        if self.number is None and len(self.tests) > 1:
            first, second = self.tests
            self.problem = ReplayRefused(
                f"There is more than one exploration in {first}: choose one with "
                f"--exploration N, from 1."
                if first == second
                else f"There are explorations in {first} and in {second}: name one "
                f"test."
            )
            raise self.problem
        if len(self.tests) != (self.number or 1):
            return explorer.explore(scheduler)
        try:
            self.exploration = explorer.explore(ReplayScheduler(self.schedule))
        except TxTestError as error:
            self.problem = error
            raise
        return self.exploration


_current: contextvars.ContextVar[ReplayRequest | None] = contextvars.ContextVar(
    "django_txtest_replay", default=None
)


@contextmanager
def requested(schedule: Schedule, number: int | None = None) -> Iterator[ReplayRequest]:
    """Within the block, and in this context, replay a schedule."""
    request = ReplayRequest(schedule, number)
    token = _current.set(request)
    try:
        yield request
    finally:
        _current.reset(token)


def explore_as_requested(explorer: Explorer, scheduler: Scheduler) -> Exploration:
    """Explore, unless something else is wanted."""
    request = _current.get()
    if request is None:
        return explorer.explore(scheduler)
    return request.explore(explorer, scheduler)

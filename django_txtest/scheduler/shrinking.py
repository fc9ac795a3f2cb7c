"""Makes a schedule that fails shorter: few switches show a race best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TypeVar

from django_txtest.scheduler.schedule import Schedule

#: How many schedules are tried at most.
MAX_TRIES = 100

T = TypeVar("T")


def switches(schedule: Schedule) -> int:
    """Return how often one session goes on after another one."""
    return max(0, len(_runs(schedule)) - 1)


def shrink(
    schedule: Schedule,
    found: T,
    again: Callable[[Schedule], tuple[Schedule, T] | None],
) -> tuple[Schedule, T]:
    """Return a schedule with as few switches as can be had by moving runs together.

    :param found: what came of the schedule.
    :param again: makes an execution by a schedule, and returns the schedule that it
        had to the end with what came of it; None if that is no failure, too.
    """
    tries = 0
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for candidate in shorter(schedule):
            if tries == MAX_TRIES:
                break
            tries += 1
            made = again(candidate)
            if made is not None and switches(made[0]) < switches(schedule):
                schedule, found = made
                is_shorter = True
                break
    return schedule, found


def shorter(schedule: Schedule) -> Iterator[Schedule]:
    """Yield what has fewer switches: a run moved to the next one of its session.

    The steps of each session stay in their order. Who is first stays so if it can.
    """
    runs = _runs(schedule)
    later = []
    for first, run in enumerate(runs):
        for second in range(first + 2, len(runs)):
            if runs[second][0] == run[0]:
                between = runs[first + 1 : second]
                before, after = runs[:first], runs[second + 1 :]
                yield _join([*before, run, runs[second], *between, *after])
                later.append(_join([*before, *between, run, runs[second], *after]))
                break
    yield from later


def _runs(schedule: Schedule) -> list[tuple[int, ...]]:
    return [tuple(run) for _, run in groupby(schedule.choices)]


def _join(runs: list[tuple[int, ...]]) -> Schedule:
    return Schedule(choice for run in runs for choice in run)

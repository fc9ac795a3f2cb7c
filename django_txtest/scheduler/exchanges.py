"""Twins that change places: what one schedule tells of those that were left out.

If identical calls change places in a schedule, so do their results, and the rows stay
what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import factorial, prod
from typing import Any

from django_txtest.exceptions import CallError
from django_txtest.outcomes import Results
from django_txtest.scheduler.calls import is_same


def exchanges(results: Results, twins: Sequence[int | None]) -> Iterator[list[int]]:
    """Yield the other orders in which twins can have these results.

    Each says for every session whose result it has then. Of orders that give equal
    results, there is one.

    :param twins: for each session one before it that makes the same call, or None.
    """
    order = list(range(len(results)))
    yield from _orders(results, groups(twins), order)


def _orders(
    results: Sequence[Any], left: list[list[int]], order: list[int]
) -> Iterator[list[int]]:
    if not left:
        if order != sorted(order):
            yield list(order)
        return
    first, *others = left
    for arranged in _arrangements(results, first):
        for number, whose in zip(first, arranged, strict=True):
            order[number] = whose
        yield from _orders(results, others, order)


def _arrangements(results: Sequence[Any], numbers: list[int]) -> Iterator[list[int]]:
    """Yield these numbers in each order that gives other results."""
    if not numbers:
        yield []
    tried: list[int] = []
    for number in numbers:
        if any(is_same(results[number], results[each]) for each in tried):
            continue
        tried.append(number)
        rest = [each for each in numbers if each != number]
        for arranged in _arrangements(results, rest):
            yield [number, *arranged]


def groups(twins: Sequence[int | None]) -> list[list[int]]:
    """Return the sessions that make the same call, group by group."""
    found: dict[int, list[int]] = {}
    for number, twin in enumerate(twins):
        own = [number] if twin is None else [*found.pop(twin), number]
        found[number] = own
    return [group for group in found.values() if len(group) > 1]


def count_exchanges(twins: Sequence[int | None]) -> int:
    """Return in how many orders twins can have results, if no two are equal."""
    return prod(factorial(len(group)) for group in groups(twins))


def exchanged(results: Results, order: Iterable[int], names: Sequence[str]) -> Results:
    """Return the results in another order, with errors that say whose they are then."""
    outcomes = []
    for name, number in zip(names, order, strict=True):
        outcome = results.outcomes[number]
        if outcome.error is not None:
            error = CallError(f"session {name}", outcome.error.original)
            outcome = replace(outcome, error=error)
        outcomes.append(outcome)
    return Results(outcomes)

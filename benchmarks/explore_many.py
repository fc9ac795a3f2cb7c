"""Many sessions, and the share of the scheduler in their time: for `explore.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from benchmarks.project import everyday
from django_txtest import DporScheduler, explore
from django_txtest.scheduler.oracle import SerialOracle

SESSIONS = 4
LIMIT = 60.0
#: Transactions of two statements, the same in all sessions, and what holds afterwards.
CASES: list[tuple[str, Callable[[], Any], Callable[[list[Any]], bool]]] = [
    ("SELECT, F()", everyday.look_and_take, everyday.each_took_one),
    ("select_for_update", everyday.take_one_locked, everyday.each_took_one),
    ("two updates", everyday.update_both_in_order, everyday.each_took_one),
    ("insert, SELECT", everyday.pay_and_count, everyday.each_paid),
]


@dataclass
class OwnTime:
    """How long the scheduler and the comparison take, without any database."""

    seconds: float = 0.0

    def count(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, whose time is added."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return counted


@contextmanager
def own_time() -> Iterator[OwnTime]:
    """Measure it within the block."""
    own = OwnTime()
    parts = [(DporScheduler, name) for name in ("begin", "choose", "end")]
    with ExitStack() as stack:
        for owner, name in [*parts, (SerialOracle, "problem")]:
            counted = own.count(getattr(owner, name))
            # A function, so that it is bound like the one in whose place it is.
            stack.enter_context(mock.patch.object(owner, name, counted))
        yield own


def many() -> list[dict[str, Any]]:
    """Explore the cases, with and without an invariant, and print a table."""
    print(
        f"\n{SESSIONS} sessions of two statements, BEGIN and COMMIT:\n\n"
        f"{'':20}{'judged by':>14}{'verdict':>9}{'of':>6}{'s':>7}{'ms each':>9}"
        f"{'scheduler':>11}"
    )
    figures = []
    for name, call, holds in CASES:
        for invariant in (None, holds):
            everyday.prepare()
            began = time.perf_counter()
            with own_time() as own:
                found = explore(*[call] * SESSIONS, invariant=invariant, max_time=LIMIT)
            seconds = time.perf_counter() - began
            figure = {
                "case": name,
                "judge": "invariant" if invariant else "serial orders",
                "verdict": "proved" if found.exhausted else "cut",
                "executions": found.executions,
                "seconds": seconds,
                "own": own.seconds / seconds,
            }
            found.raise_if_failed()
            print(
                f"{name:20}{figure['judge']:>14}{figure['verdict']:>9}"
                f"{found.executions:>6}{seconds:>7.2f}"
                f"{1000 * seconds / found.executions:>9.1f}{figure['own']:>11.1%}",
                flush=True,
            )
            figures.append(figure)
    return figures

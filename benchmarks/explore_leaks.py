"""What is left in this process of many executions: for `explore.py`."""

from __future__ import annotations

from functools import partial

from benchmarks.explore_speed import by_the_orm
from benchmarks.leftovers import left
from benchmarks.project.everyday import prepare
from django_txtest import RandomScheduler, explore

#: How often one looks at what is left.
LOOKS = 10


def leaks(executions: int) -> list[dict[str, int]]:
    """Explore again and again, and print what this process has after each time."""
    prepare()
    calls = [partial(by_the_orm, 1), partial(by_the_orm, 1)]
    rows = [{"executions": 0, **left()}]
    names = list(rows[0])
    print("".join(f"{name:>14}" for name in names))
    while True:
        print("".join(f"{rows[-1][name]:>14}" for name in names), flush=True)
        made = rows[-1]["executions"]
        if made >= executions:
            return rows
        count = min(max(1, executions // LOOKS), executions - made)
        found = explore(
            *calls,
            scheduler=RandomScheduler(made, count),
            max_executions=count,
            max_time=float("inf"),
        )
        found.raise_if_failed()
        rows.append({"executions": made + found.executions, **left()})

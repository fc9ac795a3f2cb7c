"""What is left in this process of many executions: for `explore.py`."""

from __future__ import annotations

import gc
import os
import threading
from functools import partial

from django.db import connection

from benchmarks.explore_speed import by_the_orm
from benchmarks.project.everyday import prepare
from django_txtest import RandomScheduler, explore

#: How often one looks at what is left.
LOOKS = 10


def leaks(executions: int) -> list[dict[str, int]]:
    """Explore again and again, and print what this process has after each time."""
    prepare()
    calls = [partial(by_the_orm, 1), partial(by_the_orm, 1)]
    rows = [left(0)]
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
        rows.append(left(made + found.executions))


def left(executions: int) -> dict[str, int]:
    """Return what this process has: memory, threads, files, sessions, objects."""
    gc.collect()
    with open("/proc/self/status") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )
        (sessions,) = cursor.fetchone()
    return {
        "executions": executions,
        "RSS, KiB": rss,
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "sessions": sessions,
        "objects": len(gc.get_objects()),
    }

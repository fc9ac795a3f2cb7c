"""What several processes save in one exploration: for `explore.py`."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from benchmarks.project.everyday import each_took_one, prepare, take_in_the_database
from django_txtest import explore

#: Their 6! orders can all differ, as far as anybody knows.
SESSIONS = 6


def processes(count: int, rounds: int = 3) -> list[dict[str, Any]]:
    """Explore alone and with so many processes, in turns; print how long it took."""
    prepare()
    calls = [partial(take_in_the_database, number) for number in range(SESSIONS)]
    rows = []
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as executor:
        # Else the first time would be that of their start.
        explore(*calls[:2], executor=executor)
        print(
            f"{'executions':>12}{'alone, s':>12}{f'with {count}, s':>12}{'times':>8}"
            f"{'of CPU here, s':>24}"
        )
        for _ in range(rounds):
            seconds, cpu = [], []
            for helper in (None, executor):
                began, cpu_began = time.perf_counter(), time.process_time()
                found = explore(*calls, invariant=each_took_one, executor=helper)
                seconds.append(time.perf_counter() - began)
                cpu.append(time.process_time() - cpu_began)
                assert found.exhausted
            rows.append(
                {"executions": found.executions, "seconds": seconds, "cpu": cpu}
            )
            alone, together = seconds
            print(
                f"{found.executions:>12}{alone:>12.1f}{together:>12.1f}"
                f"{alone / together:>8.2f}{cpu[0]:>12.1f}{cpu[1]:>12.1f}",
                flush=True,
            )
    return rows

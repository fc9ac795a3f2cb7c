"""Explores one case with frontrun, in a process of its own: of `explore.py`.

    python -m frontrun.cli python -m benchmarks.explore_peer NUMBER SESSIONS SECONDS

The last line of its output is JSON. It has the default options of frontrun's support of
Django, but for two: psycopg 3 has no `lastrowid`, without which it refuses to go on
after an INSERT; and what failed is not made ten times more, as that is no exploration.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Any

import django


def main(number: int, sessions: int, seconds: float) -> dict[str, Any]:
    """Explore a case, and return what came of it."""
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", run_syncdb=True, verbosity=0)
    from frontrun.contrib.django import django_dpor

    from benchmarks.project.cases import CASES
    from benchmarks.project.everyday import prepare

    case = CASES[number]
    if case.isolation_level:
        from psycopg import IsolationLevel

        level = IsolationLevel[case.isolation_level.replace(" ", "_")]
        connections["default"].settings_dict["OPTIONS"]["isolation_level"] = level
        connections.close_all()
    executions = 0

    def setup() -> list[Any]:
        nonlocal executions
        executions += 1
        prepare()
        return [None] * sessions

    def call(results: list[Any], number: int) -> None:
        results[number] = case.call(number)

    began, cpu = time.perf_counter(), time.process_time()
    error = ""
    holds = None
    try:
        result = django_dpor(
            setup=setup,
            threads=[partial(call, number=number) for number in range(sessions)],
            invariant=case.holds,
            total_timeout=seconds,
            warn_nondeterministic_sql=False,
            reproduce_on_failure=0,
        )
        holds = result.property_holds
        if holds is None:
            error = str(result.inconclusive_reason)
    except Exception as exception:  # noqa: BLE001 - to be told as what it is
        lines = str(exception).strip().splitlines() or [""]
        error = f"{type(exception).__name__}: {lines[0]}"
    took = time.perf_counter() - began
    return {
        "verdict": verdict(case.is_racy, holds, error, is_cut=took >= seconds),
        "error": error,
        "executions": executions,
        "seconds": took,
        "cpu": time.process_time() - cpu,
    }


def verdict(is_racy: bool, holds: bool | None, error: str, is_cut: bool) -> str:
    """Say what an answer is worth."""
    if error:
        return "exception"
    if holds is False:
        return "found" if is_racy else "wrongly flagged"
    if is_cut or holds is None:
        return "cut"
    return "missed" if is_racy else "passed"


if __name__ == "__main__":
    figures = main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps(figures), flush=True)

"""Makes a batch of calls again and again, each time on the same databases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

from django_txtest.exceptions import ResetNotPossible
from django_txtest.outcomes import Results
from django_txtest.reset import current_layers

Check: TypeAlias = Callable[[Results], Any]


def repeat_runs(
    run: Callable[[], Results], repeat: int, check: Check | None
) -> Results:
    """Return the first results that went wrong, else the last, with all runs."""
    runs: list[Results] = []
    with ExitStack() as stack:
        if repeat > 1:
            layers = current_layers()
            if layers is None:
                raise ResetNotPossible
            put_back = stack.enter_context(layers.checkpoint())
        for number in range(repeat):
            if number:
                put_back()
            results = run()
            if check is not None:
                results.judge(check)
            runs.append(results)
    return Results.of_runs(runs)

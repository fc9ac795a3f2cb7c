"""Captures the callbacks of `transaction.on_commit` where commits are real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from django.db import connections

Callback: TypeAlias = Callable[[], Any]


@contextmanager
def capture_on_commit_callbacks(using: str) -> Iterator[list[Callback]]:
    """Collect the callbacks that are registered within the block on alias `using`.

    The list gets each callback when it runs, at the commit that it waited for, and at
    the end of the block those that still wait for a commit. A callback that a
    rollback discarded is not in it. Callbacks of other threads are not seen.
    """
    connection = connections[using]
    register = connection.on_commit
    captured: list[Callback] = []
    recorders: dict[Callback, Callback] = {}

    def on_commit(func: Any, robust: bool = False) -> None:
        if not callable(func):
            register(func, robust)  # raises Django's own error

        def recorder() -> None:
            if recorders.pop(recorder, None) is not None:
                captured.append(func)
            func()

        recorders[recorder] = func
        register(recorder, robust)

    connection.on_commit = on_commit  # type: ignore[method-assign]
    try:
        yield captured
    finally:
        if vars(connection).get("on_commit") is on_commit:
            connection.on_commit = register  # type: ignore[method-assign]
        waiting: Any
        for _, waiting, _ in connection.run_on_commit:  # type: ignore[misc]
            if waiting in recorders:
                captured.append(recorders.pop(waiting))

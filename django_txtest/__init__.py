"""Django tests for what only happens when transactions are real.

The public names are loaded when they are first used, so that importing the package
costs nothing and needs no configured settings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_txtest.concurrency import (
        call_concurrently,
        make_concurrent_calls,
        run_concurrently,
        workers,
    )
    from django_txtest.exceptions import (
        CallError,
        CallTimeout,
        ChildCrashed,
        RunsWentWrong,
    )
    from django_txtest.outcomes import Outcome, Results
    from django_txtest.testcases import NoAtomicMixin

_MODULE_OF = {
    "CallError": "exceptions",
    "CallTimeout": "exceptions",
    "ChildCrashed": "exceptions",
    "NoAtomicMixin": "testcases",
    "Outcome": "outcomes",
    "Results": "outcomes",
    "RunsWentWrong": "exceptions",
    "call_concurrently": "concurrency",
    "make_concurrent_calls": "concurrency",
    "run_concurrently": "concurrency",
    "workers": "concurrency",
}

__all__ = [
    "CallError",
    "CallTimeout",
    "ChildCrashed",
    "NoAtomicMixin",
    "Outcome",
    "Results",
    "RunsWentWrong",
    "call_concurrently",
    "make_concurrent_calls",
    "run_concurrently",
    "workers",
]


def __getattr__(name: str) -> Any:
    try:
        module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
    except KeyError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message) from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Django tests for what only happens when transactions are real.

The public names are loaded when they are first used, so that importing the package
costs nothing and needs no configured settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_txtest.lazy import lazy_names

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
        ExplorationCutShort,
        InterleavingFailed,
        NotDeterministic,
        ReadOnlyViolation,
        RunsWentWrong,
        ScriptError,
        SessionStuck,
        TooManySteps,
    )
    from django_txtest.history import (
        Event,
        History,
    )
    from django_txtest.outcomes import (
        Outcome,
        Results,
    )
    from django_txtest.readonly import (
        ReadOnlyModelMixin,
        allow_writes,
        forbid_writes,
    )
    from django_txtest.scheduler import (
        Anomaly,
        DfsScheduler,
        Exploration,
        Failure,
        PctScheduler,
        RandomScheduler,
        ReplayScheduler,
        Schedule,
        Scheduler,
        ScriptedSession,
        Session,
        checkpoint,
        explore,
        replay,
        sessions,
    )
    from django_txtest.testcases import (
        NoAtomicMixin,
        RaceAssertionsMixin,
        TxTestCase,
    )

_MODULE_OF = {
    "Anomaly": "scheduler",
    "CallError": "exceptions",
    "CallTimeout": "exceptions",
    "ChildCrashed": "exceptions",
    "DfsScheduler": "scheduler",
    "DporScheduler": "scheduler",
    "Event": "history",
    "Exploration": "scheduler",
    "ExplorationCutShort": "exceptions",
    "Failure": "scheduler",
    "History": "history",
    "InterleavingFailed": "exceptions",
    "NoAtomicMixin": "testcases",
    "NotDeterministic": "exceptions",
    "Outcome": "outcomes",
    "PctScheduler": "scheduler",
    "RaceAssertionsMixin": "testcases",
    "RandomScheduler": "scheduler",
    "ReadOnlyModelMixin": "readonly",
    "ReadOnlyViolation": "exceptions",
    "ReplayScheduler": "scheduler",
    "Results": "outcomes",
    "RunsWentWrong": "exceptions",
    "Schedule": "scheduler",
    "Scheduler": "scheduler",
    "ScriptedSession": "scheduler",
    "Session": "scheduler",
    "ScriptError": "exceptions",
    "SessionStuck": "exceptions",
    "TooManySteps": "exceptions",
    "TxTestCase": "testcases",
    "allow_writes": "readonly",
    "call_concurrently": "concurrency",
    "checkpoint": "scheduler",
    "explore": "scheduler",
    "forbid_writes": "readonly",
    "make_concurrent_calls": "concurrency",
    "replay": "scheduler",
    "run_concurrently": "concurrency",
    "sessions": "scheduler",
    "workers": "concurrency",
}

__all__ = [
    "Anomaly",
    "CallError",
    "CallTimeout",
    "ChildCrashed",
    "DfsScheduler",
    "DporScheduler",
    "Event",
    "Exploration",
    "ExplorationCutShort",
    "Failure",
    "History",
    "InterleavingFailed",
    "NoAtomicMixin",
    "NotDeterministic",
    "Outcome",
    "PctScheduler",
    "RaceAssertionsMixin",
    "RandomScheduler",
    "ReadOnlyModelMixin",
    "ReadOnlyViolation",
    "ReplayScheduler",
    "Results",
    "RunsWentWrong",
    "Schedule",
    "Scheduler",
    "ScriptError",
    "ScriptedSession",
    "Session",
    "SessionStuck",
    "TooManySteps",
    "TxTestCase",
    "allow_writes",
    "call_concurrently",
    "checkpoint",
    "explore",
    "forbid_writes",
    "make_concurrent_calls",
    "replay",
    "run_concurrently",
    "sessions",
    "workers",
]

__getattr__ = lazy_names(__name__, _MODULE_OF)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

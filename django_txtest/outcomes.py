"""What became of concurrent calls: the outcome of one, and the results of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django_txtest.exceptions import CallError


@dataclass(frozen=True)
class Outcome:
    """What one call returned or raised, and how it went.

    `started` is a reading of `time.monotonic()` that can be compared between the
    calls of a batch, or None if the call never started. `duration` is in seconds.
    `stdout` and `stderr` are what a process printed; threads and inline calls print
    to the caller's own streams. `pid` is the process that made the call, and
    `exitcode` how it ended, None if the call had no process of its own.
    """

    value: Any = None
    error: CallError | None = None
    started: float | None = None
    duration: float | None = None
    stdout: str = ""
    stderr: str = ""
    pid: int | None = None
    exitcode: int | None = None

    @property
    def result(self) -> Any:
        """The error if there is one, else the value."""
        return self.value if self.error is None else self.error


class Results(list[Any]):
    """The results of concurrent calls, in the order of the calls.

    Each is what the call returned, or a `CallError` if it raised or did not end.
    `outcomes` has an `Outcome` for each with all that is known about it.
    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self.outcomes = tuple(outcomes)
        super().__init__(outcome.result for outcome in self.outcomes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.outcomes,)

    @property
    def values(self) -> list[Any]:
        """What the calls that succeeded returned."""
        return [outcome.value for outcome in self.outcomes if outcome.error is None]

    @property
    def errors(self) -> list[CallError]:
        """The errors of the calls that failed."""
        return [outcome.error for outcome in self.outcomes if outcome.error]

    def raise_errors(self) -> None:
        """Raise if any call failed; do nothing otherwise.

        :raises CallError: the error of the first call that failed, with the original
            exception as its cause. If others failed too its message names them.
        """
        if not self.errors:
            return
        first, *first.others = self.errors
        raise first from (None if first.original is first else first.original)

    @property
    def skew(self) -> float:
        """Seconds between the first start of a call and the last."""
        starts = [o.started for o in self.outcomes if o.started is not None]
        return max(starts) - min(starts) if starts else 0.0

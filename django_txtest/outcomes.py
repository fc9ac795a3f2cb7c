"""What became of concurrent calls: the outcome of one, and the results of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django_txtest.exceptions import CallError, RunsWentWrong


@dataclass(frozen=True)
class Outcome:
    """What one call returned or raised, and how it went.

    `started` is a reading of `time.monotonic()` that can be compared between the
    calls of a batch, or None if the call never started. `duration` is in seconds.
    `stdout` and `stderr` are what a process printed; threads and inline calls print
    to the caller's own streams. `pid` is the process that made the call, and
    `exitcode` how it ended, None if the call had no process of its own or the process
    goes on.
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

    `runs` has the results of all runs, where the calls were repeated, and else these
    alone. `problem` is what the check of this run raised.
    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self.outcomes = tuple(outcomes)
        self.problem: Exception | None = None
        self._judged = False
        self._runs: tuple[Results, ...] = ()
        super().__init__(outcome.result for outcome in self.outcomes)

    @classmethod
    def of_runs(cls, runs: Sequence[Results]) -> Results:
        """Return the first run that went wrong, else the last, as one of all."""
        wrong = [run for run in runs if run.went_wrong]
        results = wrong[0] if wrong else runs[-1]
        if len(runs) > 1:
            results._runs = tuple(runs)
        return results

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.outcomes,)

    @property
    def runs(self) -> tuple[Results, ...]:
        """The results of each run of the calls."""
        return self._runs or (self,)

    @property
    def values(self) -> list[Any]:
        """What the calls that succeeded returned."""
        return [outcome.value for outcome in self.outcomes if outcome.error is None]

    @property
    def errors(self) -> list[CallError]:
        """The errors of the calls that failed."""
        return [outcome.error for outcome in self.outcomes if outcome.error]

    def judge(self, check: Callable[[Results], Any]) -> None:
        """Let a function decide whether this run went wrong.

        It did if the function raises an `Exception`, or returns what is false, but for
        None.
        """
        self._judged = True
        try:
            verdict = check(self)
            if verdict is not None and not verdict:
                self.problem = AssertionError(f"the check returned {verdict!r}")
        except Exception as error:  # noqa: BLE001 - whatever means that it went wrong
            self.problem = error

    @property
    def went_wrong(self) -> bool:
        """Whether this run did: its check said so, or if it had none, a call raised."""
        return self.problem is not None if self._judged else bool(self.errors)

    def report(self) -> str:
        """Say how many runs went wrong, and how."""
        wrong = [run for run in self.runs if run.went_wrong]
        lines = [f"{len(wrong)} of {len(self.runs)} runs went wrong."]
        ways = Counter(run._way() for run in wrong)
        lines += [f"  {count} x {way}" for way, count in ways.most_common()]
        return "\n".join(lines)

    def _way(self) -> str:
        if self.problem is None:
            return "; ".join(str(error) for error in self.errors)
        text = str(self.problem) or type(self.problem).__name__
        return f"{text} (results: {list(self)})"

    def raise_errors(self) -> None:
        """Raise if any run went wrong; do nothing otherwise.

        :raises CallError: the error of the first call that failed, with the original
            exception as its cause. If others failed too its message names them.
        :raises RunsWentWrong: with the report, where calls were repeated or checked.
        """
        if len(self.runs) > 1 or self._judged:
            if self.went_wrong:
                raise RunsWentWrong(self.report()) from self.problem
            return
        if not self.errors:
            return
        first, *first.others = self.errors
        raise first from (None if first.original is first else first.original)

    @property
    def skew(self) -> float:
        """Seconds between the first start of a call and the last."""
        starts = [o.started for o in self.outcomes if o.started is not None]
        return max(starts) - min(starts) if starts else 0.0

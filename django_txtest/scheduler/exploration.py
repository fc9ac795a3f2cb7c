"""What came of an exploration, and of an execution that failed."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from django_txtest.conf import settings
from django_txtest.exceptions import ExplorationCutShort, InterleavingFailed
from django_txtest.history import History
from django_txtest.outcomes import Results
from django_txtest.scheduler.anomalies import Anomaly
from django_txtest.scheduler.schedule import Schedule


class DefaultCount(int):
    """A limit that the caller did not set."""


class DefaultSeconds(float):
    """A limit that the caller did not set."""


@dataclass(frozen=True, repr=False)
class Failure:
    """An execution that must not be possible.

    `error` is what says so: what the invariant or a call raised, or, without an
    invariant, how the execution differs from the serial orders. `anomaly` is its name,
    where it has one.
    """

    schedule: Schedule
    history: History
    results: Results
    error: Exception
    #: What to write to see it again: imports, if there are any, and a call of `replay`.
    replay: str = ""
    anomaly: Anomaly | None = None
    #: What would mend it, where that is known.
    hint: str = ""
    #: The file that shows it, if one could be written.
    picture: Path | None = None
    #: How it differs from the serial orders, where `error` does not say so.
    comparison: str = ""
    #: What of the calls could not be written in `replay`, as a lambda.
    unwritten: tuple[str, ...] = ()
    #: What to type in a shell to see it again, where it is known which test runs.
    command: str = ""

    @property
    def summary(self) -> str:
        """What was broken, without how it came to that."""
        return summary(self.error)

    def __repr__(self) -> str:
        return f"<Failure of {self.schedule}: {self.summary.partition(chr(10))[0]}>"

    def __str__(self) -> str:
        return self.report(str(self.history))

    def report(self, transcript: str) -> str:
        """Return all that there is to tell, with this transcript."""
        again = f"The schedule is {self.schedule}. To see it again:"
        if self.unwritten:
            again = (
                f"The schedule is {self.schedule}. To see it again, add "
                f"scheduler=ReplayScheduler({self.schedule.encode()!r}) to the call "
                f"that found it, or write what is in angle brackets:"
            )
        return "\n".join(
            [
                self.summary,
                *([self.comparison] if self.comparison else []),
                "",
                textwrap.indent(transcript, "  "),
                "",
                *([f"Anomaly: {self.anomaly}."] if self.anomaly else []),
                *([f"Hint: {self.hint}"] if self.hint else []),
                again,
                textwrap.indent(self.replay, "  "),
                *([f"In a shell: {self.command}"] if self.command else []),
                *([f"Picture: {self.picture}"] if self.picture else []),
            ]
        )


@dataclass(repr=False)
class Exploration:
    """The executions of some calls, and what is proved by them.

    `exhausted` says that every schedule was tried that can differ: where it is True and
    there is no failure, there can be none. `limit` is what stopped the search, if
    something did before that.
    """

    executions: int = 0
    exhausted: bool = False
    failures: list[Failure] = field(default_factory=list)
    limit: str | None = None
    #: How to go beyond the limit, or to accept it, where nobody had asked for it.
    remedy: str | None = None
    #: How long it took, in seconds.
    duration: float = 0.0
    #: What happened in the last execution.
    history: History | None = None
    #: How many steps the longest schedule had.
    depth: int = 0

    @property
    def failure(self) -> Failure | None:
        """The first failure, if there is one."""
        return self.failures[0] if self.failures else None

    @property
    def was_cut_short(self) -> bool:
        """Whether a limit ended the search that the caller did not set."""
        return self.remedy is not None

    def raise_if_failed(self) -> None:
        """Raise if an execution failed, or if it cannot be known.

        :raises InterleavingFailed: with the report of the first failure.
        :raises ExplorationCutShort: if a limit that nobody asked for ended the search.
        """
        __tracebackhide__ = True  # pytest is to show the test, and not this
        if self.failure is not None:
            # Here, as the import takes as long as some hundred executions.
            from django_txtest.timeline.transcript import for_terminal

            transcript = for_terminal(self.failure.history, settings.transcript)
            raise InterleavingFailed(self._report(transcript)) from self.failure.error
        if self.was_cut_short:
            raise ExplorationCutShort(str(self))

    def __repr__(self) -> str:
        failures = len(self.failures)
        return f"<Exploration: executions={self.executions}, failures={failures}>"

    def __str__(self) -> str:
        return self._report()

    def _report(self, transcript: str | None = None) -> str:
        count = f"{self.executions} execution{'s' if self.executions != 1 else ''}"
        if self.failure is not None:
            how_many = len(self.failures)
            found = "failed" if how_many == 1 else f"first of {how_many} that failed"
            report = self.failure.report(transcript or str(self.failure.history))
            return f"Of {count}, one {found}.\n{report}"
        if self.exhausted:
            return f"No failure in {count}, and no other order can differ."
        if self.was_cut_short:
            return (
                f"The exploration was cut short after {count}, none of which failed, "
                f"by {self.limit}, which proves nothing. {self.remedy}"
            )
        return f"No failure in {count}; {self.limit} left others out."


def summary(error: Exception | None) -> str:
    """Return what an error says, and which it is where that says more."""
    text = str(error or "").strip()
    if isinstance(error, AssertionError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

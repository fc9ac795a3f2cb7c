"""What came of an exploration, and of an execution that failed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django_txtest.exceptions import ExplorationCutShort, InterleavingFailed
from django_txtest.history import History
from django_txtest.outcomes import Results
from django_txtest.scheduler.schedule import Schedule


class DefaultCount(int):
    """A limit that the caller did not set."""


class DefaultSeconds(float):
    """A limit that the caller did not set."""


@dataclass(frozen=True)
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
    #: What to write to see it again.
    replay: str = ""
    anomaly: str | None = None
    #: The file that shows it, if one could be written.
    picture: Path | None = None

    @property
    def summary(self) -> str:
        """What was broken, without how it came to that."""
        return _summary(self.error)

    def __str__(self) -> str:
        return "\n".join(
            [
                self.summary,
                "",
                textwrap.indent(str(self.history), "  "),
                "",
                *([f"This is a {self.anomaly}."] if self.anomaly else []),
                f"The schedule is {self.schedule}. To see it again:",
                textwrap.indent(self.replay, "  "),
                *([f"Picture: {self.picture}"] if self.picture else []),
            ]
        )


@dataclass
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
        if self.failure is not None:
            raise InterleavingFailed(str(self)) from self.failure.error
        if self.was_cut_short:
            raise ExplorationCutShort(str(self))

    def __str__(self) -> str:
        count = f"{self.executions} execution{'s' if self.executions != 1 else ''}"
        if self.failure is not None:
            how_many = len(self.failures)
            found = "failed" if how_many == 1 else f"first of {how_many} that failed"
            return f"Of {count}, one {found}.\n{self.failure}"
        if self.exhausted:
            return f"No failure in {count}, which are all that there are."
        if self.was_cut_short:
            return (
                f"The exploration was cut short after {count}, none of which failed, "
                f"by {self.limit}, which proves nothing. {self.remedy}"
            )
        return f"No failure in {count}; {self.limit} left others out."


def replay_call(schedule: Schedule, calls: Sequence[str], **options: Any) -> str:
    """Return the code that makes an execution again."""
    arguments = [repr(schedule.encode()), *calls]
    arguments += [f"{name}={value}" for name, value in options.items()]
    return f"replay({', '.join(arguments)}).raise_if_failed()"


def _summary(error: Exception) -> str:
    text = str(error).strip()
    if isinstance(error, AssertionError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

"""Makes the executions of an exploration, and judges each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django_txtest.exceptions import CallError, NotDeterministic
from django_txtest.outcomes import Results
from django_txtest.scheduler.calls import Session, name_of
from django_txtest.scheduler.engine import Engine, Execution
from django_txtest.scheduler.exploration import (
    DefaultCount,
    DefaultSeconds,
    Exploration,
    Failure,
    replay_call,
)
from django_txtest.scheduler.oracle import Final, SerialOracle
from django_txtest.scheduler.pictures import MAX_PICTURES, with_picture
from django_txtest.scheduler.start import Start
from django_txtest.scheduler.strategies import TRIES, ReplayScheduler, Scheduler


@dataclass(frozen=True)
class Limits:
    """What ends an exploration before it has tried everything."""

    executions: int
    seconds: float
    preemption_bound: int | None
    stop_on_first: bool


class Explorer:
    """Explores some calls, once."""

    def __init__(
        self,
        engine: Engine,
        start: Start,
        sessions: Sequence[Session],
        limits: Limits,
        progress: Callable[[Exploration], object],
    ) -> None:
        self._engine = engine
        self._start = start
        self._sessions = sessions
        self._limits = limits
        self._progress = progress
        self._invariant: Callable[[Results], Any] | None = None
        self._oracle: SerialOracle | None = None
        self._allow: tuple[type[BaseException], ...] = ()
        self._options: dict[str, str] = {}

    def judge_by(
        self,
        invariant: Callable[[Results], Any] | None,
        allow: tuple[type[BaseException], ...],
        ignore: Collection[str],
    ) -> None:
        """Take what decides whether an execution failed."""
        self._invariant = invariant
        self._allow = allow
        if invariant is not None:
            self._options["invariant"] = name_of(invariant)
        else:
            names = [session.name for session in self._sessions]
            self._oracle = SerialOracle(self._start, names, self._serial, ignore, allow)
        if allow:
            names = [cls.__name__ for cls in allow]
            self._options["allow"] = f"({', '.join(names)},)"
        if ignore:
            self._options["ignore"] = repr(sorted(ignore))

    def remember(
        self, setup: Callable[[], object] | None, isolation_level: str | None
    ) -> None:
        """Take what else has to be given again for a replay."""
        if setup is not None:
            self._options["setup"] = name_of(setup)
        if isolation_level is not None:
            self._options["isolation_level"] = repr(isolation_level)

    def explore(self, scheduler: Scheduler) -> Exploration:
        """Make the executions that a scheduler asks for."""
        began = time.monotonic()
        found = Exploration()
        if self._oracle is not None:
            self._oracle.prepare()
        limits = self._limits
        while True:
            found.duration = time.monotonic() - began
            if found.failures and limits.stop_on_first:
                found.limit = "the first failure"
                break
            if found.executions >= limits.executions:
                self._cut(
                    found,
                    f"the limit of {limits.executions} executions",
                    isinstance(limits.executions, DefaultCount) and "max_executions",
                )
                break
            if found.duration > limits.seconds:
                self._cut(
                    found,
                    f"the limit of {limits.seconds:g} s",
                    isinstance(limits.seconds, DefaultSeconds) and "max_time",
                )
                break
            if not scheduler.begin():
                self._end(found, scheduler)
                break
            execution, error = self._execute(scheduler, limits.preemption_bound)
            scheduler.end(execution.history)
            if scheduler.lost is not None:
                continue
            found.executions += 1
            found.history = execution.history
            if error is not None:
                if not isinstance(scheduler, ReplayScheduler):
                    self._confirm(execution)
                failure = self._failure(execution, error)
                if len(found.failures) < MAX_PICTURES:
                    failure = with_picture(failure)
                found.failures.append(failure)
            found.duration = time.monotonic() - began
            self._progress(found)
        return found

    def _end(self, found: Exploration, scheduler: Scheduler) -> None:
        """Say what it means that the scheduler has no other schedule."""
        if scheduler.exhausted and not self._engine.was_bounded:
            found.exhausted = True
        elif scheduler.exhausted:
            bound = self._limits.preemption_bound
            found.limit = f"the bound of {bound} preemptions"
        else:
            found.limit = f"the choice of {type(scheduler).__name__}"

    def _cut(self, found: Exploration, limit: str, default: str | bool) -> None:
        found.limit = limit
        if default:
            found.remedy = (
                f"Raise {default} to try more, or pass it as it is to accept that; "
                f"preemption_bound=2 finds most races in less time."
            )

    def _execute(
        self, scheduler: Scheduler, bound: int | None = None
    ) -> tuple[Execution, Exception | None]:
        self._start.begin()
        self._start.leave()
        execution = self._engine.execute(scheduler.choose, bound)
        return execution, self._judge(execution.results)

    def _serial(self, order: Sequence[int]) -> Final:
        assert self._oracle is not None
        self._start.begin()
        self._start.leave()
        execution = self._engine.execute_serially(order)
        return self._oracle.final(execution.results)

    def _judge(self, results: Results) -> Exception | None:
        if self._oracle is not None:
            final = self._oracle.final(results)
            self._start.begin()
            self._start.learn()
            problem = self._oracle.problem(final)
            return AssertionError(problem) if problem else None
        for result in results:
            is_error = isinstance(result, CallError)
            if is_error and not isinstance(result.original, self._allow):
                return result  # type: ignore[no-any-return]
        assert self._invariant is not None
        try:
            if self._invariant(results) is False:
                return AssertionError(
                    f"The invariant {name_of(self._invariant)} does not hold."
                )
        except Exception as error:  # noqa: BLE001 - whatever means that it failed
            return error
        return None

    def _confirm(self, execution: Execution) -> None:
        """Make an execution that failed again, and see that it does.

        :raises NotDeterministic: if it does not, or goes another way.
        """
        difference: str | None = None
        for _ in range(TRIES):
            scheduler = ReplayScheduler(execution.schedule)
            scheduler.begin()
            again, error = self._execute(scheduler)
            difference = execution.history.first_difference(again.history)
            if difference is None and error is not None:
                return
            # Else it may be that sessions waited for one lock, and another one got it.
        raise NotDeterministic(
            f"The schedule {execution.schedule} failed, but when it was made again, "
            f"{difference or 'it did not'}. {NotDeterministic.REMEDY}\n\n"
            f"{execution.history}"
        )

    def _failure(self, execution: Execution, error: Exception) -> Failure:
        calls = [session.source for session in self._sessions]
        return Failure(
            execution.schedule,
            execution.history,
            execution.results,
            error,
            replay_call(execution.schedule, calls, **self._options),
        )

"""Makes the executions of an exploration, and judges each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from django_txtest.exceptions import NotDeterministic
from django_txtest.history import History
from django_txtest.outcomes import Results
from django_txtest.reset import current_test
from django_txtest.scheduler.base import TRIES, Choice, Program, Scheduler
from django_txtest.scheduler.calls import Session, find_twins
from django_txtest.scheduler.effects import explored
from django_txtest.scheduler.engine import Engine
from django_txtest.scheduler.exchanges import count_exchanges
from django_txtest.scheduler.explaining import Explainer
from django_txtest.scheduler.exploration import (
    DefaultCount,
    DefaultSeconds,
    Exploration,
    Failure,
)
from django_txtest.scheduler.judges import InvariantJudge, Judge, SerialJudge
from django_txtest.scheduler.oracle import Final
from django_txtest.scheduler.pictures import MAX_PICTURES, with_picture
from django_txtest.scheduler.pinning import Pins
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.shrinking import shrink
from django_txtest.scheduler.source import Writer
from django_txtest.scheduler.start import Start
from django_txtest.scheduler.strategies import ReplayScheduler
from django_txtest.scheduler.walk import Execution

#: Of how many orders of twins an invariant is asked, at most, of one execution.
MAX_EXCHANGES = 720

#: An execution that failed, why, and what it came to.
_Failed: TypeAlias = "tuple[Execution, Exception, Final | None]"


@dataclass(frozen=True)
class Made:
    """An execution that counts: what happened, and whether it failed.

    `execution` and `error` are there if it did.
    """

    history: History
    depth: int
    execution: Execution | None = None
    error: Exception | None = None


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
        explainer: Explainer,
        progress: Callable[[Exploration], object],
        pins: Pins | None = None,
    ) -> None:
        self._engine = engine
        self._start = start
        self._sessions = sessions
        self._limits = limits
        self._explainer = explainer
        self._progress = progress
        self._away = pins.away if pins else nullcontext
        self._twins = find_twins(sessions)
        # Each session draws numbers of its own where they are pinned.
        if pins is not None or count_exchanges(self._twins) > MAX_EXCHANGES:
            self._twins = (None,) * len(sessions)
        #: How twins have to change places for the last execution to fail.
        self._exchange: Sequence[int] | None = None
        self._judge: Judge
        #: What has to be given again for a replay.
        self._options: dict[str, Any] = {}
        self._where: tuple[Sequence[str], str | None] = ((), None)

    def judge_by(
        self,
        invariant: Callable[[Results], Any] | None,
        allow: tuple[type[BaseException], ...],
        ignore: Collection[str],
    ) -> None:
        """Take what decides whether an execution failed."""
        names = [session.name for session in self._sessions]
        start, run = self._start, self._execute_serially
        if invariant is None:
            self._judge = SerialJudge(start, names, run, ignore, allow)
        else:
            self._judge = InvariantJudge(start, names, run, ignore, allow, invariant)
        self.remember(invariant=invariant, allow=allow, ignore=sorted(ignore))

    def remember(self, **options: Any) -> None:
        """Take what has to be given again for a replay, where it was given."""
        self._options.update((name, each) for name, each in options.items() if each)

    def look_at(self, aliases: Sequence[str], isolation_level: str | None) -> None:
        """Take where the calls are made."""
        self._where = aliases, isolation_level

    def explore(self, scheduler: Scheduler) -> Exploration:
        """Make the executions that a scheduler asks for."""
        began = time.monotonic()
        found = Exploration()
        scheduler.prepare(self._program())
        self._judge.prepare()
        limits = self._limits
        while True:
            found.duration = time.monotonic() - began
            if found.failures and (limits.stop_on_first or self._judge.is_stuck):
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
            made = self._make(scheduler)
            if made is None:
                continue
            found.executions += 1
            found.history = made.history
            found.depth = max(found.depth, made.depth)
            if made.execution is not None and made.error is not None:
                self._add_failure(found, scheduler, made.execution, made.error)
            found.duration = time.monotonic() - began
            self._progress(found)
        return found

    def doubt(self) -> str:
        """Say what speaks against it if all was well."""
        return self._judge.doubt()

    def _make(self, scheduler: Scheduler) -> Made | None:
        """Make the execution that a scheduler has begun; None if it does not count."""
        return self._make_by(scheduler)

    def _make_by(
        self, scheduler: Scheduler, choose: Callable[[Choice], int] | None = None
    ) -> Made | None:
        bound = self._limits.preemption_bound
        execution, error = self._execute(scheduler, bound, choose)
        scheduler.end(execution.history)
        if scheduler.lost is not None:
            return None
        return Made(execution.history, len(execution.schedule), execution, error)

    def _add_failure(
        self,
        found: Exploration,
        scheduler: Scheduler,
        execution: Execution,
        error: Exception,
    ) -> None:
        if self._exchange is not None:
            execution, again = self._make_exchange(execution, self._exchange)
            if again is None:
                return
            error = again
        if not isinstance(scheduler, ReplayScheduler):
            if self._limits.stop_on_first:
                execution, error = self._shrink(execution, error)
            self._confirm(execution)
        if not found.failures and (difference := self._judge.recheck()) is not None:
            raise NotDeterministic(
                f"The calls were made one after the other again, and {difference} "
                f"(where there is the first time). {NotDeterministic.REMEDY}\n\n"
                f"{execution.history}"
            )
        failure = self._failure(execution, error)
        if len(found.failures) < MAX_PICTURES:
            failure = with_picture(failure)
        found.failures.append(failure)

    def _program(self) -> Program:
        names = tuple(session.name for session in self._sessions)
        return Program(names, self._twins, partial(explored, *self._where))

    def _end(self, found: Exploration, scheduler: Scheduler) -> None:
        """Say what it means that the scheduler has no other schedule."""
        if scheduler.exhausted and self._engine.strangers.look():
            found.limit = "what threads of their own did in the database"
        elif scheduler.exhausted and not self._engine.was_bounded:
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
        self,
        scheduler: Scheduler,
        bound: int | None = None,
        choose: Callable[[Choice], int] | None = None,
    ) -> tuple[Execution, Exception | None]:
        self._start.begin()
        self._start.leave()
        with self._away():
            execution = self._engine.execute(choose or scheduler.choose, bound)
        error = self._judge.judge(execution.results)
        self._exchange = None
        if error is None and scheduler.is_symmetric:
            found = self._judge.exchange(execution.results, self._twins)
            if found is not None:
                self._exchange, error = found
        return execution, error

    def _make_exchange(
        self, execution: Execution, order: Sequence[int]
    ) -> tuple[Execution, Exception | None]:
        """Make an execution with twins in each other's place."""
        schedule = Schedule(
            order.index(number) for number in execution.schedule.choices
        )
        for _ in range(TRIES):
            scheduler = ReplayScheduler(schedule)
            scheduler.begin()
            execution, error = self._execute(scheduler)
            if scheduler.lost is None:
                return execution, error
        raise NotDeterministic(f"{scheduler.lost} {NotDeterministic.REMEDY}")

    def _execute_serially(self, order: Sequence[int]) -> Results:
        self._start.begin()
        self._start.leave()
        with self._away():
            return self._engine.execute_serially(order).results

    def _shrink(
        self, execution: Execution, error: Exception
    ) -> tuple[Execution, Exception]:
        """Return an execution that fails with fewer switches, if there is one."""

        def again(schedule: Schedule) -> tuple[Schedule, _Failed] | None:
            scheduler = ReplayScheduler(schedule)
            scheduler.begin()
            execution, error = self._execute(scheduler)
            if scheduler.lost is not None or error is None:
                return None
            return execution.schedule, (execution, error, self._judge.failed)

        found = execution, error, self._judge.failed
        _, found = shrink(execution.schedule, found, again)
        execution, error, self._judge.failed = found
        return execution, error

    def _confirm(self, execution: Execution) -> None:
        """Make an execution that failed again, and see that it does.

        :raises NotDeterministic: if it does not, or goes another way.
        """
        difference: str | None = None
        before = self._judge.failed
        for _ in range(TRIES):
            scheduler = ReplayScheduler(execution.schedule)
            scheduler.begin()
            again, error = self._execute(scheduler)
            difference = execution.history.first_difference(again.history)
            if difference is None and error is not None:
                change = self._judge.change(before)
                if change is None:
                    return
                difference = f"{change} (where there is the first time)"
                break
            if not (execution.history.has_waits or again.history.has_waits):
                break
            # Else it may be that sessions waited for one lock, and another one got it.
        raise NotDeterministic(
            f"The schedule {execution.schedule} failed, but when it was made again, "
            f"{difference or 'it did not'}. {NotDeterministic.REMEDY}\n\n"
            f"{execution.history}"
        )

    def _failure(self, execution: Execution, error: Exception) -> Failure:
        replay, unwritten = self._replay(execution.schedule)
        self._start.begin()  # for the sequences, which tell which rows are new
        anomaly, hint = self._explainer.explain(execution)
        return Failure(
            execution.schedule,
            execution.history,
            execution.results,
            error,
            replay,
            anomaly,
            hint,
            comparison=self._judge.compare(),
            unwritten=unwritten,
            command=_command(execution.schedule),
        )

    def _replay(self, schedule: Schedule) -> tuple[str, tuple[str, ...]]:
        """Return the code that makes an execution again, and what it lacks."""
        writer = Writer()
        arguments = [repr(schedule.encode())]
        for number, session in enumerate(self._sessions, start=1):
            arguments.append(writer.session(session, number))
        for name, value in self._options.items():
            arguments.append(f"{name}={writer.write(value)}")
        replay = writer.name("django_txtest", "replay")
        call = f"{replay}({', '.join(arguments)}).raise_if_failed()"
        return "\n".join([*writer.imports, call]), tuple(writer.unwritten)


def _command(schedule: Schedule) -> str:
    """Return what makes an execution of the running test again, from a shell."""
    test = current_test()
    return f"manage.py txtest_replay {schedule} {test}" if test else ""

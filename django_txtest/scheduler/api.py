"""The functions that explore interleavings."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

from django_txtest.exceptions import InvalidCall
from django_txtest.outcomes import Results
from django_txtest.scheduler.ahead import check_executor, exploring_ahead
from django_txtest.scheduler.base import Scheduler
from django_txtest.scheduler.calls import Session, parse_sessions
from django_txtest.scheduler.dpor import DporScheduler
from django_txtest.scheduler.engine import MAX_STEPS, Engine
from django_txtest.scheduler.explaining import Explainer
from django_txtest.scheduler.exploration import (
    DefaultCount,
    DefaultSeconds,
    Exploration,
)
from django_txtest.scheduler.explorer import Explorer, Limits
from django_txtest.scheduler.ignoring import check_ignored
from django_txtest.scheduler.oracle import MAX_SERIAL
from django_txtest.scheduler.pinning import pinned
from django_txtest.scheduler.progress import progress_line
from django_txtest.scheduler.remote import Wanted
from django_txtest.scheduler.request import explore_as_requested
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.spreading import SpreadExplorer
from django_txtest.scheduler.start import started
from django_txtest.scheduler.strategies import DfsScheduler, ReplayScheduler
from django_txtest.scheduler.usable import explored_aliases

AnyCall: TypeAlias = "Session | Callable[[], Any]"
Invariant: TypeAlias = Callable[[Results], Any]

MAX_EXECUTIONS = DefaultCount(10_000)
MAX_TIME = DefaultSeconds(60.0)


def explore(
    *calls: AnyCall,
    invariant: Invariant | None = None,
    setup: Callable[[], object] | None = None,
    scheduler: Scheduler | None = None,
    isolation_level: str | None = None,
    databases: Iterable[str] | None = None,
    max_executions: int = MAX_EXECUTIONS,
    max_time: float = MAX_TIME,
    preemption_bound: int | None = None,
    stop_on_first: bool = True,
    progress: Callable[[Exploration], object] | None = None,
    allow: tuple[type[BaseException], ...] = (),
    ignore: Collection[str] = (),
    pin: bool | datetime = False,
    max_steps: int = MAX_STEPS,
    executor: Executor | None = None,
    **unknown: NoReturn,
) -> Exploration:
    """Run the calls in the orders in which their steps can interleave.

    Each call is a session, in a thread with database connections of its own. One goes
    at a time, and each pauses before every SQL statement, COMMIT and ROLLBACK, and at
    `checkpoint`. Before each execution the databases go back to what they are now.

    Without an invariant, an execution fails if its results and the rows that it leaves
    are those of no serial order of the calls. Keys that a sequence or a default made up
    may differ, and fields with `auto_now` or `auto_now_add`. Where every call raises in
    every serial order, a `RuntimeWarning` says so.

    :param calls: callables, named s1, s2, ..., or `Session` objects.
    :param invariant: called with the `Results` of each execution, and of each order in
        which identical calls could have had them; it fails if this returns False or
        raises, or if a call raises what `allow` does not name.
    :param setup: called before each execution, once the databases are put back.
    :param scheduler: chooses the schedules; usually a `DporScheduler`, which tries one
        of those that cannot differ, or a `DfsScheduler` with a bound of preemptions.
    :param isolation_level: that of the calls' transactions; else the usual one.
    :param databases: the aliases that are explored; usually all that the test may use.
    :param max_executions: after so many, stop.
    :param max_time: after so many seconds, stop.
    :param preemption_bound: how often a session that could go on may be interrupted.
    :param stop_on_first: whether the first failure ends the search.
    :param progress: called after each execution, with what is known so far; usually a
        line on a terminal tells of explorations that take more than a second.
    :param allow: exceptions that a call may raise. Without an invariant, such a call
        counts as one that was not made.
    :param ignore: columns that may differ from those of a serial order, as ``"column"``
        or ``"table.column"``; a name that no column has raises `InvalidCall`.
    :param pin: whether time stands still, and each session draws the same random
        numbers, UUIDs and secrets in each execution; a `datetime` says at which time.
        Needs the ``pin`` extra.
    :param max_steps: how many steps one execution may have.
    :param executor: any `concurrent.futures.Executor`, whose workers make executions
        ahead, each on clones of the databases. What comes of it is the same as without.
    :raises InvalidCall: for any other option, and for what cannot be called.
    :raises NotDeterministic: if a schedule that failed does not fail again, or serial
        orders then come to something else.
    :raises SessionStuck: if a session does not come back from a step.
    :raises TooManySteps: if an execution does not come to an end.
    :raises PicklingError: if something cannot be sent to the executor.
    :raises ExecutorFailed: if the executor does not do what it is given.
    """
    _refuse(unknown)
    sessions = parse_sessions(calls)
    if invariant is None and len(sessions) > MAX_SERIAL:
        raise InvalidCall(
            f"{len(sessions)} calls have too many serial orders to compare with. Give "
            f"an invariant, or at most {MAX_SERIAL} calls."
        )
    if preemption_bound is not None and isinstance(scheduler, DporScheduler):
        raise InvalidCall(
            "Of a reduced search nobody knows what a bound of preemptions leaves out. "
            "Pass preemption_bound alone, which tries every order within it, or the "
            "DporScheduler alone."
        )
    check_executor(executor)
    limits = Limits(max_executions, max_time, preemption_bound, stop_on_first)
    databases = None if databases is None else list(databases)
    aliases = explored_aliases(databases)
    if isinstance(scheduler, ReplayScheduler):
        executor = None  # one execution cannot be spread
    with (
        pinned(pin) as pins,
        started(aliases, pins.before(setup) if pins else setup) as start,
        exploring_ahead(
            executor,
            Wanted(
                sessions,
                aliases,
                invariant,
                setup,
                allow,
                ignore,
                isolation_level,
                preemption_bound,
                time.time() if pins else False,
                max_steps,
            ),
        ) as ahead,
        Engine(sessions, aliases, isolation_level, max_steps, pins) as engine,
        progress_line() as line,
    ):
        if ignore:
            check_ignored(ignore, start.all_tables())
        explainer = Explainer(aliases, isolation_level)
        explorer = (SpreadExplorer if ahead else Explorer)(
            engine, start, sessions, limits, explainer, progress or line, pins
        )
        if isinstance(explorer, SpreadExplorer) and ahead is not None:
            explorer.ahead = ahead
        explorer.judge_by(invariant, allow, ignore)
        explorer.remember(
            setup=setup,
            isolation_level=isolation_level,
            databases=databases,
            pin=pin,
        )
        if max_steps != MAX_STEPS:
            explorer.remember(max_steps=max_steps)
        explorer.look_at(aliases, isolation_level)
        if scheduler is None:
            # Of a reduced search, it would not be known what a bound leaves out.
            is_bounded = preemption_bound is not None
            scheduler = DfsScheduler() if is_bounded else DporScheduler()
        scheduler.restart()
        found = explore_as_requested(explorer, scheduler)
    doubt = explorer.doubt()
    if doubt and not found.failures:
        warnings.warn(doubt, RuntimeWarning, stacklevel=2)
    return found


def replay(schedule: Schedule | str, *calls: AnyCall, **options: Any) -> Exploration:
    """Make the one execution of a schedule, as a failure printed it.

    :param schedule: a `Schedule`, or the text of one.
    :param options: those of `explore` that it was found with.
    """
    return explore(*calls, **options, scheduler=ReplayScheduler(schedule))


def _refuse(unknown: Mapping[str, object]) -> None:
    """Say of the first option that there is not what was meant, and raise."""
    options = list(explore.__kwdefaults__ or {})
    for name, value in unknown.items():
        near = get_close_matches(name, options, 1)
        if near:
            hint = f"Is {near[0]!r} meant?"
        elif callable(value):
            hint = f"To name a session, write Session({name!r}, target, *args)."
        else:
            hint = f"The options are {', '.join(options)}."
        raise InvalidCall(f"There is no option {name!r}. {hint}")

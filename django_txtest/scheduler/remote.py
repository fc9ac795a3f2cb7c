"""Executions that are made ahead, in another process, and the records of them."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.db import connections

from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.child import put_others_back, put_settings, take_over
from django_txtest.concurrency.travel import pack, settings_module
from django_txtest.databases import cloned, renew_clone
from django_txtest.exceptions import ExecutorFailed
from django_txtest.outcomes import Results
from django_txtest.reset import Layers, Leftovers
from django_txtest.scheduler.base import Choice, Scheduler
from django_txtest.scheduler.calls import Session
from django_txtest.scheduler.engine import Engine
from django_txtest.scheduler.explaining import Explainer
from django_txtest.scheduler.exploration import Exploration
from django_txtest.scheduler.explorer import Explorer, Limits, Made
from django_txtest.scheduler.parts import Record
from django_txtest.scheduler.pinning import pinned
from django_txtest.scheduler.start import Start

#: How long a thread gets to end after Ctrl-C, in seconds.
_END_TIMEOUT = 10.0

# Who may explore in this process: only one at a time can pin time, collect mails or use
# what the calls keep in memory. By process, as a forked one has none of the others.
_turns: dict[int, Any] = {}


def turn() -> Any:
    """Return the lock that whoever makes executions in this process holds."""
    return _turns.setdefault(os.getpid(), threading.RLock())


def this_process() -> str:
    """Return what no other process is called."""
    return f"{socket.gethostname()} {os.getpid()}"


@dataclass(frozen=True)
class Wanted:
    """What is explored, as the caller of `explore` said."""

    sessions: Sequence[Session]
    aliases: Sequence[str]
    invariant: Callable[[Results], Any] | None
    setup: Callable[[], object] | None
    allow: tuple[type[BaseException], ...]
    ignore: Collection[str]
    isolation_level: str | None
    preemption_bound: int | None
    pin: bool | float
    max_steps: int
    #: For the language, the time zone and the like.
    caller: Call = field(default_factory=lambda: Call("", int, (), {}))


@dataclass(frozen=True)
class Task:
    """A part of an exploration, and all that a process needs to explore it."""

    #: Of no other task: Dask would take them for the same.
    name: str
    #: The caller's process, its settings module and where it imports from.
    home: str
    settings_module: str | None
    path: tuple[str, ...]
    #: Its `Surroundings` and `ChangedSettings`.
    surroundings: bytes
    wanted: bytes
    #: The aliases that are put back.
    put_back: Sequence[str]
    #: For each alias its database here, and what that is renewed from, if it has to be.
    clones: Mapping[str, tuple[str, str]]
    #: The scheduler; None if the process is only to show that it can explore.
    part: bytes | None
    seconds: float
    executions: int


@dataclass
class Report:
    """What came of a task: the records, and the scheduler if there is more to try.

    `problem` is the traceback of what went wrong.
    """

    records: bytes = b""
    left: bytes | None = None
    problem: str = ""
    process: str = field(default_factory=this_process)


def wake(name: str) -> None:
    """Do nothing, but have the process begin."""


def work(task: Task) -> Report:
    """Explore a part, in a thread that has no connections but its own."""
    report = Report()
    is_over = threading.Event()
    thread = threading.Thread(
        target=_work, args=(task, report, is_over), name="txtest ahead", daemon=True
    )
    thread.start()
    try:
        thread.join()
    finally:  # of Ctrl-C, too
        is_over.set()
        thread.join(_END_TIMEOUT)
    return report


def _work(task: Task, report: Report, is_over: threading.Event) -> None:
    try:
        with turn(), ExitStack() as stack:
            if task.home != this_process():
                _set_up(task)
                surroundings, changed = pickle.loads(task.surroundings)
                take_over(surroundings, stack)
                put_others_back(changed, stack)
                put_settings(changed, stack)
            _explore(task, report, is_over, stack)
    except BaseException:  # noqa: BLE001 - the caller is to see it
        report.problem = traceback.format_exc()
    finally:
        connections.close_all()


def _set_up(task: Task) -> None:
    sys.path += [folder for folder in task.path if folder not in sys.path]
    if not settings.configured:
        os.environ["DJANGO_SETTINGS_MODULE"] = str(task.settings_module)
    elif settings_module() != task.settings_module:
        raise ExecutorFailed(
            f"The process {this_process()} of the executor has the settings of "
            f"{settings_module()}, and the test those of {task.settings_module}. Give "
            f"an executor whose processes have not set Django up, or in the same way."
        )
    if not apps.ready:
        django.setup()


def _explore(
    task: Task, report: Report, is_over: threading.Event, stack: ExitStack
) -> None:
    wanted: Wanted = pickle.loads(task.wanted)
    stack.enter_context(wanted.caller.surroundings())
    for alias, (name, _) in task.clones.items():
        connections[alias] = cloned(connections[alias], name)
    templates = {
        template: alias for alias, (_, template) in task.clones.items() if template
    }
    for template, alias in templates.items():
        renew_clone(connections[alias], template)
    layers = Layers(task.put_back, Leftovers())
    put_back = layers.adopt()
    pins = stack.enter_context(pinned(wanted.pin))
    setup = pins.before(wanted.setup) if pins else wanted.setup
    start = Start(layers, put_back, wanted.aliases, setup)
    stack.callback(start.forget_mails)
    level = wanted.isolation_level
    engine = stack.enter_context(
        Engine(wanted.sessions, wanted.aliases, level, wanted.max_steps, pins)
    )
    if task.part is None:
        return
    scheduler: Scheduler = pickle.loads(task.part)

    def is_wanted() -> bool:
        # A session is told that its database is gone; a file without a name is not.
        return not is_over.is_set() and all(map(os.path.exists, templates))

    explorer = Recorder(
        engine,
        start,
        wanted.sessions,
        Limits(task.executions, task.seconds, wanted.preemption_bound, False),
        Explainer(wanted.aliases, level),
        lambda found: None,
        pins,
    )
    explorer.is_wanted = is_wanted
    explorer.judge_by(wanted.invariant, wanted.allow, wanted.ignore)
    explorer.look_at(wanted.aliases, level)
    explorer.prepare()
    try:
        explorer.explore(scheduler)
        if not explorer.is_done:
            report.left = pack(scheduler, "The scheduler")
    finally:
        report.records = explorer.packed_records()


class Recorder(Explorer):
    """Keeps records of its executions, and leaves what fails to others."""

    #: Whether the caller still waits for them.
    is_wanted: Callable[[], bool]
    #: Whether the scheduler has nothing left to try.
    is_done = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._records: list[Record] = []

    def prepare(self) -> None:
        """Do what is not counted as time of the executions."""
        self._judge.prepare()

    def packed_records(self) -> bytes:
        """Return the records, but for those with parameters that cannot be pickled."""
        try:
            return pack(self._records, "The records")
        except Exception:  # noqa: BLE001 - whatever users' classes raise
            return pack(list(filter(_is_picklable, self._records)), "The records")

    def _make(self, scheduler: Scheduler) -> Made | None:
        if not self.is_wanted():
            raise ExecutorFailed("Nobody waits for this any more.")
        steps = []

        def choose(choice: Choice) -> int:
            steps.append((choice.runnable, len(choice.history)))
            return scheduler.choose(choice)

        self._engine.was_bounded = False
        made = self._make_by(scheduler, choose)
        if self._engine.strangers.names:
            raise ExecutorFailed("What threads of their own do is in no record.")
        if made is not None and made.execution is not None:
            self._records.append(
                Record(
                    made.execution.schedule.choices,
                    tuple(steps),
                    tuple(made.history),
                    made.error is not None,
                    self._engine.was_bounded,
                )
            )
        return made

    def _end(self, found: Exploration, scheduler: Scheduler) -> None:
        self.is_done = True

    def _add_failure(self, *args: Any) -> None:
        """Leave it to the caller, who makes the execution again."""


def _is_picklable(record: Record) -> bool:
    try:
        pack(record, "A record")
    except Exception:  # noqa: BLE001 - whatever users' classes raise
        return False
    return True

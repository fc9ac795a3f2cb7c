"""Has an executor make executions ahead of the caller, each worker on its own clone."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from django.db import connections

from django_txtest.concurrency.options import usable_aliases
from django_txtest.concurrency.travel import (
    ChangedSettings,
    Surroundings,
    pack,
    settings_module,
)
from django_txtest.databases import Clones, get_clones, get_database
from django_txtest.exceptions import ExecutorFailed, InvalidCall, PicklingError
from django_txtest.reset import current_layers
from django_txtest.scheduler.base import Scheduler
from django_txtest.scheduler.parts import Record, Records
from django_txtest.scheduler.remote import (
    Report,
    Task,
    Wanted,
    this_process,
    wake,
    work,
)

#: How long a part is explored before records are sent, in seconds and in executions.
PART_SECONDS = 2.0
PART_EXECUTIONS = 500
#: With so many records that were not used, no more are asked for.
MOST_UNUSED = 10_000
#: How long a process gets to begin, to send what is waited for, and to end.
BEGIN_TIMEOUT = 60.0
WAIT_TIMEOUT = 30.0
END_TIMEOUT = 15.0
#: After how many executions it is asked again for parts, where there were none.
_PAUSE = 10

_INSTEAD = "leave executor= out"


@dataclass
class _Job:
    """A task that the executor was given."""

    future: Future[Report]
    clones: Mapping[str, tuple[str, str]]
    part: Scheduler | None
    #: Whether it is worth waiting for.
    is_late: bool = False


class Ahead:
    """What an executor does for one exploration.

    :param task: what all tasks have in common.
    :param clones: the databases of each worker, by alias.
    """

    def __init__(
        self,
        executor: Executor,
        task: Task,
        clones: Sequence[Mapping[str, tuple[str, str]]],
        surroundings: Surroundings,
    ) -> None:
        self.records = Records()
        #: How many records were of use.
        self.used = 0
        #: The processes that sent something.
        self.processes: set[str] = set()
        self._executor = executor
        self._task = task
        self._surroundings = surroundings
        self._settings = ChangedSettings.here()
        self._jobs: list[_Job] = []
        self._free: list[Mapping[str, tuple[str, str]]] = []
        self._clones = clones
        #: Parts that are to be gone on with.
        self._left: list[Scheduler] = []
        self._pause = 0
        self._has_warned = False

    def begin(self) -> None:
        """Wait until one worker has shown that it can explore.

        :raises ExecutorFailed: if it cannot, or none does.
        """
        for clones in self._clones:
            self._submit(clones, None)
        futures = [job.future for job in self._jobs]
        done, _ = wait(futures, BEGIN_TIMEOUT, FIRST_COMPLETED)
        if not done:
            raise ExecutorFailed(
                f"No worker of {self._executor!r} did what it was given within "
                f"{BEGIN_TIMEOUT:g} s. Is it busy with something else?"
            )
        self._gather()

    def go_on(self, scheduler: Scheduler) -> None:
        """Between two executions, hand out what can be made ahead."""
        self._gather()
        self._hand_out()
        if self._pause:
            self._pause -= 1
        elif self._free and len(self.records) < MOST_UNUSED:
            self._left += scheduler.split(len(self._free))
            for part in list(self._left):
                if len(self._left) < len(self._free):
                    self._left += part.split(len(self._free) - len(self._left))
            self._pause = 0 if self._left else _PAUSE
            self._hand_out()

    def more(self, scheduler: Scheduler) -> bool:
        """Wait for a worker that makes what the scheduler has begun, if one does.

        Returns whether there are more records now.
        """
        before = len(self.records)
        self._gather()
        # What comes up is next, where it is not made already.
        self._left.sort(key=lambda part: not part.covers(scheduler))
        self._hand_out()
        if len(self.records) == before:
            for job in self._jobs:
                if job.part is None or job.is_late or not job.part.covers(scheduler):
                    continue
                wait([job.future], WAIT_TIMEOUT)
                job.is_late = not job.future.done()
                self._gather()
                self._hand_out()
                break
        return len(self.records) > before

    def close(self) -> None:
        """Wait until no worker does anything any more."""
        futures = [job.future for job in self._jobs]
        _, late = wait(futures, END_TIMEOUT)
        late = {future for future in late if not future.cancel()}
        if late:
            warnings.warn(
                f"{len(late)} of the workers of {self._executor!r} did not end what "
                f"they explored, and go on. Their databases are gone.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _hand_out(self) -> None:
        while self._free and self._left and len(self.records) < MOST_UNUSED:
            self._submit(self._free.pop(), self._left.pop(0))

    def _submit(
        self, clones: Mapping[str, tuple[str, str]], part: Scheduler | None
    ) -> None:
        databases = {
            alias: {**self._surroundings.databases[alias], "NAME": name}
            for alias, (name, _) in clones.items()
        }
        task = replace(
            self._task,
            name=_new_name(),
            surroundings=pack(
                (replace(self._surroundings, databases=databases), self._settings),
                "What the settings say",
                _INSTEAD,
            ),
            clones=clones,
            part=None if part is None else pack(part, "The scheduler", _INSTEAD),
        )
        with _failures(self._executor):
            future = self._executor.submit(work, task)
        self._jobs.append(_Job(future, clones, part))

    def _gather(self) -> None:
        for job in [job for job in self._jobs if job.future.done()]:
            self._jobs.remove(job)
            with _failures(self._executor):
                report = job.future.result()
            if report.problem and job.part is None and not self.processes:
                raise ExecutorFailed(
                    f"The process {report.process} of {self._executor!r} cannot "
                    f"explore:\n{report.problem}"
                )
            if report.problem:
                self._warn(report)
            if report.problem and job.part is None:
                continue  # the others can
            self._free.append(job.clones)
            self.processes.add(report.process)
            if report.records:
                records: list[Record] = pickle.loads(report.records)
                for record in records:
                    self.records.add(record)
            if report.left is not None:
                self._left.append(pickle.loads(report.left))

    def _warn(self, report: Report) -> None:
        """Tell once that a part is made here: what is wrong may be wrong only there."""
        if not self._has_warned:
            self._has_warned = True
            *_, last = report.problem.strip().splitlines()
            warnings.warn(
                f"The process {report.process} of {self._executor!r} could not go on, "
                f"and what it explored is explored here instead: {last}",
                RuntimeWarning,
                stacklevel=2,
            )


@contextmanager
def _failures(executor: Executor) -> Iterator[None]:
    """Within the block, what goes wrong is the executor's own doing."""
    try:
        yield
    except Exception as error:
        hint = "Was one of its processes killed, or was it shut down?"
        if multiprocessing.current_process().daemon:
            hint = (
                "Processes of a parallel test run may start none: run this test with "
                "--parallel 1, or give the executor of workers that run already."
            )
        raise ExecutorFailed(
            f"{executor!r} does not do what it is given: {type(error).__name__}: "
            f"{str(error).rstrip('.')}. {hint}"
        ) from error


def worker_count(executor: Executor) -> int:
    """Return how many explorations can go on in an executor at a time."""
    # Private, as nobody tells it otherwise: of Dask's client, each worker is a process;
    # the others say how many they have, as those of concurrent.futures and of loky do.
    client = getattr(executor, "_client", None)
    if client is not None and hasattr(client, "nthreads"):
        return max(1, len(client.nthreads()))
    found = getattr(executor, "_max_workers", None)
    return found if isinstance(found, int) and found > 0 else os.cpu_count() or 1


def check_executor(executor: object) -> None:
    """See that something is an executor.

    :raises InvalidCall: if it is not.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise InvalidCall(
            f"executor={executor!r} is no concurrent.futures.Executor. Pass a "
            f"ProcessPoolExecutor, or what get_executor() of a Dask client returns."
        )


@contextmanager
def exploring_ahead(
    executor: Executor | None, wanted: Wanted
) -> Iterator[Ahead | None]:
    """Within the block, have an executor explore ahead; without one, yield None.

    To be entered once the databases are what each execution starts from, and before
    there are any connections but the caller's. Each worker has a clone of each
    database, which is dropped at the end.

    :raises PicklingError: if what is wanted cannot be sent to another process.
    :raises ExecutorFailed: if no worker can explore.
    """
    layers = current_layers()
    if executor is None or layers is None:
        yield None
        return
    number = worker_count(executor)
    task = _common_task(wanted, layers.aliases)
    with _failures(executor):
        # Now: a process that is forked has no threads of ours, and the others begin
        # while the databases are cloned.
        for _ in range(number):
            executor.submit(wake, _new_name())
    aliases = usable_aliases(shared=True)
    surroundings = Surroundings.here(aliases)
    sources: dict[object, Clones] = {}
    by_alias = {
        alias: sources.setdefault(
            get_database(connections[alias]).identity(), get_clones(connections[alias])
        )
        for alias in aliases
    }
    for alias in aliases:
        connections[alias].close()
    try:
        for clones in sources.values():
            clones.make(number)
        ahead = Ahead(
            executor,
            task,
            [
                {alias: (c.name(n), c.template) for alias, c in by_alias.items()}
                for n in range(1, number + 1)
            ],
            surroundings,
        )
        try:
            ahead.begin()
            yield ahead
        finally:
            # First, as it ends what is still going on there.
            for clones in sources.values():
                clones.drop()
            ahead.close()
    finally:
        for clones in sources.values():
            clones.drop()


def _common_task(wanted: Wanted, put_back: Sequence[str]) -> Task:
    module = settings_module()
    if module is None:
        raise ExecutorFailed(
            "Other processes need a settings module to import, but the settings were "
            "set by settings.configure(). Leave executor= out."
        )
    return Task(
        name="",
        home=this_process(),
        settings_module=module,
        path=tuple(folder or os.getcwd() for folder in sys.path),
        surroundings=b"",
        wanted=_pack(wanted),
        put_back=put_back,
        clones={},
        part=None,
        seconds=PART_SECONDS,
        executions=PART_EXECUTIONS,
    )


def _pack(wanted: Wanted) -> bytes:
    """Pickle what is wanted, or say what of it cannot be."""
    try:
        return pack(wanted, "What is explored")
    except PicklingError:
        for session in wanted.sessions:
            what: Any = (session.target, session.args, session.kwargs)
            pack(what, f"The call of session {session.name}", _INSTEAD)
        for name in ("invariant", "setup", "allow"):
            pack(getattr(wanted, name), f"The option {name}", _INSTEAD)
        return pack(wanted, "What is explored", _INSTEAD)


def _new_name() -> str:
    return f"txtest {uuid.uuid4()}"

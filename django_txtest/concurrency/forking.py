"""Calls in forked processes, which have all that this one has at the time."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, NoReturn, TextIO

from django.db import connections

from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.child import WATCH, answer, leave, make, settle
from django_txtest.concurrency.line import Line
from django_txtest.concurrency.processes import ProcessParticipant
from django_txtest.concurrency.travel import Job
from django_txtest.databases import refuse_other_databases

#: How long the threads of executors get to end before a fork, in seconds.
ENDING = 0.2

# The ends of lifelines that nobody but this process may have. By process, as a copy
# closes them first of all.
_own_ends: set[int] = set()


class Lifeline:
    """A pipe by which copies of this process hear of its end, whatever ends it."""

    def __init__(self) -> None:
        self.end, self._own_end = os.pipe()
        _own_ends.add(self._own_end)

    def close(self) -> None:
        """Close both ends."""
        _own_ends.discard(self._own_end)
        os.close(self._own_end)
        os.close(self.end)


class Origin:
    """What copies of this process begin with, instead of what is this process's.

    It is made before the fork. In a copy everything costs more: the system copies each
    page of memory when it is first touched, be it for the count of references.

    :param known: the calls that they can be told to make by their numbers.
    """

    def __init__(
        self,
        aliases: Sequence[str],
        known: Sequence[Call],
        lifeline: Lifeline,
    ) -> None:
        self.aliases = aliases
        self.known = known
        self.lifeline = lifeline
        #: The ends of the lines of those that are not forked yet. While a copy has one
        #: that is another's, this process does not hear of the end of that one.
        self.ends: set[int] = set()
        self._connections = [
            type(connection)(connection.settings_dict, connection.alias)
            for connection in connections.all(initialized_only=True)
        ]
        self._streams = [_stream(1), _stream(2)]
        old = sys.stdout, sys.stderr
        self._handlers: list[tuple[logging.StreamHandler[Any], int]] = [
            (handler, old.index(stream))
            for logger in (logging.root, *logging.root.manager.loggerDict.values())
            for handler in getattr(logger, "handlers", ())
            if isinstance(handler, logging.StreamHandler)
            and (stream := handler.stream) in old
        ]

    def put_connections(self) -> list[Any]:
        """Give this process connections of its own; return the parent's.

        Those must not be used, closed or collected: the parent is using them.
        """
        inherited: list[Any] = []
        for own in self._connections:
            inherited.append(connections[own.alias])
            connections[own.alias] = own
            # Private: the pools of psycopg 3, which Django keeps with the class.
            pools = getattr(own, "_connection_pools", None)
            if pools:
                inherited.append(dict(pools))
                pools.clear()
        return inherited

    def put_streams(self, stdout: IO[Any], stderr: IO[Any]) -> None:
        """Let what this process prints go to the files."""
        with open(os.devnull, "rb", buffering=0) as nothing:
            for fd, file in enumerate([nothing, stdout, stderr]):
                os.dup2(file.fileno(), fd)
        # Whatever they were: a runner may have put something of its own there.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = self._streams
        for handler, number in self._handlers:
            handler.setStream(self._streams[number])


def _stream(fd: int) -> TextIO:
    # Without a buffer: nothing is lost when the process is killed.
    raw = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        raw, encoding="utf-8", errors="backslashreplace", write_through=True
    )


class ForkedProcess(ProcessParticipant):
    """A copy of this process, which makes calls until it is told to end.

    It is forked with the first job. So all that a batch needs can be made before: after
    a fork this process, too, copies what it touches.
    """

    #: 0 before it is forked.
    pid = 0

    def __init__(self, call: Call, origin: Origin) -> None:
        super().__init__(call)
        self._origin = origin
        origin.ends.add(self._childs_channel.fileno())

    def give(self, job: Any) -> None:
        """Let it make a call: a `Job`, or a known call by its number."""
        if self.pid:
            self.send(job)
        else:
            self._fork(job)

    def _fork(self, job: Any) -> None:
        self._origin.ends.discard(self._childs_channel.fileno())
        # Else what is waiting to be written would be written by the child, too.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with warnings.catch_warnings():
            # Of threads, which `fork_obstacle` knows better.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                self._live(self._origin, job)
            finally:
                os._exit(1)  # whatever happens, the frames below are the parent's
        self._childs_channel.close()
        # Here and there, as either may be the first to need it.
        with suppress(OSError):
            os.setpgid(self.pid, self.pid)

    def poll(self) -> int | None:
        """Return how the process ended; None if it has not."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return 0  # reaped by a handler of SIGCHLD; as subprocess has it
        return os.waitstatus_to_exitcode(status) if pid else None

    def _live(self, origin: Origin, job: Any) -> NoReturn:
        # Nothing of the parent's may be ended by this process: it keeps to this
        # method, and what the parent has lives on in the frames below.
        exitcode = 1
        try:
            gc.freeze()
            self._inherited = origin.put_connections()
            origin.put_streams(self._stdout, self._stderr)
            self.channel.close()
            for fd in (*_own_ends, *origin.ends):
                os.close(fd)
            _own_ends.clear()
            # Ctrl-C is for the parent, which then ends this process; and a group of
            # its own, so that what the call starts ends with it.
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            settle(origin.lifeline.end, self._stack_file.fileno())
            os.environ["PGAPPNAME"] = self.application_name
            # Processes that the call starts are not to keep the channel open.
            os.register_at_fork(after_in_child=self._childs_channel.close)
            refuse_other_databases(origin.aliases)
            line = Line(self._childs_channel, threads=True)
            while job is not None:
                if isinstance(job, Job):
                    answer(line, job, origin.aliases)
                    last = False
                else:
                    number, meet, plan, last = job
                    make(line, origin.known[number], origin.aliases, meet, plan)
                job = None if last else line.hear()
            exitcode = 0
        except BaseException:  # noqa: BLE001 - the frames below are the parent's
            traceback.print_exc()
        leave(exitcode)


def fork_obstacle() -> str | None:
    """Return why this process should not be forked, or None.

    A thread may hold a lock at that moment, which nobody in the copy will ever release.
    """
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    pools = set()
    for connection in connections.all(initialized_only=True):
        # Private, as above. The threads of a pool keep to the pool, and the copy
        # does not use it.
        for pool in getattr(connection, "_connection_pools", {}).values():
            pools.add(f"{pool.name}-")
    deadline = time.monotonic() + ENDING
    others = []
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread.name == WATCH:
            continue
        if thread.name.startswith(tuple(pools)):
            continue
        if thread.name.startswith("ThreadPoolExecutor-"):
            # Of an executor that is gone, as that of a coroutine, it is about to end.
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            others.append(thread.name)
    return f"other threads are running: {', '.join(others)}" if others else None

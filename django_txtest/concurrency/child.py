"""The call's side of a batch, in its thread or process."""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import select
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core import mail
from django.db import connections
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment

from django_txtest.concurrency import measuring
from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.line import DONE, READY, Line
from django_txtest.concurrency.travel import (
    ChangedSettings,
    Job,
    Surroundings,
    changed_settings,
    pack_outcome,
    settings_of_module,
)
from django_txtest.databases import (
    close_connections,
    get_database,
    refuse_other_databases,
)
from django_txtest.exceptions import CallError
from django_txtest.outcomes import Outcome

if sys.platform == "linux":
    import fcntl

#: The signal at which a process writes where it is. Others may have uses for the rest.
STACK_SIGNAL = getattr(signal, "SIGRTMAX", None) or getattr(signal, "SIGUSR2", None)

#: The name of the thread that ends a process with its parent, where the system does
#: not. It does nothing else.
WATCH = "txtest parent watch"


def take_part(
    line: Line, call: Call, aliases: Sequence[str], meet: str | None
) -> Outcome:
    """Connect, wait for the batch's word, and make the call."""
    with line.report_sessions():
        try:
            for alias in aliases:
                connections[alias].ensure_connection()
        except Exception as error:  # noqa: BLE001 - the caller is to see it
            return Outcome(error=CallError(call.label, error))
        line.say(READY)
        line.hear()
        if meet != "writes":
            return call.make()
        with line.meetings(connections):
            return call.make()


def answer(line: Line, job: Job, aliases: Sequence[str]) -> None:
    """Make a call that another process has packed, and say what came of it."""
    with ExitStack() as stack:
        try:
            put_settings(job.settings, stack)
            call = pickle.loads(job.packed_call)
        except Exception as error:  # noqa: BLE001 - the caller is to see it
            finish(line, Outcome(error=CallError(job.label, error)), job.label, None)
            return
        make(line, call, aliases, job.meet, job.plan)


def make(
    line: Line,
    call: Call,
    aliases: Sequence[str],
    meet: str | None,
    plan: measuring.Plan | None,
) -> None:
    """Make the call in this process, and say what came of it."""
    with measuring.measured(plan) as measured:
        outcome = replace(take_part(line, call, aliases, meet), pid=os.getpid())
        # What it left open would be in the way of others, and of the next call here.
        for connection in connections.all(initialized_only=True):
            with suppress(Exception):  # of what the call has made of it
                get_database(connection).put_connection_right()
    finish(line, outcome, call.label, measured.data)


def finish(line: Line, outcome: Outcome, label: str, measured: bytes | None) -> None:
    """Say what came of a call, once all that it printed is written."""
    packed = pack_outcome(outcome, label)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the call may have closed it
            stream.flush()
    has_threads = sum(one.name != WATCH for one in threading.enumerate()) > 1
    line.say(DONE, (packed, measured, has_threads))


def put_settings(changed: ChangedSettings, stack: ExitStack) -> None:
    """Put the parent's settings in place until `stack` is closed."""
    overrides = {}
    for name, packed in changed.values.items():
        value = pickle.loads(packed)
        # What the test environment sets, it has set here too.
        if getattr(settings, name, ...) != value:
            overrides[name] = value
    if overrides:
        stack.enter_context(override_settings(**overrides))
    for name in changed.deleted:
        if hasattr(settings, name):
            stack.enter_context(override_settings(**{name: None}))
            delattr(settings, name)


def put_others_back(changed: ChangedSettings, stack: ExitStack) -> None:
    """Until `stack` is closed, undo what was overridden when this process was forked.

    :param changed: what is to stay.
    """
    original = settings_of_module()
    for name in changed_settings()[0].keys() - changed.values.keys():
        stack.enter_context(override_settings(**{name: original.get(name)}))
        if name not in original:
            delattr(settings, name)


def take_over(surroundings: Surroundings, stack: ExitStack) -> None:
    """Put the parent's databases, logging and warnings in place.

    :param stack: puts them back when it is closed.
    """
    connections.close_all()
    for alias, database in surroundings.databases.items():
        own = connections[alias].settings_dict
        stack.callback(own.update, dict(own))
        stack.callback(own.clear)
        own.clear()
        own.update(database)
    stack.callback(refuse_other_databases(surroundings.databases))
    if surroundings.in_test_environment and not hasattr(mail, "outbox"):
        setup_test_environment()
        stack.callback(teardown_test_environment)
    stack.enter_context(warnings.catch_warnings())
    surroundings.put_warnings()
    for name in surroundings.logging_levels:
        stack.callback(logging.getLogger(name).setLevel, logging.getLogger(name).level)
    stack.callback(logging.disable, logging.root.manager.disable)
    surroundings.put_logging()


def leave(exitcode: int) -> NoReturn:
    """End this process at once, without what an interpreter does at its end.

    Much of that would be done for the parent, whose things a forked process has.
    """
    try:
        close_connections()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the call may have closed it
                stream.flush()
    finally:
        os._exit(exitcode)


def settle(lifeline: int, stack_file: int) -> None:
    """Let this process end with its parent, and tell where it is when asked.

    :param lifeline: the end of a pipe to read from, whose other end the parent has.
    :param stack_file: a file to write the stack to.
    """
    for fd in (lifeline, stack_file):
        os.set_inheritable(fd, False)
    if STACK_SIGNAL is not None:
        faulthandler.register(STACK_SIGNAL, stack_file, all_threads=False)

    if _is_killed_at_end(lifeline):
        return

    def watch() -> None:
        os.read(lifeline, 1)  # nothing is ever written: this is the end of the parent
        os._exit(1)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()


def _is_killed_at_end(lifeline: int) -> bool:
    """Have the system kill this process when the other end is closed, if it can.

    Unlike a thread, that costs next to nothing, and is not in the way of a call that
    forks. See `O_ASYNC` in https://man7.org/linux/man-pages/man2/open.2.html.
    """
    if sys.platform != "linux":
        return False
    try:
        # Opened anew: what other processes have, too, notifies only one of them.
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except OSError:
        return False
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before that
        os._exit(1)
    return True


def serve_spawned(channel: int, lifeline: int, stack_file: int) -> None:
    """Make the call that standard input describes, in a process made for it."""
    os.set_inheritable(channel, False)
    connection = Connection(channel)
    # Processes that the call starts are not to keep the channel open.
    os.register_at_fork(after_in_child=connection.close)
    settle(lifeline, stack_file)
    stdin: IO[Any] = sys.stdin.buffer
    surroundings: Surroundings = pickle.load(stdin)
    job: Job = pickle.load(stdin)
    with ExitStack() as stack:
        take_over(surroundings, stack)
        answer(Line(connection, threads=True), job, list(surroundings.databases))
        leave(0)

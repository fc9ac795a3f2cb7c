"""The child's side of a call in a process of its own."""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection

from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.test.utils import setup_test_environment

from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.travel import Surroundings, pack_outcome
from django_txtest.databases import open_sessions, refuse_other_databases
from django_txtest.exceptions import CallError
from django_txtest.outcomes import Outcome

#: What the child says first: the server's number of its session on each alias.
READY = "ready"
#: What the child says last: its outcome, pickled.
DONE = "done"


def answer(fd: int) -> None:
    """Make the call that standard input describes, for the parent at socket `fd`.

    Sends READY, waits for the parent's word, makes the call and sends DONE.
    """
    # Processes that the call starts are not to keep the socket open.
    os.set_inheritable(fd, False)
    channel = Connection(fd)
    os.register_at_fork(after_in_child=channel.close)
    surroundings, label, packed_call = pickle.load(sys.stdin.buffer)
    with ExitStack() as stack:
        try:
            take_over(surroundings, stack)
            call: Call = pickle.loads(packed_call)
            sessions = open_sessions(surroundings.databases)
        except Exception as error:  # noqa: BLE001 - the parent raises it
            outcome = Outcome(error=CallError(label, error))
        else:
            channel.send((READY, sessions))
            channel.recv()
            _end_with(channel)
            faulthandler.dump_traceback_later(surroundings.timeout)
            outcome = replace(call.make(), pid=os.getpid())
            faulthandler.cancel_dump_traceback_later()
        connections.close_all()
        channel.send((DONE, pack_outcome(outcome, label)))


def take_over(surroundings: Surroundings, stack: ExitStack) -> None:
    """Put the parent's databases and settings in place until `stack` is closed."""
    connections.close_all()
    for alias, database in surroundings.databases.items():
        connections[alias].settings_dict.clear()
        connections[alias].settings_dict.update(database)
    refuse_other_databases(surroundings.databases)
    if surroundings.in_test_environment:
        setup_test_environment()
    overrides = {}
    for name, packed in surroundings.settings.items():
        value = pickle.loads(packed)
        # What the test environment sets, it has set here too.
        if getattr(settings, name, ...) != value:
            overrides[name] = value
    stack.enter_context(override_settings(**overrides))
    for name in surroundings.deleted_settings:
        delattr(settings, name)


def _end_with(channel: Connection) -> None:
    """End this process when the parent, at the other end of `channel`, has ended."""

    def watch() -> None:
        # The parent sends nothing more: what can be read is the end of the stream.
        channel.poll(None)
        os._exit(1)

    threading.Thread(target=watch, name="txtest parent watch", daemon=True).start()

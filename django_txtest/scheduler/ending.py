"""Ends sessions that are in the middle of a call, whatever they are doing."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from contextlib import suppress

from django.db import Error

from django_txtest.databases import end_connection
from django_txtest.scheduler.session import SessionThread
from django_txtest.scheduler.state import SessionEnded
from django_txtest.scheduler.waits import WaitWatch

#: How long sessions get to end by themselves, and then after each way to press them.
GRACE = 0.4


def end_all(threads: Sequence[SessionThread], watch: WaitWatch) -> list[str]:
    """Unwind every call, roll back and close; return the names of what goes on."""
    threads = [thread for thread in threads if thread.is_started]
    for thread in threads:
        thread.end()
    if left := _wait(threads, 0.1):
        # What waits in the database waits for one that could not unwind.
        for thread in left:
            for alias, pid in thread.pids.items():
                with suppress(Error):
                    watch.database(alias).cancel(pid)
        left = _wait(left, GRACE)
    if left:
        for thread in left:
            _raise_in(thread)
        left = _wait(left, GRACE)
    for thread in left:
        thread.refuse_databases()
        for connection in thread.connections.values():
            end_connection(connection)
    return [thread.name for thread in _wait(left, GRACE)]


def _wait(threads: Sequence[SessionThread], seconds: float) -> list[SessionThread]:
    deadline = time.monotonic() + seconds
    return [
        thread for thread in threads if not thread.wait(deadline - time.monotonic())
    ]


def _raise_in(thread: SessionThread) -> None:
    """Raise in a thread that runs Python; what waits in C notices it afterwards.

    Else a loop without end would go on, and slow down all tests that follow.
    """
    with suppress(AttributeError):  # not CPython
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SessionEnded)
        )

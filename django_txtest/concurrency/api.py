"""The functions that users call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from django.db import Error, connections

from django_txtest.concurrency.calls import Call, CallSpec, Target, parse_calls
from django_txtest.concurrency.processes import run_in_processes
from django_txtest.concurrency.threads import run_in_threads
from django_txtest.conf import MODES, settings
from django_txtest.databases import (
    allowed_aliases,
    get_database,
    is_rolled_back,
    running_test_class,
)
from django_txtest.exceptions import (
    AtomicBlockError,
    DatabaseNotSupported,
    InvalidCall,
)
from django_txtest.outcomes import Results


def run_concurrently(
    calls: Iterable[CallSpec],
    *,
    using: str | None = None,
    timeout: float | None = None,
) -> Results:
    """Make the calls at the same time and return their results.

    Each call has database connections of its own, which are open before any call
    starts; then all start together. They use the databases that the running test
    uses, and no others.

    :param calls: each is a target, ``(target, kwargs)`` or ``(target, args, kwargs)``.
        A target is a callable, also a coroutine function, or
        ``"package.module:function"``.
    :param using: ``"spawn"``, a fresh process for each call; ``"threads"``; or
        ``"inline"``, one call after the other in this thread, for a debugger.
        The default is the setting ``TXTEST_CALL_USING``, else ``"spawn"``.
    :param timeout: how long, in seconds from the common start, a call may take before
        it is ended. The default is the setting ``TXTEST_CALL_TIMEOUT``, else 30.
        Inline calls cannot be ended.
    :raises AtomicBlockError: inside an atomic block, whatever `using` is.
    :raises DatabaseNotSupported: if a database cannot be shared between calls.
    :raises InvalidCall: if something in `calls` is not a call.
    :raises PicklingError: if a call cannot be sent to a process.
    """
    parsed = parse_calls(calls)
    using = settings.call_using if using is None else using
    timeout = settings.call_timeout if timeout is None else timeout
    if using not in MODES:
        raise InvalidCall(f"using={using!r} is not one of {', '.join(MODES)}.")
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidCall(f"timeout={timeout!r} is not a positive number of seconds.")
    if _is_in_event_loop():
        # Django lets no code of such a thread use the database.
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(_run_and_close, parsed, using, timeout).result()
    return _run(parsed, using, timeout)


def _run(calls: Sequence[Call], using: str, timeout: float) -> Results:
    aliases = _usable_aliases(shared=using != "inline")
    if using == "spawn":
        return Results(run_in_processes(calls, aliases, timeout))
    if using == "threads":
        return Results(run_in_threads(calls, aliases, timeout))
    return Results(call.make() for call in calls)


def _run_and_close(calls: Sequence[Call], using: str, timeout: float) -> Results:
    try:
        return _run(calls, using, timeout)
    finally:
        connections.close_all()


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def call_concurrently(n: int, target: Target, /, *args: Any, **kwargs: Any) -> Results:
    """Make the same call `n` times at the same time; see `run_concurrently`."""
    if not isinstance(n, int):
        raise InvalidCall(f"The first argument is the number of calls, not {n!r}.")
    if n < 1:
        raise InvalidCall(f"A call cannot be made {n} times.")
    return run_concurrently([(target, args, kwargs)] * n)


def make_concurrent_calls(*calls: CallSpec) -> Results:
    """Make different calls at the same time; see `run_concurrently`."""
    return run_concurrently(calls)


def _usable_aliases(*, shared: bool) -> list[str]:
    aliases = allowed_aliases()
    test_class = running_test_class()
    if aliases and is_rolled_back(test_class):
        raise AtomicBlockError
    for alias in aliases:
        connection = connections[alias]
        if test_class is None:
            # pytest-django refuses databases to a test that has no mark for them. The
            # processes could not know. What the server refuses, the calls will say.
            with suppress(Error):
                connection.ensure_connection()
        left_autocommit = connection.connection is not None and (
            connection.in_atomic_block or not connection.autocommit
        )
        if left_autocommit:
            raise AtomicBlockError(f"On database {alias!r}: {AtomicBlockError()}")
        obstacle = get_database(connection).concurrency_obstacle()
        if shared and obstacle:
            raise DatabaseNotSupported(f"Calls cannot be made concurrently: {obstacle}")
    return aliases

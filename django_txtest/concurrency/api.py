"""The functions that users call."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

from django.db import Error, connections

from django_txtest.concurrency.calls import Call, CallSpec, Target, parse_calls
from django_txtest.concurrency.forking import fork_obstacle
from django_txtest.concurrency.pool import Pool
from django_txtest.concurrency.spawning import run_spawned
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

MEETINGS = ("writes", "start", None)


def run_concurrently(
    calls: Iterable[CallSpec],
    *,
    using: str | None = None,
    meet: str | None = "writes",
    timeout: float | None = None,
) -> Results:
    """Make the calls at the same time and return their results.

    Each call has database connections of its own, which are open before any call
    starts; then all start together. They use the databases that the running test
    uses, and no others.

    :param calls: each is a target, ``(target, kwargs)`` or ``(target, args, kwargs)``.
        A target is a callable, also a coroutine function, or
        ``"package.module:function"``.
    :param using: ``"fork"``, a copy of this process for each call; ``"threads"``;
        ``"spawn"``, a fresh process for each call; or ``"inline"``, one call after the
        other in this thread, for a debugger. The default is the setting
        ``TXTEST_CALL_USING``, else ``"fork"`` on Linux and ``"threads"`` elsewhere.
        Where that is ``"fork"``, but other threads are running, which makes forking
        unsafe, threads are used with a `RuntimeWarning`.
    :param meet: ``"writes"``: before each of its writes a call waits until all others
        have come to as many writes, have finished, or wait for a lock, so that nearly
        every race is seen. ``"start"``: they only start together. None: each starts as
        soon as it can.
    :param timeout: how long, in seconds from the common start, a call may take before
        it is ended. The default is the setting ``TXTEST_CALL_TIMEOUT``, else 30.
        Inline calls cannot be ended.
    :raises AtomicBlockError: inside an atomic block, whatever `using` is.
    :raises DatabaseNotSupported: if a database cannot be shared between calls.
    :raises InvalidCall: if something in `calls` is not a call.
    :raises PicklingError: if a call cannot be sent to a fresh process.
    """
    parsed = parse_calls(calls)
    timeout = _check_options(using, meet, timeout)
    if _is_in_event_loop():
        using = using or _default_mode(in_event_loop=True)
        # Django lets no code of such a thread use the database.
        with ThreadPoolExecutor(1) as executor:
            run = executor.submit(_run_and_close, parsed, using, meet, timeout)
            return run.result()
    return _run(parsed, using, meet, timeout)


def _default_mode(*, in_event_loop: bool = False) -> str:
    using = settings.call_using
    if using != "fork":
        return using
    if in_event_loop:  # which has threads, of Django's
        return "threads"
    obstacle = fork_obstacle()
    if obstacle is None:
        return using
    warnings.warn(
        f"Concurrent calls are made in threads, as it is not safe to fork this "
        f"process: {obstacle}. To say that threads are meant, pass using='threads' "
        f"or set TXTEST_CALL_USING = 'threads'.",
        RuntimeWarning,
        stacklevel=_stack_level(),
    )
    return "threads"


def _stack_level() -> int:
    """Return the level of the first frame that is not of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].startswith("django_txtest."):
        frame, level = frame.f_back, level + 1
    return level - 1


def _check_options(using: str | None, meet: str | None, timeout: float | None) -> float:
    if using is not None and using not in MODES:
        raise InvalidCall(f"using={using!r} is not one of {', '.join(MODES)}.")
    if meet not in MEETINGS:
        raise InvalidCall(f"meet={meet!r} is not one of {MEETINGS}.")
    timeout = settings.call_timeout if timeout is None else timeout
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidCall(f"timeout={timeout!r} is not a positive number of seconds.")
    return timeout


def _run(
    calls: Sequence[Call], using: str | None, meet: str | None, timeout: float
) -> Results:
    aliases = _usable_aliases(shared=using != "inline")
    using = using or _default_mode()
    if using == "fork":
        with closing(Pool(aliases, calls)) as pool:
            return Results(pool.run_known(meet, timeout, last=True))
    if using == "threads":
        return Results(run_in_threads(calls, aliases, meet, timeout))
    if using == "spawn":
        return Results(run_spawned(calls, aliases, meet, timeout))
    return Results(call.make() for call in calls)


def _run_and_close(
    calls: Sequence[Call], using: str | None, meet: str | None, timeout: float
) -> Results:
    try:
        return _run(calls, using, meet, timeout)
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

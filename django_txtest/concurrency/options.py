"""What is checked, and chosen, before calls are made."""

from __future__ import annotations

import asyncio
import sys
import warnings
from contextlib import suppress

from django.db import Error, connections

from django_txtest.concurrency.forking import fork_obstacle
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

MEETINGS = ("writes", "start", None)


def check_mode(using: str | None) -> None:
    """Check a mode that was asked for.

    :raises InvalidCall: if there is none of that name, or not on this system.
    """
    if using is not None and using not in MODES:
        raise InvalidCall(f"using={using!r} is not one of {', '.join(MODES)}.")
    if using == "fork" and sys.platform == "win32":
        raise InvalidCall("Windows cannot fork. Use using='threads'.")


def check_meet(meet: str | None) -> None:
    """Check how calls are to meet.

    :raises InvalidCall: if that is not one of the ways.
    """
    if meet not in MEETINGS:
        raise InvalidCall(f"meet={meet!r} is not one of {MEETINGS}.")


def check_timeout(timeout: float | None) -> float:
    """Return the timeout, from the settings where none is given.

    :raises InvalidCall: if it is not a positive number.
    """
    timeout = settings.call_timeout if timeout is None else timeout
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidCall(f"timeout={timeout!r} is not a positive number of seconds.")
    return timeout


def default_mode() -> str:
    """Return how calls are made where nothing is said."""
    using = settings.call_using
    if using != "fork":
        return using
    if is_in_event_loop():  # which has threads, of Django's
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


def is_in_event_loop() -> bool:
    """Tell whether this is called by a coroutine, where Django refuses databases."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def usable_aliases(*, shared: bool) -> list[str]:
    """Return the databases that calls made here may use.

    :param shared: whether the calls have connections of their own.
    :raises AtomicBlockError: if one of them is in an atomic block.
    :raises DatabaseNotSupported: if one of them cannot be shared.
    """
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


def _stack_level() -> int:
    """Return the level of the first frame that is not of this package."""
    frame, level = sys._getframe(1), 1
    inner = ("django_txtest.", "contextlib")
    while frame.f_back and frame.f_globals["__name__"].startswith(inner):
        frame, level = frame.f_back, level + 1
    return level

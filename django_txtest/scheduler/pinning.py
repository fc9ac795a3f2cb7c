"""Has time stand still, and random numbers come the same in each execution."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any
from unittest import mock

from django.utils.timezone import is_naive, make_aware

from django_txtest.exceptions import PinNotPossible
from django_txtest.scheduler.session import current_session
from django_txtest.scheduler.state import Turns

#: Who `setup` and an invariant are, among the numbers of the sessions.
_NOBODY = -1
#: How often a session that waits for its turn looks whether it was ended, in seconds.
_TURN_CHECK = 0.05


class Pins(Turns):
    """Random numbers for each session, which are its own and always the same.

    `random` has one state for all. So one session at a time runs Python here, even
    where two come back from the database at once, and it finds its own state.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._states: dict[int, Any] = {}
        self._streams: dict[int, random.Random] = {}

    def begin(self) -> None:
        """Let every number come again, for another execution."""
        self._states.clear()
        self._streams.clear()
        random.setstate(self._state(_NOBODY))

    def before(self, setup: Callable[[], object] | None) -> Callable[[], object]:
        """Return a `setup` that begins so."""

        def begin() -> None:
            self.begin()
            if setup is not None:
                setup()

        return begin

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let sessions run within a block, and go on outside of it afterwards."""
        self._states[_NOBODY] = random.getstate()
        yield
        random.setstate(self._states[_NOBODY])

    def take(self, number: int, is_over: Callable[[], bool]) -> None:
        """Wait until no other session runs, and run."""
        while not self._lock.acquire(timeout=_TURN_CHECK):
            if is_over():
                return
        self._holder = number
        random.setstate(self._state(number))

    def leave(self, number: int) -> None:
        """Let others run."""
        if self._holder == number:
            self._states[number] = random.getstate()
            self._holder = None
            self._lock.release()

    def urandom(self, size: int, /) -> bytes:
        """Return bytes, as `os.urandom` does, from which keys and tokens are made."""
        number = current_session(_NOBODY)
        if number not in self._streams:
            self._streams[number] = random.Random(f"urandom {number}")
        return self._streams[number].randbytes(size)

    def _state(self, number: int) -> Any:
        if number not in self._states:
            self._states[number] = random.Random(f"random {number}").getstate()
        return self._states[number]


@contextmanager
def pinned(pin: bool | datetime | float) -> Iterator[Pins | None]:
    """Have time stand still within the block, and yield random numbers that repeat.

    :param pin: when time is to stand still, a `datetime` or seconds since the epoch;
        True for now, False for not at all.
    :raises PinNotPossible: without the ``pin`` extra.
    """
    if pin is False:
        yield None
        return
    try:
        import time_machine
    except ImportError:
        raise PinNotPossible from None
    pins = Pins()
    before = random.getstate()
    with ExitStack() as stack:
        stack.enter_context(time_machine.travel(_timestamp(pin), tick=False))
        # What uuid4 calls, and, by a name of its own, what `secrets` calls.
        stack.enter_context(mock.patch.object(os, "urandom", pins.urandom))
        stack.enter_context(mock.patch.object(random, "_urandom", pins.urandom))
        stack.callback(random.setstate, before)
        yield pins


def _timestamp(pin: bool | datetime | float) -> float:
    """Return when it is to be, in seconds since the epoch; the zone stays as it is."""
    if isinstance(pin, float):
        return pin
    if not isinstance(pin, datetime):
        return time.time()
    return (make_aware(pin) if is_naive(pin) else pin).timestamp()

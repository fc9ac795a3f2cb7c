"""The time of a batch, which passes when something has happened."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from django_txtest.concurrency import batch, locks

#: A timeout that is over when the test says so. Only a failure waits that long.
TIMEOUT = 120.0


@contextmanager
def time_passes_when(
    condition: Callable[[], object], seconds: float = 10 * TIMEOUT
) -> Iterator[None]:
    """Let so much time pass for batches of this process once the condition holds.

    Before, no call is taken for waiting because it has been silent for long.
    """
    owner = os.getpid()
    passed = 0.0

    def monotonic() -> float:
        nonlocal passed
        if not passed and os.getpid() == owner and condition():
            passed = seconds
        return time.monotonic() + passed

    with (
        mock.patch.object(batch, "time", SimpleNamespace(monotonic=monotonic)),
        mock.patch.object(batch, "MEETINGS_TIMEOUT", TIMEOUT),
        mock.patch.multiple(locks, SILENCE=TIMEOUT, SILENCE_WITHOUT_PROOF=TIMEOUT),
    ):
        yield

"""Shows on a terminal how far an exploration is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django_txtest.scheduler.exploration import Exploration

#: From when on there is a line, and how often it changes, in seconds.
AFTER = 1.0
EVERY = 0.5


class ProgressLine:
    """One line, which goes away again."""

    def __init__(self) -> None:
        self._shown = time.monotonic() + AFTER - EVERY
        self._is_shown = False

    def __call__(self, found: Exploration) -> None:
        """Show what is known so far."""
        now = time.monotonic()
        if now - self._shown < EVERY or not sys.stderr.isatty():
            return
        self._shown = now
        self._is_shown = True
        rate = found.executions / max(found.duration, 0.001)
        failed = f", {len(found.failures)} failed" if found.failures else ""
        sys.stderr.write(
            f"\r\x1b[K{found.duration:.0f} s: {found.executions} executions{failed}, "
            f"{rate:.0f} in a second, up to {found.depth} steps each"
        )
        sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """Yield a line that is gone at the end of the block."""
    line = ProgressLine()
    try:
        yield line
    finally:
        line.close()

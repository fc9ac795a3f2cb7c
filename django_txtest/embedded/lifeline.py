"""How a helper process learns that the process which started it needs it no more."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType


class Lifeline:
    """Ends at the end of stdin, at the death of the owner, or at a signal.

    The owner's death alone would close the pipe that is our stdin, but for a child that
    the owner forked, which holds it open; so the parent's process id is watched too.
    Must be made in the main thread.
    """

    def __init__(self, owner: int | None = None) -> None:
        self._owner = owner if sys.platform != "win32" else None
        # Only the thread sets the event: Event.set() in a signal handler can deadlock.
        self._end_of_input = threading.Event()
        self._signalled = False
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_signal)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def ended(self) -> bool:
        """Tell whether it is time to stop."""
        return (
            self._signalled
            or self._end_of_input.is_set()
            or (self._owner is not None and os.getppid() != self._owner)
        )

    def wait(self, seconds: float) -> bool:
        """Wait that long, or less, and return ``ended``."""
        if not self.ended:
            self._end_of_input.wait(min(seconds, 0.2))
        return self.ended

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _read(self) -> None:
        # os.read: a thread inside sys.stdin would disturb the interpreter's exit.
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        self._end_of_input.set()

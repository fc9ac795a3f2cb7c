"""What a session can be doing, and when it may."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class State(Enum):
    """What a session is doing, as far as the engine has heard."""

    #: It is between executions.
    IDLE = "is not running"
    #: It is before a step, and can go on.
    PAUSED = "can go on"
    #: It makes a step.
    MOVING = "is moving"
    #: It makes a step, in which the database has it wait.
    WAITING = "is waiting"
    #: The database would have it wait, and it is to try again.
    LOCKED = "is to try again"
    DONE = "has finished"


class SessionEnded(BaseException):
    """Unwinds a call that is not to go on. Not an Exception, which it might catch."""


class Turns:
    """Whose turn it is to run Python: here, anybody's at any time."""

    def take(self, number: int, is_over: Callable[[], bool]) -> None:
        """Begin to run, or to go on."""

    def leave(self, number: int) -> None:
        """Stop, or wait for a database."""

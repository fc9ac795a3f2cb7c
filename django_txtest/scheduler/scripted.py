"""Interleavings that a test writes out, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django_txtest.exceptions import ScriptError
from django_txtest.history import History, Kind
from django_txtest.scheduler.calls import Session, parse_sessions
from django_txtest.scheduler.engine import Engine
from django_txtest.scheduler.session import SessionThread
from django_txtest.scheduler.state import State
from django_txtest.scheduler.usable import explored_aliases


@contextmanager
def sessions(
    *calls: Session | Callable[[], Any],
    isolation_level: str | None = None,
    databases: Iterable[str] | None = None,
    **named: Callable[[], Any],
) -> Iterator[tuple[ScriptedSession, ...]]:
    """Make calls that go as far as they are told to, each in a session of its own.

    Yields a session for each call, which has not begun. Where the block ends, what is
    not over is rolled back.

    :param calls: as `explore` takes them.
    :param isolation_level: that of the calls' transactions; else the usual one.
    :param databases: the aliases whose statements are steps; usually all that the test
        may use.
    :param named: callables, by the names of their sessions.
    :raises ScriptError: at the end of the block, if a session that was to go on still
        waits.
    """
    wanted = [*calls, *(Session(name, call) for name, call in named.items())]
    aliases = explored_aliases(databases)
    with Engine(parse_sessions(wanted), aliases, isolation_level) as engine:
        engine.begin()
        script = _Script(engine)
        yield tuple(ScriptedSession(script, thread) for thread in engine.threads)
        script.check_end()


class ScriptedSession:
    """A session that a script tells how far to go.

    One that comes to wait for another returns at once, and goes on as far as it was
    told as soon as it can, which is while the other one makes its steps.
    """

    def __init__(self, script: _Script, thread: SessionThread) -> None:
        self._script = script
        self._thread = thread

    @property
    def name(self) -> str:
        """The name of the session."""
        return self._thread.name

    def step(self) -> None:
        """Make one step: the start, a statement, COMMIT, ROLLBACK or a checkpoint."""
        self._script.drive(self._thread, _Goal("make a step", steps=1))

    def run_until(self, text: str) -> None:
        """Go on until a statement has been executed that contains `text`.

        The session then stands before its next step. ``"COMMIT"``, ``"ROLLBACK"`` and
        the label of a checkpoint do too.

        :raises ScriptError: if the call ends without one.
        """
        goal = _Goal(f"run until {text!r}", text=text)
        self._script.drive(self._thread, goal)

    def finish(self) -> None:
        """Go on to the end of the call."""
        if self._thread.state is not State.DONE:
            self._script.drive(self._thread, _Goal("finish"))

    @property
    def waiting(self) -> bool:
        """Whether the database has the session wait."""
        return self._thread.state in (State.WAITING, State.LOCKED)

    @property
    def finished(self) -> bool:
        """Whether the call is over."""
        return self._thread.state is State.DONE

    @property
    def result(self) -> Any:
        """What the call returned; what it raised is raised.

        :raises ScriptError: if the call is not over.
        """
        outcome = self._thread.outcome
        if outcome is None or not self.finished:
            raise ScriptError(
                f"There is no result of {self.name} yet: it {self._script.doing(self)}."
            )
        if outcome.error is not None:
            outcome.error.reraise()
        return outcome.value

    @property
    def history(self) -> History:
        """What all sessions have done so far."""
        return self._script.engine.history

    def __repr__(self) -> str:
        return f"<session {self.name}, which {self._script.doing(self)}>"


@dataclass
class _Goal:
    """How far a session is to go."""

    told: str
    steps: int | None = None
    text: str | None = None
    is_met: bool = False

    def note(self, thread: SessionThread) -> None:
        """Take note of the step that a session is about to make."""
        if self.steps is not None:
            self.is_met = True
        elif self.text is not None:
            point = thread.point
            # Of a start, that would be the name of the function, which may say update.
            texts = {Kind.STATEMENT: point.sql, Kind.START: ""}
            what = texts.get(point.kind, str(point))
            self.is_met = self.text.lower() in what.lower()


class _Script:
    """Lets the sessions go on as far as they were told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._goals: dict[SessionThread, _Goal] = {}

    def drive(self, thread: SessionThread, goal: _Goal) -> None:
        """Let a session go on to its goal, and others that it makes way for."""
        if thread.state is not State.PAUSED:
            raise ScriptError(
                f"{thread.name} cannot {goal.told}: it {self._doing(thread)}."
            )
        self._goals[thread] = goal
        while self._move():
            pass
        if goal.text is not None and thread.is_done and not goal.is_met:
            raise ScriptError(
                f"{thread.name} was to {goal.told}, and {self._doing(thread)} without. "
                f"This is what happened:\n\n{self.engine.history}"
            )

    def _move(self) -> bool:
        """Let one session make a step; return False where none is to."""
        for thread, goal in list(self._goals.items()):
            is_there = goal.is_met and thread.state is State.PAUSED
            if is_there or thread.state is State.DONE:
                del self._goals[thread]
            elif thread.state is State.PAUSED:
                goal.note(thread)
                self.engine.step(thread.number)
                return True
        return False

    def check_end(self) -> None:
        """Raise if a session has not come to where it was to go."""
        for thread, goal in self._goals.items():
            raise ScriptError(
                f"The script ended, and {thread.name}, which was to {goal.told}, "
                f"{self._doing(thread)}. Let those that it waits for go on."
            )

    def doing(self, session: ScriptedSession) -> str:
        """Say what a session is doing."""
        return self._doing(session._thread)

    def _doing(self, thread: SessionThread) -> str:
        point = f"{thread.point}" + (
            f" ({thread.point.place})" if thread.point.place else ""
        )
        match thread.state:
            case State.DONE:
                outcome = thread.outcome
                if outcome is not None and outcome.error is not None:
                    return f"has finished: {outcome.error}"
                return "has finished"
            case State.PAUSED if thread.point.kind is Kind.START:
                return "has not begun"
            case State.PAUSED:
                return f"stands before {point}"
            case _:
                others = self.engine.waiting_for(thread.number)
                return f"waits for {' and '.join(others) or 'a lock'} in {point}"

"""A session: a thread with connections of its own, which pauses before each step."""

from __future__ import annotations

import contextvars
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.databases import get_database, text_of
from django_txtest.exceptions import DatabaseNotAllowed
from django_txtest.history import Event, Kind
from django_txtest.outcomes import Outcome
from django_txtest.reset.session import outlasts_transaction
from django_txtest.scheduler.calls import Session, short
from django_txtest.scheduler.hooks import hooked
from django_txtest.scheduler.places import user_place
from django_txtest.scheduler.state import SessionEnded, State, Turns

#: How often a thread that is paused looks whether it was forgotten, in seconds.
_PAUSE_CHECK = 5.0
# Of SQLite: these take no lock yet.
_TAKES_NO_LOCK = ("BEGIN", "SAVEPOINT", "RELEASE")


class SessionThread:
    """Makes its call in each execution, one step at a time.

    What is public belongs to the engine, but for `position`, `notes`, `outcome` and
    `is_asking`, which the thread sets.

    :param stopped: called in the thread with itself, whenever it has come to a stop;
        returns whether it is to go on at once.
    """

    def __init__(
        self,
        number: int,
        session: Session,
        aliases: Sequence[str],
        isolation_level: str | None,
        stopped: Callable[[SessionThread], bool],
        turns: Turns,
    ) -> None:
        self.number = number
        self.name = session.name
        self.session = session
        self.state = State.IDLE
        self.position = State.IDLE
        #: The step that it is before, or makes.
        self.point = Event(self.name, Kind.START)
        #: What happened to it since it was last heard of.
        self.notes: list[Event] = []
        self.outcome: Outcome | None = None
        #: Why there is no session, if the database refused one.
        self.refusal: Exception | None = None
        #: Its connections, and the server's numbers of their sessions.
        self.connections: dict[str, BaseDatabaseWrapper] = {}
        self.pids: dict[str, int] = {}
        #: Whether it has asked the database something, and has no answer yet.
        self.is_asking = False
        self.finished = threading.Event()
        #: Whether there is, or was, a thread.
        self.is_started = False
        self._call = session.call()
        self._aliases = aliases
        self._isolation_level = isolation_level
        self._stopped = stopped
        self._turns = turns
        # A lock as a semaphore: what is quickest between two threads.
        self._gate = threading.Lock()
        self._gate.acquire()
        self._ended = False
        self._closing = False
        self._refused = False
        #: The aliases whose transaction has read or written.
        self._has_read: set[str] = set()
        #: Whether others wait while it makes its step, so that it may close a circle.
        self._is_to_hasten = False
        self._may_hasten = False
        #: The aliases whose transaction looks for deadlocks at once.
        self._hastened: set[str] = set()
        self._is_changed = False
        self._engine_thread = threading.current_thread()
        self._engine_connections = connections.all(initialized_only=True)
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=self._run, name=f"txtest session {self.name}", daemon=True
        )

    # The engine's side

    def start(self) -> None:
        """Start the thread, which connects and reports."""
        # Before, as Ctrl-C may come while it starts.
        self.is_started = True
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more
            self.is_started = False
            raise

    def begin(self) -> None:
        """Get ready for another execution."""
        self.state = State.PAUSED
        self.point = Event(self.name, Kind.START, text=self.session.description)
        self.notes = []
        self.outcome = None

    def move(self, *, others_wait: bool = False) -> None:
        """Have the thread, which goes on by itself, make its step.

        :param others_wait: whether it is the victim if its step makes a deadlock. Not
            who began to wait before: it would depend on how busy the server is.
        """
        self._is_to_hasten = others_wait and self._may_hasten
        self.state = State.MOVING

    def go(self, *, others_wait: bool = False) -> None:
        """Let the thread, which has come to a stop, make its step."""
        self.move(others_wait=others_wait)
        self._gate.release()

    def refuse(self) -> None:
        """Let the step fail that the database would have wait."""
        self._refused = True
        self.go()

    def end(self) -> None:
        """Unwind the call, wherever it is paused now or comes to its next step."""
        self._ended = self._closing = True
        with suppress(RuntimeError):  # it was not paused
            self._gate.release()

    def refuse_databases(self) -> None:
        """Let the thread, which cannot be ended, never again use a database."""

        def connect() -> None:
            raise DatabaseNotAllowed(f"Session {self.name} was ended.")

        for connection in self.connections.values():
            connection.connect = connect  # type: ignore[method-assign]

    def wait(self, seconds: float) -> bool:
        """Wait until the thread has closed all and ended; return whether it has."""
        if self.finished.wait(max(0.0, seconds)):
            self._thread.join()
        return self.finished.is_set()

    def stack(self) -> str:
        """Return where the thread is."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else ""

    @property
    def is_done(self) -> bool:
        """Whether its call is over."""
        return self.state is State.DONE

    @property
    def ident(self) -> int:
        """The number of the thread."""
        return self._thread.ident or 0

    # The thread's side

    def _run(self) -> None:
        connection_created.connect(self._prepare)
        try:
            self._follow_engine()
            self._connect()
            may_go = self._report(State.IDLE)
            while not self._closing and (may_go or self._may_go()):
                if not self._closing:
                    may_go = self._make_call()
        except SessionEnded:  # between two calls
            pass
        except Exception as error:  # noqa: BLE001 - the engine raises it
            self.refusal = error
            self._report(State.DONE)
        finally:
            connection_created.disconnect(self._prepare)
            connections.close_all()
            self.finished.set()

    def _follow_engine(self) -> None:
        """Connect to what the engine's thread is connected to, as to a clone."""
        for other in self._engine_connections:
            if connections[other.alias].settings_dict is not other.settings_dict:
                connections[other.alias] = other.copy()
        del self._engine_connections

    def _connect(self) -> None:
        for alias in self._aliases:
            connections[alias].ensure_connection()

    def _prepare(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if threading.current_thread() is not self._thread:
            return
        self.connections[connection.alias] = connection
        database = get_database(connection)
        # Of the others, too, there may be locks that sessions wait for.
        if connection.alias in self._aliases:
            database.prepare_explored(self._isolation_level)
            self._may_hasten = database.may_hasten_deadlocks()
        pid = database.session_pid()
        if pid is not None:
            self.pids[connection.alias] = pid

    def _make_call(self) -> bool:
        self._has_read.clear()
        self._hastened.clear()
        self._is_changed = False
        self._connect()
        with ExitStack() as stack:
            for alias in self._aliases:
                connection = connections[alias]
                stack.enter_context(
                    hooked(connection, self._execute, self._end_of, self._act)
                )
            outcome = self._context.copy().run(self._call_in_context)
        if self._is_changed:
            connections.close_all()
        else:
            for connection in connections.all(initialized_only=True):
                get_database(connection).put_connection_right()
        self.outcome = outcome
        error = outcome.error
        if error is None:
            event = Event(self.name, Kind.RETURNS, text=short(outcome.value))
        else:
            event = Event(self.name, Kind.RAISES, text=_told(error.original))
        self.notes.append(event)
        return self._report(State.DONE)

    def _call_in_context(self) -> Outcome:
        _current.set(self)
        self._take_turn()
        try:
            return self._call.make()
        finally:
            self._turns.leave(self.number)

    def _take_turn(self) -> None:
        self._turns.take(self.number, lambda: self._ended)

    def _execute(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: dict[str, Any],
    ) -> Any:
        connection: BaseDatabaseWrapper = context["connection"]
        text = text_of(sql, connection)
        if outlasts_transaction(text):
            self._is_changed = True

        def act() -> Any:
            result = execute(sql, params, many, context)
            if text.startswith(_TAKES_NO_LOCK):
                return result
            if get_database(connection).has_transaction():
                self._has_read.add(connection.alias)
            return result

        return self._act(connection, text, act, params, many=many)

    def _act(
        self,
        connection: BaseDatabaseWrapper,
        sql: str,
        act: Callable[[], Any],
        params: Any = None,
        *,
        many: bool = False,
    ) -> Any:
        """Make a step of a statement."""
        event = Event(
            self.name,
            Kind.STATEMENT,
            connection.alias,
            sql,
            params,
            place=user_place(),
            in_transaction=connection.in_atomic_block
            or not connection.autocommit
            or sql.startswith("BEGIN")
            or get_database(connection).has_transaction(),
            many=many,
        )
        return self._step(event, connection, act)

    def _end_of(
        self, connection: BaseDatabaseWrapper, kind: Kind, end: Callable[[], None]
    ) -> Callable[[], None]:
        def act() -> None:
            end()
            self._has_read.discard(connection.alias)

        def step() -> None:
            if not get_database(connection).has_transaction():
                end()
                return
            self._has_read.discard(connection.alias)  # it may wait for readers
            place = user_place()
            event = Event(
                self.name, kind, connection.alias, place=place, in_transaction=True
            )
            self._step(event, connection, act)

        return step

    def checkpoint(self, label: str) -> None:
        """Pause, as before a step."""
        event = Event(self.name, Kind.CHECKPOINT, text=label, place=user_place())
        self._pause(event)

    def _step(
        self, event: Event, connection: BaseDatabaseWrapper, act: Callable[[], Any]
    ) -> Any:
        if self._ended and event.kind is Kind.ROLLBACK:
            return act()
        self._pause(event)
        # A COMMIT, too, may wait: it checks the keys that are deferred.
        if self._is_to_hasten and event.kind is not Kind.ROLLBACK:
            self._hasten_deadlocks(connection)
        if event.kind is not Kind.STATEMENT:
            self._hastened.discard(event.alias)
        while True:
            self.is_asking = True
            try:
                self._turns.leave(self.number)
                try:
                    result = act()
                finally:
                    self._take_turn()
                self._refused = False
                return result
            except DatabaseError as error:
                would_wait = get_database(connection).would_wait(
                    error, has_read=event.alias in self._has_read
                )
                if self._refused or not would_wait:
                    self._refused = False
                    text = _told(error)
                    self.notes.append(
                        Event(self.name, Kind.ERROR, event.alias, text=text)
                    )
                    raise
            finally:
                self.is_asking = False
            self._stop(State.LOCKED)

    def _hasten_deadlocks(self, connection: BaseDatabaseWrapper) -> None:
        alias = connection.alias
        if alias in self._hastened:
            return
        if get_database(connection).hasten_deadlocks():
            self._hastened.add(alias)

    def _pause(self, event: Event) -> None:
        self.point = event
        self._stop(State.PAUSED)

    def _stop(self, position: State) -> None:
        if self._ended:
            raise SessionEnded
        self._turns.leave(self.number)
        if not (self._report(position) or self._may_go()) or self._ended:
            self._ended = True
            raise SessionEnded
        self._take_turn()

    def _report(self, position: State) -> bool:
        self.position = position
        return self._stopped(self)

    def _may_go(self) -> bool:
        while not self._gate.acquire(timeout=_PAUSE_CHECK):
            if not self._engine_thread.is_alive():
                return False
        return True


_current: contextvars.ContextVar[SessionThread | None] = contextvars.ContextVar(
    "django_txtest_session", default=None
)


def current_session(default: int) -> int:
    """Return the number of the session that this is called in."""
    session = _current.get()
    return default if session is None else session.number


def checkpoint(label: str) -> None:
    """Let other sessions go on here, where interleavings are explored.

    Elsewhere, this does nothing.
    """
    session = _current.get()
    if session is not None:
        session.checkpoint(label)


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

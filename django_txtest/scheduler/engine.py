"""Makes executions: one session at a time goes from one step to its next."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType

from django_txtest.conf import settings
from django_txtest.exceptions import SessionStuck
from django_txtest.history import Event, History, Kind
from django_txtest.scheduler.base import Choice
from django_txtest.scheduler.calls import Session
from django_txtest.scheduler.ending import end_all
from django_txtest.scheduler.session import SessionThread
from django_txtest.scheduler.state import State, Turns
from django_txtest.scheduler.strangers import Strangers
from django_txtest.scheduler.waits import WaitWatch, has_circle
from django_txtest.scheduler.walk import Execution, Walk

#: When a step that has not come back is looked up, and how long until the next look.
FIRST_LOOK = 0.002
LAST_LOOK = 0.05
#: How long a session gets to connect, in seconds.
CONNECT_TIMEOUT = 30.0
MAX_STEPS = 1000


class Engine:
    """Has a thread for each session, and keeps it from execution to execution.

    Within a block. At its end, or whenever it is left, every call that is not over is
    unwound and rolled back, and every connection is closed.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        aliases: Sequence[str],
        isolation_level: str | None = None,
        max_steps: int = MAX_STEPS,
        turns: Turns | None = None,
    ) -> None:
        #: Sessions that have come to a stop, for the engine's own thread to go on from.
        self._reports: SimpleQueue[SessionThread] = SimpleQueue()
        #: Whether a session that comes to a stop lets the next one go.
        self._is_relayed = False
        self._problem: BaseException | None = None
        self._lock = threading.Lock()
        self._watch = WaitWatch()
        self._max_steps = max_steps
        self._waits: dict[int, frozenset[int]] = {}
        #: What the history says about the waits.
        self._told: dict[int, frozenset[int]] = {}
        #: Those that SQLite refused a lock, since the last change, in order.
        self._tried: list[SessionThread] = []
        #: Whether the bound of preemptions ever left a choice out.
        self.was_bounded = False
        turns = turns or Turns()
        self.threads = [
            SessionThread(
                number, session, aliases, isolation_level, self._stopped, turns
            )
            for number, session in enumerate(sessions)
        ]
        self._walk = Walk(self.threads, max_steps)
        self.strangers = Strangers(aliases, self._is_known)
        self._thread = threading.current_thread()

    def __enter__(self) -> Engine:
        try:
            self.strangers.watch()
            for thread in self.threads:
                thread.start()
                # One by one, so that what they connect with need not be thread-safe.
                self._await_connections(thread)
        except BaseException:
            self.close()
            raise
        return self

    def _await_connections(self, thread: SessionThread) -> None:
        try:
            self._reports.get(timeout=CONNECT_TIMEOUT)
        except Empty:
            raise SessionStuck(
                f"Session {thread.name} could not connect to its databases within "
                f"{CONNECT_TIMEOUT:g} s.",
                {thread.name: thread.stack()},
            ) from None
        if thread.refusal is not None:
            raise thread.refusal

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unwind what is not over, and close everything."""
        with self._lock:
            self._is_relayed = False
        try:
            for name in end_all(self.threads, self._watch):
                warnings.warn(
                    f"The thread of session {name} cannot be ended, and goes on. It "
                    f"can use no database any more.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        finally:
            self._watch.close()
            self.strangers.close()

    def begin(
        self,
        choose: Callable[[Choice], int] | None = None,
        bound: int | None = None,
        only: Sequence[int] | None = None,
    ) -> None:
        """Have every session, or only these, before the start of its call."""
        self._walk = Walk(self.threads, self._max_steps, choose, bound)
        self._waits = {}
        self._told = {}
        self._tried = []
        for thread in self.threads:
            thread.begin()
            if only is not None and thread.number not in only:
                thread.state = State.DONE

    def execute(
        self,
        choose: Callable[[Choice], int],
        bound: int | None = None,
        only: Sequence[int] | None = None,
    ) -> Execution:
        """Make one execution.

        :param choose: tells which of the sessions makes the next step.
        :param bound: how often it may interrupt one that could go on.
        :param only: the sessions that take part, if not all do.
        """
        self.begin(choose, bound, only)
        self.strangers.is_watching = True
        while not self._walk.is_over:
            thread = self._walk.next()
            if thread is None:
                self.await_somebody()
                continue
            others_wait = bool(self._in(State.WAITING))
            # Where sessions wait, each step may let them go on.
            self._is_relayed = is_relayed = not (others_wait or self._tried)
            thread.go(others_wait=others_wait)
            # By now all may be over: others go on while this thread does not.
            self._settle(self._await_relay() if is_relayed else thread, is_relayed)
        self.strangers.is_watching = False
        self.was_bounded |= self._walk.was_bounded
        return self._walk.execution()

    def _is_known(self, thread: threading.Thread) -> bool:
        idents = [self._thread.ident, *(each.ident for each in self.threads)]
        return thread.ident in idents

    @property
    def history(self) -> History:
        """What has happened in the execution so far."""
        return self._walk.history

    def execute_serially(self, order: Sequence[int]) -> Execution:
        """Make an execution of these sessions, one after the other."""

        def choose(choice: Choice) -> int:
            return min(choice.runnable, key=order.index)

        return self.execute(choose, only=order)

    def step(self, number: int) -> None:
        """Let a session make its step, and wait until nothing moves any more."""
        thread = self._walk.step_of(number)
        thread.go(others_wait=bool(self._in(State.WAITING)))
        self._settle(thread)

    def await_somebody(self) -> None:
        """Where all wait, wait until one of them goes on."""
        if self._tried:
            # SQLite gives up on the one that has waited for the longest.
            thread = self._tried.pop(0)
            thread.refuse()
            self._settle(thread)
        else:
            self._settle(None)

    def waiting_for(self, number: int) -> tuple[str, ...]:
        """Return the names of the sessions that one waits for."""
        return tuple(self.threads[n].name for n in sorted(self._waits.get(number, ())))

    # While nobody waits, whoever comes to a stop lets the next one go. To have this
    # thread do it would take two changes of threads for a step, which cost more than
    # most statements do; that way there is one, and none where the same one goes on.

    def _stopped(self, thread: SessionThread) -> bool:
        """Hear of a session, in its thread; return whether it goes on at once."""
        with self._lock:
            chosen = self._next_after(thread) if self._is_relayed else None
            if chosen is None:
                self._is_relayed = False
                self._reports.put(thread)
            elif chosen is thread:
                chosen.move()
            else:
                chosen.go()
        return chosen is thread

    def _next_after(self, thread: SessionThread) -> SessionThread | None:
        if thread.position is State.LOCKED:
            return None
        try:
            self._hear(thread)
            self._write_down(thread)
            return self._walk.next()
        except BaseException as error:  # noqa: BLE001 - the engine's thread raises it
            self._problem = error
            return None

    def _await_relay(self) -> SessionThread:
        """Wait until it has come to its end, or to a step that takes long."""
        left = FIRST_LOOK
        while True:
            with suppress(Empty):
                # Back again: it is what comes next.
                self._reports.put(self._reports.get(timeout=left))
            with self._lock:
                left = self._walk.step_began + FIRST_LOOK - time.monotonic()
                if self._is_relayed and left > 0:
                    continue
                self._is_relayed = False
            if self._problem is not None:
                raise self._problem
            assert self._walk.mover is not None
            return self._walk.mover

    # What follows waits until each session is paused, over, or proved to wait.

    def _settle(self, stepped: SessionThread | None, is_relayed: bool = False) -> None:
        # After a relay, who made the last step has had its time already.
        patience = 0.0 if is_relayed else FIRST_LOOK
        moving = {stepped} if stepped else set()
        reported: list[SessionThread] = []
        began = time.monotonic()
        while True:
            if moving or stepped is None:
                try:
                    thread = self._reports.get(timeout=patience)
                except Empty:
                    patience = min(max(FIRST_LOOK, 2 * patience), LAST_LOOK)
                    # Who is in Python's code does not wait in the database, unless by
                    # what is no step: in a database that is not explored, or to fetch
                    # from a server-side cursor. The last looks are for these.
                    is_asking = any(each.is_asking for each in moving)
                    if moving and not is_asking and patience < LAST_LOOK:
                        continue
                else:
                    moving.discard(thread)
                    reported.append(thread)
                    self._hear(thread)
                    stepped = stepped or thread
                    patience = FIRST_LOOK
                    if moving:
                        continue
            if not moving and (thread_again := self._next_try(reported)):
                thread_again.go()
                moving.add(thread_again)
                continue
            asked = moving.union(self._in(State.WAITING))
            if not asked:
                break
            self._waits = self._watch.look(asked, self.threads)
            for thread in asked:
                if thread.number in self._waits:
                    thread.state = State.WAITING
                    moving.discard(thread)
                else:
                    thread.state = State.MOVING
                    moving.add(thread)
            is_stable = not moving and not has_circle(self._waits)
            if is_stable and stepped is not None:
                break
            if not moving:  # a circle, which the database will open
                moving.update(self._in(State.WAITING))
            if time.monotonic() - began > settings.step_timeout:
                raise self._stuck(moving)
        self._write_down(stepped)

    def _hear(self, thread: SessionThread) -> None:
        if thread.refusal is not None:  # it lost its connection between two calls
            raise thread.refusal
        thread.state = thread.position
        if thread.state is State.LOCKED:
            self._tried.append(thread)
        self._waits.pop(thread.number, None)

    def _next_try(self, reported: list[SessionThread]) -> SessionThread | None:
        """Return a session that may get the lock now which it did not get before."""
        for thread in self._tried:
            # Anything that another one did since may have given the lock free.
            last = len(reported) - 1 - _index_from_end(reported, thread)
            later = reported[last + 1 :]
            if any(each.position is not State.LOCKED for each in later):
                self._tried.remove(thread)
                return thread
        return None

    def _in(self, state: State) -> list[SessionThread]:
        return [thread for thread in self.threads if thread.state is state]

    def _write_down(self, stepped: SessionThread | None) -> None:
        """Add what happened to the history, in an order that is always the same."""
        others = [thread for thread in self.threads if thread is not stepped]
        for thread in [stepped, *others] if stepped else others:
            number = thread.number
            is_waiting = thread.state in (State.WAITING, State.LOCKED)
            if number in self._told and not is_waiting:
                del self._told[number]
                self.history.add(
                    Event(thread.name, Kind.GOES_ON, alias=thread.point.alias)
                )
            for note in thread.notes:
                self.history.add(note)
            thread.notes = []
            waits = self._waits.get(number, frozenset())
            if is_waiting and self._told.get(number) != waits:
                self._told[number] = waits
                names = tuple(self.threads[n].name for n in sorted(waits))
                self.history.add(
                    Event(
                        thread.name, Kind.WAITS, alias=thread.point.alias, others=names
                    )
                )

    def _stuck(self, moving: set[SessionThread]) -> SessionStuck:
        threads = sorted(moving, key=lambda thread: thread.number)
        names = " and ".join(thread.name for thread in threads)
        waits = [
            f"{self.threads[n].name} waits for {' and '.join(self.waiting_for(n))}"
            for n in sorted(self._waits)
        ]
        told = f"In the database, {', '.join(waits)}. " if waits else ""
        return SessionStuck(
            f"Session {names} did not come back from a step within "
            f"{settings.step_timeout:g} s (TXTEST_STEP_TIMEOUT). {told}"
            f"If it waits for a lock, a queue or a thread of Python's, let nothing "
            f"hold that across a statement, where others go on; if it has much to do, "
            f"raise the setting. The calls were ended.\n"
            f"The schedule so far is {self._walk.schedule}:\n\n{self.history}\n",
            {thread.name: thread.stack() for thread in threads},
        )


def _index_from_end(items: list[SessionThread], item: SessionThread) -> int:
    """Return where an item is, counted from the end; the length if it is not."""
    for index, each in enumerate(reversed(items)):
        if each is item:
            return index
    return len(items)

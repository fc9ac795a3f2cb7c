"""A batch of calls, from the caller's side: they start, meet and finish together."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.line import DONE, OPENED, READY, REFUSED, WRITE
from django_txtest.concurrency.locks import LockWatch
from django_txtest.concurrency.meeting import Meeting
from django_txtest.concurrency.tasks import busy_time, is_at_disk
from django_txtest.outcomes import Outcome

#: How long all calls together may take to get ready, in seconds.
START_TIMEOUT = 120.0
#: How long what has sent its outcome gets to end by itself, in seconds.
EXIT_TIMEOUT = 5.0
#: After how long in all meetings end for a batch, as the calls wait in other ways.
MEETINGS_TIMEOUT = 10.0
#: How often it is looked whether a call has died without a word, in seconds.
TICK = 0.1
#: From when on a terminal shows what is waited for, in seconds.
PROGRESS_AFTER = 1.0


class Participant(ABC):
    """A call in a thread or a process, and what is known of it.

    :param channel: the batch's end of the line to it.
    """

    def __init__(self, call: Call, channel: Connection) -> None:
        self.call = call
        self.channel = channel
        #: The sessions that it opened, by alias.
        self.sessions: defaultdict[str, set[int]] = defaultdict(set)
        self.is_ready = False
        #: Whether it ended without a word on its call.
        self.is_dead = False
        self.is_done = False
        #: Whether it asks for a lock again and again.
        self.is_refused = False
        #: When it was told to begin, and last heard of, on the monotonic clock.
        self.started: float | None = None
        self.heard = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return self.is_done or self.is_dead

    def go(self) -> None:
        """Let it make its call."""
        self.started = self.heard = time.monotonic()
        self.send()

    def send(self, word: Any = None) -> None:
        """Say something; what has died will not hear it."""
        with suppress(OSError):
            self.channel.send(word)

    def receive(self, *, is_readable: bool = True) -> str | None:
        """Take in what it says, or its end; return the kind of message.

        :param is_readable: whether the channel has something, be it its end.
        """
        self.heard = time.monotonic()
        try:
            # It may have ended without a word, and what it started hold the channel.
            if not (is_readable or self.channel.poll()):
                raise EOFError
            kind, content = self.channel.recv()
        except (EOFError, OSError):
            self.is_dead = True
            return None
        if kind == OPENED:
            alias, pid = content
            self.sessions[alias].update([] if pid is None else [pid])
        self.is_ready = self.is_ready or kind == READY
        self.is_refused = kind == REFUSED
        if kind == DONE:
            self.is_done = True
            self.take(content)
        return str(kind)

    def take(self, content: Any) -> None:  # noqa: B027 - a thread has nothing to take
        """Take in what came with the last message."""

    def clear_up(self) -> None:  # noqa: B027 - a thread does not die
        """End what it left behind when it died, as others may wait for that."""

    @property
    @abstractmethod
    def task(self) -> str:
        """Its folder in /proc."""

    def busy(self) -> float:
        """Return for how long, in seconds, it has not been asleep; see `busy_time`."""
        return busy_time(self.task)

    @abstractmethod
    def is_alive(self) -> bool:
        """Tell whether the thread or process has not ended."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """Return what became of the call."""


def conduct(
    participants: Sequence[Participant], meet: str | None, timeout: float
) -> None:
    """Let the participants make their calls; return when they have, or time is up.

    :param timeout: in seconds, from when all are ready.
    """
    batch = _Batch(participants, meet, timeout)
    try:
        batch.get_ready(time.monotonic() + START_TIMEOUT)
        deadline = time.monotonic() + timeout
        batch.start()
        batch.run(deadline)
    finally:
        batch.close()


class _Batch:
    def __init__(
        self, participants: Sequence[Participant], meet: str | None, timeout: float
    ) -> None:
        self._participants = participants
        self._meet = meet
        self._timeout = timeout
        self._meeting = Meeting(len(participants))
        self._meeting_ends: float | None = None
        #: For each call when it was heard, and how busy it was at the next look.
        self._looks: dict[int, tuple[float, float]] = {}
        self._locks = LockWatch()
        self._progress = _Progress()

    def get_ready(self, deadline: float) -> None:
        """Wait until all have connections; those that have none in time never start."""
        while waiting := [
            p for p in self._participants if not (p.is_ready or p.is_over)
        ]:
            if not self._hear(waiting, deadline):
                break
        for number, participant in enumerate(self._participants):
            if participant.is_over or not participant.is_ready:
                self._meeting.finish(number)

    def start(self) -> None:
        """Let all begin that are ready, if they are to begin together."""
        if self._meet is not None:
            for participant in self._participants:
                if participant.is_ready and not participant.is_over:
                    participant.go()

    def run(self, deadline: float) -> None:
        """Wait until all that started have finished."""
        wait_for_locks = 0.001
        while waiting := [
            p for p in self._participants if p.is_ready and not p.is_over
        ]:
            awaited = self._meeting.awaited()
            until = deadline
            if awaited:
                until = min(deadline, time.monotonic() + wait_for_locks)
            if self._hear(waiting, until):
                wait_for_locks = 0.001
            elif time.monotonic() >= deadline:
                self._hear_the_rest(waiting)
                return
            elif awaited:
                self._release(self._blocked(awaited))
                wait_for_locks = min(wait_for_locks * 2, 0.02)

    def close(self) -> None:
        """Give back what was needed on the way."""
        self._locks.close()
        self._progress.close()

    def _hear(self, waiting: Sequence[Participant], until: float) -> bool:
        """Take in what was said until then; return False if that was nothing."""
        heard = False
        while not heard:
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._progress.show(waiting)
            readable = wait([p.channel for p in waiting], min(left, TICK))
            for participant in waiting:
                # Not only the channel: what a call started may keep it open.
                is_readable = participant.channel in readable
                if is_readable or not (readable or participant.is_alive()):
                    heard = True
                    self._take(participant, is_readable)
        return True

    def _hear_the_rest(self, waiting: Sequence[Participant]) -> None:
        """Take in what was said in time, though this process was late to hear it."""
        for participant in waiting:
            while not participant.is_over and participant.channel.poll():
                participant.receive()

    def _take(self, participant: Participant, is_readable: bool) -> None:
        kind = participant.receive(is_readable=is_readable)
        if participant.is_dead:
            participant.clear_up()
        number = self._participants.index(participant)
        if kind == READY and self._meet is None:
            participant.go()
        elif kind == WRITE:
            self._meeting.arrive(number)
        elif participant.is_over:
            self._meeting.finish(number)
        self._release(
            [n for n, other in enumerate(self._participants) if other.is_refused]
        )

    def _release(self, blocked: Sequence[int]) -> None:
        for number in self._meeting.release(blocked):
            self._participants[number].heard = time.monotonic()
            self._participants[number].send()

    def _blocked(self, numbers: Sequence[int]) -> Sequence[int]:
        now = time.monotonic()
        if self._meeting_ends is None:
            self._meeting_ends = now + MEETINGS_TIMEOUT
        if now > self._meeting_ends:
            return numbers
        silence = {n: self._silence(n, now) for n in numbers}
        sessions = {n: self._participants[n].sessions for n in numbers}
        # Not so long that the time of those that are held is over with it.
        return self._locks.blocked(sessions, silence, self._timeout / 4)

    def _silence(self, number: int, now: float) -> float:
        """Return for how long a call was asleep since it was last heard."""
        participant = self._participants[number]
        if is_at_disk(participant.task):
            participant.heard = now
        heard, busy = participant.heard, participant.busy()
        if number not in self._looks or self._looks[number][0] != heard:
            self._looks[number] = heard, busy
        return now - heard - (busy - self._looks[number][1])


class _Progress:
    """A line on a terminal, once a batch takes long."""

    def __init__(self) -> None:
        self._started = self._shown = time.monotonic()
        self._is_shown = False

    def show(self, waiting: Sequence[Participant]) -> None:
        now = time.monotonic()
        is_time = now - self._started > PROGRESS_AFTER and now - self._shown > 0.5
        if not is_time or not sys.stderr.isatty():
            return
        self._shown = now
        self._is_shown = True
        names = ", ".join(participant.call.label for participant in waiting[:3])
        more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        seconds = now - self._started
        sys.stderr.write(f"\r\x1b[K{seconds:.0f} s: waiting for {names}{more}"[:110])
        sys.stderr.flush()

    def close(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

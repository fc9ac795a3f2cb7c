"""The steps of an execution: which are due to which, and which sessions are alike.

Identical calls are twins. Two of them are alike as long as each has done the same, and
nothing tells which was first: that they change places makes no difference then. So the
first of them has to make each step before the other one may, until something does tell.
To wait for it is but one more thing that orders two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from django_txtest.scheduler.dependency import Effect

#: Tells whether it makes a difference which of two effects comes first.
Depend = Callable[[Effect, Effect], bool]


@dataclass(frozen=True, eq=False)
class Step:
    """A step of an execution: who was chosen, what it did, and whose step it was.

    `number` counts the steps of its session, from 0. `leaders` are those of its twins
    that it had to wait for, each a session and a number.
    """

    session: int
    effect: Effect
    sessions: frozenset[int]
    number: int = 0
    leaders: frozenset[tuple[int, int]] = frozenset()

    @property
    def key(self) -> tuple[int, int]:
        """What it is in every execution that makes it."""
        return self.session, self.number


class Trace:
    """The steps of an execution so far.

    :param twins: for each session one before it that makes the same call, or None.
    """

    def __init__(self, depend: Depend, twins: Sequence[int | None] = ()) -> None:
        self._depend = depend
        self._twins = twins
        self.steps: list[Step] = []
        #: For each step those before that it is due to, a bit for each.
        self.causes: list[int] = []
        #: For each step those before that it could as well have come before.
        self.races: list[list[int]] = []
        #: The causes, but for the waits for twins.
        self._real: list[int] = []
        #: Where the steps of each session are.
        self._own: dict[int, list[int]] = {}
        #: Twins that something tells apart, the first one first.
        self._apart: set[tuple[int, int]] = set()

    def allowed(self, runnable: Collection[int]) -> list[int]:
        """Leave out the sessions that are like one before them, which is to go first.

        One that cannot go on keeps no other one from it.
        """
        return [
            number
            for number in runnable
            if not any(
                twin in runnable and self._made(twin) <= self._made(number)
                for twin in self._like(number)
            )
        ]

    def _made(self, session: int) -> int:
        return len(self._own.get(session, ()))

    def _like(self, session: int) -> Iterable[int]:
        """Yield the twins before a session that nothing tells from it."""
        for twin in self._before(session):
            if (twin, session) not in self._apart:
                yield twin

    def _before(self, session: int) -> Iterable[int]:
        while session < len(self._twins) and (twin := self._twins[session]) is not None:
            yield twin
            session = twin

    def add(self, session: int, effect: Effect, sessions: frozenset[int]) -> Step:
        """Add a step, and find out what it is due to."""
        number = self._made(session)
        leaders = frozenset(
            (twin, number) for twin in self._like(session) if self._made(twin) > number
        )
        step = Step(session, effect, sessions, number, leaders)
        causes = real = 0
        races = []
        for place in reversed(range(len(self.steps))):
            other = self.steps[place]
            if causes & real & (bit := 1 << place):
                continue  # by way of a step in between
            is_real = self._tell(other, step)
            if is_real:
                real |= self._real[place] | bit
            if causes & bit:
                continue
            is_leader = other.key in leaders
            if is_real or is_leader:
                causes |= self.causes[place] | bit
                if not is_leader and session not in other.sessions:
                    races.append(place)
        self._tell_apart(step, real)
        self._own.setdefault(session, []).append(len(self.steps))
        self.steps.append(step)
        self.causes.append(causes)
        self.races.append(races)
        self._real.append(real)
        return step

    def _tell_apart(self, step: Step, real: int) -> None:
        """Note which twins are not alike any more after a step."""
        for twin, number in step.leaders:
            place = self._own[twin][number]
            leader = self.steps[place]
            is_same = leader.effect is step.effect and leader.sessions == {twin}
            if not is_same or len(step.sessions) > 1 or real >> place & 1:
                self._apart.add((twin, step.session))
        for moved in step.sessions - {step.session}:
            # It goes on as no step of its own has it do.
            for other in range(len(self._twins)):
                self._apart |= {(other, moved), (moved, other)}

    def are_ordered(self, one: Step, other: Step) -> bool:
        """Tell whether it makes a difference which of two steps comes first."""
        return (
            self._tell(one, other)
            or one.key in other.leaders
            or other.key in one.leaders
        )

    def _tell(self, one: Step, other: Step) -> bool:
        return not one.sessions.isdisjoint(other.sessions) or self._depend(
            one.effect, other.effect
        )

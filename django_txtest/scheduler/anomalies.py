"""Names what the history of an execution shows: a cycle of dependencies.

The calls are the units, as each is meant to work as if it were alone. The names are
those of Adya, Liskov and O'Neil (ICDE 2000) and of Berenson et al. (SIGMOD 1995).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice, permutations, product

from django_txtest.history import Edge
from django_txtest.scheduler.accesses import Touch
from django_txtest.scheduler.footprint import Action

#: The longest cycle that is looked for, in sessions.
MAX_CYCLE = 4
#: How many cycles are compared at most, the shortest first.
MAX_CYCLES = 20_000


class DependencyKind(Enum):
    """Why a call has to come before another in a serial order; Adya's names."""

    #: The other overwrote what it wrote.
    WRITE_WRITE = "ww"
    #: The other read what it wrote.
    WRITE_READ = "wr"
    #: The other overwrote what it read: an anti-dependency.
    READ_WRITE = "rw"


@dataclass(frozen=True)
class Dependency:
    """One dependency of a cycle: `before` has to come first."""

    kind: DependencyKind
    before: Touch
    after: Touch

    @property
    def item(self) -> str:
        """What it is about."""
        before, after = self.before.access, self.after.access
        columns = after.columns if before.columns is None else before.columns
        if columns is not None and after.columns is not None:
            columns &= after.columns
        [column, *others] = sorted(columns or ()) or [""]
        row = self.before.row or self.after.row
        if column and not others:
            name = f"{before.table}.{column}"
            return f"{name} of {row}" if row else name
        return f"{row} of {before.table}" if row else before.table

    def is_about(self, other: Dependency) -> bool:
        """Tell whether another one may be about the same value."""
        mine, its = (self.before, self.after), (other.before, other.after)
        return all(one.meets(another) for one in mine for another in its)

    @property
    def is_predicate(self) -> bool:
        """Whether a row appeared that a condition would have taken."""
        return self.kind is DependencyKind.READ_WRITE and self.after.is_new

    @property
    def likeness(self) -> tuple[object, ...]:
        """What is the same each time that two loops come by, whatever they write."""
        touches = self.before, self.after
        known = [(t.alias, replace(t.access, after=())) for t in touches]
        return self.kind, self.is_predicate, *known

    @property
    def indices(self) -> tuple[int, int]:
        """The events of the two."""
        return self.before.index, self.after.index

    @property
    def edge(self) -> Edge:
        """It, for a picture: from what has to come first, wherever that came."""
        label = f"{self.kind.value} {self.item}"
        return Edge(self.before.index, self.after.index, label)

    @property
    def began(self) -> int:
        """The event of the two that came first."""
        return min(self.before.index, self.after.index)

    def told(self, item: str) -> str:
        """Return it in words, with these for what it is about."""
        before, after = self.before.session, self.after.session
        match self.kind:
            case DependencyKind.WRITE_WRITE:
                return f"{after} wrote {item} after {before} had"
            case DependencyKind.WRITE_READ:
                return f"{after} read {item} after {before} had written it"
            case DependencyKind.READ_WRITE:
                if self.before.index < self.after.index:
                    return f"{before} read {item} before {after} wrote it"
                return f"{before} read {item} without what {after} had written"


@dataclass(frozen=True)
class Anomaly:
    """What no serial order of the calls can show, and the dependencies that show it.

    `code` and `name` are those of the literature: P4, "lost update".
    """

    code: str
    name: str
    cycle: tuple[Dependency, ...] = field(repr=False)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The dependencies, for a picture."""
        return tuple(step.edge for step in self.cycle)

    def __str__(self) -> str:
        told: list[str] = []
        last = ""
        for each in sorted(self.cycle, key=lambda each: each.began):
            told.append(each.told("it" if each.item == last else each.item))
            last = each.item
        return f"{self.name} ({self.code}): {', and '.join(told)}"


def find_anomaly(touches: Sequence[Touch]) -> Anomaly | None:
    """Return the most telling anomaly of what some sessions read and wrote, if any."""
    found = map(_named, islice(_cycles(_dependencies(touches)), MAX_CYCLES))
    return min(found, key=_rank, default=None)


def _dependencies(touches: Sequence[Touch]) -> Iterator[Dependency]:
    """Yield which calls must come before which in a serial order, and why."""
    touches = [each for each in touches if each.access.foreign_key is None]
    writes = [
        each for each in touches if each.access.is_write and each.commit is not None
    ]
    reads = [each for each in touches if not each.access.is_write]
    for write in writes:
        for read in reads:
            if read.session != write.session and read.meets(write):
                if write.commit < read.time:  # type: ignore[operator]
                    yield Dependency(DependencyKind.WRITE_READ, write, read)
                else:
                    yield Dependency(DependencyKind.READ_WRITE, read, write)
        for other in writes:
            is_later = other.session != write.session and write.time < other.time
            actions = {write.access.action, other.access.action}
            # Two rows that were inserted are not the same one.
            if is_later and actions != {Action.INSERT} and write.meets(other):
                yield Dependency(DependencyKind.WRITE_WRITE, write, other)


def _cycles(steps: Iterable[Dependency]) -> Iterator[tuple[Dependency, ...]]:
    """Yield cycles through different sessions; of the long ones, one of each kind."""
    between: dict[tuple[str, str], list[Dependency]] = {}
    for step in steps:
        pair = step.before.session, step.after.session
        between.setdefault(pair, []).append(step)
    between = {pair: _first_and_last(found) for pair, found in between.items()}
    for (first, second), there in between.items():
        if first < second:
            yield from product(there, between.get((second, first), ()))
    sessions = sorted({name for pair in between for name in pair})
    one_of_each = {
        pair: list({(s.kind, s.is_predicate): s for s in reversed(found)}.values())
        for pair, found in between.items()
    }
    for length in range(3, min(MAX_CYCLE, len(sessions)) + 1):
        for first, *others in permutations(sessions, length):
            if first == min(first, *others):  # else it is another one, turned
                pairs = zip([first, *others], [*others, first], strict=True)
                yield from product(*(one_of_each.get(pair, ()) for pair in pairs))


def _first_and_last(steps: Iterable[Dependency]) -> list[Dependency]:
    """Return two of those that are alike: of loops, there are far too many."""
    alike: dict[object, list[Dependency]] = {}
    for step in steps:
        alike.setdefault(step.likeness, []).append(step)
    kept: list[Dependency] = []
    for found in alike.values():
        first, last = (choose(found, key=lambda s: s.indices) for choose in (min, max))
        kept += [first] if first is last else [first, last]
    return kept


#: The names, the most telling one first.
NAMES = {
    "P4": "lost update",
    "G0": "dirty write",
    "G1b": "intermediate read",
    "G1c": "circular information flow",
    "OTV": "observed transaction vanishes",
    "PMP": "predicate-many-preceders",
    "G-single": "read skew",
    "G2-item": "write skew",
    "G2": "anti-dependency cycle",
}


def _named(cycle: tuple[Dependency, ...]) -> Anomaly:
    code = _code(cycle)
    return Anomaly(code, NAMES[code], cycle)


def _code(cycle: tuple[Dependency, ...]) -> str:
    kinds = [step.kind for step in cycle]
    anti = [step for step in cycle if step.kind is DependencyKind.READ_WRITE]
    if not anti:
        return "G1c" if DependencyKind.WRITE_READ in kinds else "G0"
    is_predicate = any(step.is_predicate for step in anti)
    if len(anti) == 1:
        if len(cycle) == 2:
            other = next(step for step in cycle if step is not anti[0])
            return _code_of_two(anti[0], other)
        return "PMP" if is_predicate else "G-single"
    if is_predicate:
        return "G2"
    is_of_one_value = len(cycle) == 2 and cycle[0].is_about(cycle[1])
    return "P4" if is_of_one_value else "G2-item"


def _code_of_two(missed: Dependency, other: Dependency) -> str:
    """Return the code of a read that missed a write, and what else binds the two."""
    is_same = missed.is_about(other)
    if other.kind is DependencyKind.WRITE_WRITE:
        is_lost = is_same and not missed.is_predicate
        return (
            "P4" if is_lost and missed.before.index < other.after.index else "G-single"
        )
    if is_same and missed.before is other.after and not missed.is_predicate:
        return "G1b"
    if missed.is_predicate:
        return "PMP"
    return "OTV" if other.after.index < missed.before.index else "G-single"


def _rank(anomaly: Anomaly) -> tuple[object, ...]:
    """Return what makes one anomaly a better explanation than another: less of it."""
    vague = sum(not (step.before.row and step.after.row) for step in anomaly.cycle)
    indices = [step.indices for step in anomaly.cycle]
    return list(NAMES).index(anomaly.code), len(anomaly.cycle), vague, indices

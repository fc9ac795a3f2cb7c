"""Reads from the history of an execution what its sessions read and wrote, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from django_txtest.history import Event, History, Kind
from django_txtest.scheduler.footprint import (
    Above,
    Access,
    Action,
    Pins,
    can_meet,
    pins,
)
from django_txtest.scheduler.statements import Statements

_LEVEL = re.compile(r"\bTRANSACTION\s+ISOLATION\s+LEVEL\s+(\w+\s?\w*)", re.IGNORECASE)
#: Where a transaction sees what was committed before its first statement.
SNAPSHOT_LEVELS = frozenset({"REPEATABLE READ", "SERIALIZABLE"})


@dataclass(frozen=True)
class Touch:
    """One access of a session.

    :param index: the event of the statement.
    :param time: after which event it was: what it could see was committed before.
    :param row: the row in words, if it is about one.
    :param is_new: whether it makes the row, or writes to one that its session has made.
    :param commit: the event that made it durable; None if it was rolled back.
    """

    session: str
    alias: str
    index: int
    time: int
    access: Access
    row: str = ""
    is_new: bool = False
    commit: int | None = None

    def meets(self, other: Touch) -> bool:
        """Tell whether both may be about the same value."""
        mine, its = self.access, other.access
        if (self.alias, mine.table) != (other.alias, its.table):
            return False
        if not _share(mine.columns, its.columns):
            return False
        return any(
            _can_meet(one, another) for one in _states(mine) for another in _states(its)
        )


def _can_meet(one: Pins, other: Pins) -> bool:
    """Tell whether a row can be what both say, and not only by an unknown number.

    Who names a row by a number that a sequence has given knows the row already.
    """
    theirs = dict(other)
    is_unknown = any(
        isinstance(values, Above) != isinstance(theirs[column], Above)
        for column, values in one
        if column in theirs
    )
    return not is_unknown and can_meet(one, other)


def _share(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    return one is None or other is None or not one.isdisjoint(other)


def _states(access: Access) -> list[Pins]:
    """Return what is known of the rows, before and after."""
    match access.action:
        case Action.INSERT:
            return [access.after]
        case Action.UPDATE:
            return [access.where, access.after]
    return [access.where]


@dataclass
class _Part:
    """What a transaction did since it began, or since a savepoint of this name."""

    level: str = ""
    name: str = ""
    #: After which event is what it sees, once it is decided.
    snapshot: int | None = None
    touches: list[Touch] = field(default_factory=list)


def touches_of(
    history: History,
    statements: Mapping[str, Statements],
    isolation_level: str | None = None,
) -> list[Touch]:
    """Return what the sessions of an execution read and wrote.

    :param statements: know what the statements of each alias do.
    :param isolation_level: of the sessions, if it is not that of the database.
    """
    found: list[Touch] = []
    for session in history.sessions:
        for alias, known in statements.items():
            level = isolation_level or known.catalogue.isolation_level
            found += _Reader(history, session, alias, known, level.upper()).touches()
    return sorted(found, key=lambda touch: (touch.time, touch.index))


class _Reader:
    """Reads what one session did in one database."""

    def __init__(
        self,
        history: History,
        session: str,
        alias: str,
        statements: Statements,
        level: str,
    ) -> None:
        self._history = history
        self._session = session
        self._alias = alias
        self._statements = statements
        self._level = level
        #: The tables that the session has made rows of, and what is known of the first.
        self._made: dict[str, Pins] = {}

    def touches(self) -> Iterator[Touch]:
        """Yield its accesses; those that were rolled back with no commit."""
        transaction: list[_Part] = []
        for index, event in enumerate(self._history):
            if (event.session, event.alias) != (self._session, self._alias):
                continue
            is_refused, time = self._end(index)
            match event.kind:
                case Kind.STATEMENT if event.in_transaction:
                    transaction = transaction or [_Part(self._level)]
                    yield from self._in_transaction(
                        transaction, event, index, None if is_refused else time
                    )
                case Kind.STATEMENT if not is_refused:
                    for touch in self._touches(event, index, time):
                        yield replace(touch, commit=time)
                case Kind.COMMIT | Kind.ROLLBACK:
                    is_durable = event.kind is Kind.COMMIT and not is_refused
                    for part in transaction:
                        for touch in part.touches:
                            yield replace(touch, commit=time) if is_durable else touch
                    transaction = []

    def _in_transaction(
        self,
        transaction: list[_Part],
        event: Event,
        index: int,
        time: int | None,
    ) -> Iterator[Touch]:
        """Note what a statement did, and yield what it has taken back."""
        whole = transaction[0]
        if match := _LEVEL.search(event.sql):
            whole.level = match[1].upper()
        control = self._statements.footprint(event.sql, event.params).control
        name = event.sql.split()[-1].strip('"`') if control else ""
        if control == "rollback to":
            while len(transaction) > 1:
                part = transaction.pop()
                yield from part.touches
                if part.name == name:
                    break
        if control in ("savepoint", "rollback to"):
            transaction.append(_Part(name=name))
        elif time is not None:
            for touch in self._touches(event, index, time):
                if whole.snapshot is None:
                    whole.snapshot = index
                if whole.level in SNAPSHOT_LEVELS and not touch.access.is_write:
                    touch = replace(touch, time=whole.snapshot)
                transaction[-1].touches.append(touch)

    def _touches(self, event: Event, index: int, time: int) -> Iterator[Touch]:
        accesses = self._statements.footprint(event.sql, event.params).accesses
        # Rows that it waited for are read again when it goes on, the others are not.
        locked = {each.table for each in accesses if each.is_write or each.lock}
        for access in accesses:
            seen = time if access.table in locked else index
            row = self._row(access)
            is_new = self._is_new(access)
            yield Touch(self._session, self._alias, index, seen, access, row, is_new)

    def _is_new(self, access: Access) -> bool:
        if access.action is Action.INSERT:
            self._made.setdefault(access.table, access.after)
            return True
        made = self._made.get(access.table)
        unknown = {column for column, values in made or () if isinstance(values, Above)}
        known = {column for column, _ in access.where}
        return (
            made is not None
            and bool(unknown & known)
            and can_meet(pins({c: v for c, v in made if c in unknown}), access.where)
        )

    def _row(self, access: Access) -> str:
        relation = self._statements.catalogue.relation(access.table)
        keys = access.keys
        values = [
            keys.get(column) for column in (relation.primary_key if relation else ())
        ]
        if not values or not all(
            isinstance(each, frozenset) and len(each) == 1 for each in values
        ):
            return ""
        return f"row {', '.join(str(next(iter(each))) for each in values)}"  # type: ignore[arg-type]

    def _end(self, index: int) -> tuple[bool, int]:
        """Return whether a step was refused, and the event at which it was through."""
        time = index
        for later in range(index + 1, len(self._history)):
            event = self._history[later]
            if event.session != self._session:
                continue
            match event.kind:
                case Kind.GOES_ON:
                    time = later
                case Kind.ERROR:
                    return True, later
                case Kind.WAITS:
                    continue
                case _:
                    break
        return False, time

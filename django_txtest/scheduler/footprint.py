"""What a statement reads, writes and locks: the rows of which tables.

Each access has a table and what is known of its rows: for some columns, the values that
they must have. Of two accesses whose rows cannot have the same values in some column,
neither sees anything of the other. Whatever is not understood is in `unknown`: such a
statement could touch everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Any, TypeAlias

from django_txtest.databases.catalogue import Catalogue, ForeignKey, Relation

#: What is listed in the place of a table for advisory locks.
ADVISORY = "(advisory locks)"


class Action(Enum):
    """What is done to rows."""

    READ = "reads"
    LOCK = "locks"
    INSERT = "inserts"
    UPDATE = "updates"
    DELETE = "deletes"


class Lock(IntEnum):
    """How strongly rows are locked, as PostgreSQL has it."""

    KEY_SHARE = 1
    SHARE = 2
    NO_KEY_UPDATE = 3
    UPDATE = 4

    def conflicts(self, other: Lock) -> bool:
        """Tell whether two sessions cannot have such locks on one row."""
        return self + other > 4


@dataclass(frozen=True)
class Above:
    """The values that a sequence has not given yet."""

    value: int


#: What a column can have: any of these, or what a sequence will give.
Values: TypeAlias = "frozenset[Any] | Above"
#: What is known of rows: the values of some columns, sorted by their names.
Pins: TypeAlias = "tuple[tuple[str, Values], ...]"


@dataclass(frozen=True)
class Access:
    """Something that a statement does to rows of one table.

    `where` is what is known of the rows that it finds, `after` of those that it leaves.
    """

    table: str
    action: Action
    where: Pins = ()
    after: Pins = ()
    #: The columns read, or written by an UPDATE; None means all.
    columns: frozenset[str] | None = None
    #: How it locks the rows, if it does.
    lock: Lock | None = None
    #: Whether it goes on without the rows, or with an error, that others have locked.
    skips_locked: bool = False
    is_nowait: bool = False
    #: Whether it is about each row that `where` tells of, and about no others.
    is_exact: bool = False
    #: Whether it looks at every row of the table.
    is_whole: bool = False
    #: The foreign key that it is done for, if the statement does not say it.
    foreign_key: ForeignKey | None = None
    #: Whether it is done at the commit.
    at_commit: bool = False

    @property
    def is_write(self) -> bool:
        """Whether it changes rows."""
        return self.action in (Action.INSERT, Action.UPDATE, Action.DELETE)

    @property
    def keys(self) -> dict[str, Values]:
        """What is known of the rows, by column."""
        return dict(self.after if self.action is Action.INSERT else self.where)

    def __str__(self) -> str:
        known = " and ".join(
            f"{column} > {values.value}"
            if isinstance(values, Above)
            else f"{column} in {sorted(values, key=repr)}"
            for column, values in self.keys.items()
        )
        lock = f" ({self.lock.name})" if self.lock else ""
        return f"{self.action.value} {self.table} where {known or 'anything'}{lock}"


@dataclass(frozen=True)
class Footprint:
    """What a statement does, in the order in which it says so."""

    accesses: tuple[Access, ...] = ()
    #: Why it could touch everything, if it could.
    unknown: str = ""
    #: What it does to the transaction: "begin", "commit", "rollback", "savepoint",
    #: "release", "rollback to", "set"; else nothing.
    control: str = ""

    @property
    def reads(self) -> tuple[Access, ...]:
        """What it finds out: every access but an INSERT has to find its rows."""
        return tuple(a for a in self.accesses if a.action is not Action.INSERT)

    @property
    def writes(self) -> tuple[Access, ...]:
        """What it changes."""
        return tuple(a for a in self.accesses if a.is_write)

    @property
    def locks(self) -> tuple[Access, ...]:
        """What it locks, and by that may wait for."""
        return tuple(a for a in self.accesses if a.lock is not None)


def pins(known: Mapping[str, Values]) -> Pins:
    """Return what is known of rows, so that it can be compared and kept."""
    return tuple(sorted(known.items()))


def can_meet(one: Pins, other: Pins) -> bool:
    """Tell whether a row can be what both say."""
    if not one or not other:
        return True
    theirs = dict(other)
    return all(
        can_be_same(values, theirs[column])
        for column, values in one
        if column in theirs
    )


def can_be_same(one: Values, other: Values) -> bool:
    """Tell whether a column can have a value of both."""
    if isinstance(one, Above):
        return isinstance(other, Above) or _reaches(one, other)
    if isinstance(other, Above):
        return _reaches(other, one)
    return not one.isdisjoint(other)


def _reaches(above: Above, values: frozenset[Any]) -> bool:
    return any(isinstance(each, int) and each > above.value for each in values)


def is_one_row(relation: Relation | None, where: Pins) -> bool:
    """Tell whether no more than one row can be meant."""
    if relation is None:
        return False
    single = {
        column
        for column, values in where
        if isinstance(values, frozenset) and len(values) == 1 and None not in values
    }
    return any(
        unique.columns and unique.is_total and single.issuperset(unique.columns)
        for unique in relation.uniques
    )


def is_of_row_locked(access: Access, other: Access, relation: Relation) -> bool:
    """Tell whether an access is of a row that another one has locked for it already.

    Where that was not there, there must still be none.
    """
    if access.action not in (Action.LOCK, Action.UPDATE) or access.lock is None:
        return False
    if other.table != access.table or other.lock is None or other.lock < access.lock:
        return False
    if access.skips_locked or access.is_nowait or writes_key(access, relation):
        return False
    if other.skips_locked or not other.is_exact:
        return False
    named = {column for column, _ in other.where}
    is_key = any(set(unique.columns) == named for unique in relation.uniques)
    is_same = set(other.where) <= set(access.where)
    return is_key and is_same and is_one_row(relation, other.where)


def writes_key(access: Access, relation: Relation) -> bool:
    """Tell whether an access may give a row another key, or make one."""
    if access.action is not Action.UPDATE:
        return access.action is Action.INSERT
    return access.columns is None or any(
        not unique.columns or not access.columns.isdisjoint(unique.columns)
        for unique in relation.uniques
    )


def with_consequences(
    accesses: Iterable[Access], catalogue: Catalogue
) -> tuple[list[Access], str]:
    """Add what foreign keys do; return also why more could happen, if it could."""
    found: list[Access] = []
    unknown = ""
    left = list(accesses)
    while left:
        access = left.pop(0)
        if access in found:
            continue
        found.append(access)
        relation = catalogue.relation(access.table)
        if access.is_write and relation is not None and relation.is_opaque:
            unknown = unknown or (
                f"writing to {access.table} does more than the statement says"
            )
        if relation is not None and relation.is_opaque_to_read:
            unknown = unknown or f"what {access.table} shows is not known"
        if access.is_write:
            left += _checks(access, catalogue)
    return found, unknown


def _checks(access: Access, catalogue: Catalogue) -> Iterable[Access]:
    for key in catalogue.foreign_keys:
        if key.table == access.table and _writes(access, key.columns):
            yield from _check_of_child(access, key)
        if key.referred_table == access.table and access.action is not Action.INSERT:
            if access.action is Action.DELETE:
                yield _on_children(access, key, key.on_delete)
            elif _writes(access, key.referred_columns):
                yield _on_children(access, key, key.on_update)


def _writes(access: Access, columns: Iterable[str]) -> bool:
    if access.action is not Action.UPDATE:
        return access.action is Action.INSERT
    return access.columns is None or not access.columns.isdisjoint(columns)


def _check_of_child(access: Access, key: ForeignKey) -> Iterable[Access]:
    after = dict(access.after)
    known: dict[str, Values] = {}
    for column, referred in zip(key.columns, key.referred_columns, strict=False):
        values = after.get(column)
        if values == frozenset({None}):
            return
        if isinstance(values, frozenset):
            known[referred] = values - {None}
    yield Access(
        key.referred_table,
        Action.LOCK,
        pins(known),
        lock=Lock.KEY_SHARE,
        columns=frozenset(key.referred_columns),
        foreign_key=key,
        at_commit=key.is_deferred,
    )


def _on_children(access: Access, key: ForeignKey, action: str) -> Access:
    where = dict(access.where)
    known = {
        column: where[referred]
        for column, referred in zip(key.columns, key.referred_columns, strict=False)
        if referred in where
    }
    columns = frozenset(key.columns)
    of_child = Access(
        key.table, Action.LOCK, pins(known), columns=columns, foreign_key=key
    )
    match action:
        case "CASCADE" if access.action is Action.DELETE:
            return replace(
                of_child, action=Action.DELETE, columns=None, lock=Lock.UPDATE
            )
        case "SET NULL":
            nulls = pins(dict.fromkeys(key.columns, frozenset({None})))
            return replace(
                of_child, action=Action.UPDATE, after=nulls, lock=Lock.UPDATE
            )
        case "CASCADE" | "SET DEFAULT":
            return replace(of_child, action=Action.UPDATE, lock=Lock.UPDATE)
    at_commit = key.is_deferred and action == "NO ACTION"
    return replace(of_child, lock=Lock.KEY_SHARE, at_commit=at_commit)

"""Which steps of different sessions can tell who was first.

Two steps depend on each other if in the other order they could do something else, or
leave something else. That is decided by what each does to what others see and wait for:

- A statement *wants* locks, and so depends on statements that want such locks on the
  same rows, and on what *frees* them: the end of a transaction, a rollback to a
  savepoint, an error.
- A plain read depends on what *publishes* rows that it would find, which is a COMMIT,
  and not on the write before.
- Where a transaction reads all from one snapshot, its first statement depends on all
  that publishes anything, and its later reads on nothing. Under SERIALIZABLE, the
  server watches what else was read and written, table by table.
- SQLite has but one lock, that of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from django_txtest.databases.catalogue import Catalogue, Relation
from django_txtest.scheduler.footprint import (
    ADVISORY,
    Above,
    Access,
    Action,
    Pins,
    can_be_same,
    can_meet,
)

#: An access in a database.
Touch = tuple[str, Access]
#: A database, a table and whether it is written; no table stands for an end.
Watch = tuple[str, "str | None", bool]


@dataclass(frozen=True, eq=False)
class Effect:
    """What a step does, as far as others can notice."""

    #: Locks that it asks for.
    wants: frozenset[Touch] = frozenset()
    #: Locks that it gives free.
    frees: frozenset[Touch] = frozenset()
    #: What it reads of what is committed at that time.
    reads: frozenset[Touch] = frozenset()
    #: The writes that others see from then on.
    publishes: frozenset[Touch] = frozenset()
    #: The databases of which all that is committed becomes what a transaction reads.
    snapshots: frozenset[str] = frozenset()
    #: What the server watches of a serializable transaction.
    watched: frozenset[Watch] = frozenset()
    #: The same, where it makes no difference who was first as long as nobody ends.
    watched_early: frozenset[Watch] = frozenset()
    #: What it does to SQLite's file: "read", "write", "commit", "end reading".
    files: frozenset[tuple[str, str]] = frozenset()
    #: Whether it may do anything.
    is_unknown: bool = False
    #: Whether it is a place where the user says that sessions may meet.
    is_checkpoint: bool = False
    #: Whether it uses a database at all.
    is_used: bool = False

    def __or__(self, other: Effect) -> Effect:
        if other is NOTHING:
            return self
        if self is NOTHING:
            return other
        return Effect(
            **{
                each.name: getattr(self, each.name) | getattr(other, each.name)
                for each in fields(self)
            }
        )


#: What a step does that only its own session notices.
NOTHING = Effect()
ANYTHING = Effect(is_unknown=True, is_used=True)

# Of two sessions, one of which does this to SQLite's file, and the other one that.
_FILE_CONFLICTS = {
    frozenset({"write"}),
    frozenset({"write", "commit"}),
    frozenset({"commit"}),
    frozenset({"read", "commit"}),
    frozenset({"end reading", "commit"}),
}


@dataclass
class Dependency:
    """Decides whether two effects depend on each other, and remembers it."""

    catalogues: Mapping[str, Catalogue] = field(default_factory=dict)
    _known: dict[tuple[Effect, Effect], bool] = field(default_factory=dict)

    def __call__(self, one: Effect, other: Effect) -> bool:
        """Tell whether steps with these effects, of two sessions, can differ."""
        if one is NOTHING or other is NOTHING:
            return False
        key = (one, other)
        if key not in self._known:
            found = self._depend(one, other)
            self._known[key] = self._known[other, one] = found
        return self._known[key]

    def _depend(self, one: Effect, other: Effect) -> bool:
        if one.is_checkpoint and other.is_checkpoint:
            return True
        if not (one.is_used and other.is_used):
            return False
        return (
            one.is_unknown
            or other.is_unknown
            or self._collide(one.wants, other.wants)
            or self._collide(one.wants, other.frees)
            or self._collide(one.frees, other.wants)
            or _see(one.reads, other.publishes)
            or _see(other.reads, one.publishes)
            or _are_cut(one.snapshots, other.publishes)
            or _are_cut(other.snapshots, one.publishes)
            or _are_watched(one.watched, other.watched | other.watched_early)
            or _are_watched(one.watched_early, other.watched)
            or any(
                mine == its and frozenset({done, doing}) in _FILE_CONFLICTS
                for mine, done in one.files
                for its, doing in other.files
            )
        )

    def _collide(self, one: Iterable[Touch], other: Iterable[Touch]) -> bool:
        return any(
            here == there
            and mine.table == its.table
            and _can_wait(mine, its, self._relation(here, mine.table))
            for here, mine in one
            for there, its in other
        )

    def _relation(self, database: str, table: str) -> Relation | None:
        return self.catalogues[database].relation(table)


def _see(reads: Iterable[Touch], writes: Iterable[Touch]) -> bool:
    return any(
        here == there and read.table == write.table and _sees(read, write)
        for here, read in reads
        for there, write in writes
    )


def _are_cut(databases: Iterable[str], writes: Iterable[Touch]) -> bool:
    return not {database for database, _ in writes}.isdisjoint(databases)


def _are_watched(one: Iterable[Watch], other: Iterable[Watch]) -> bool:
    return any(
        here == there
        and (table is None or its is None or (table == its and (write or writes)))
        for here, table, write in one
        for there, its, writes in other
    )


def _sees(read: Access, write: Access) -> bool:
    """Tell whether a read can find something else after a write is committed."""
    match write.action:
        case Action.INSERT:
            return can_meet(read.where, write.after)
        case Action.UPDATE:
            if (
                read.columns is not None
                and write.columns is not None
                and read.columns.isdisjoint(write.columns)
            ):
                return False
            return can_meet(read.where, write.where) or can_meet(
                read.where, write.after
            )
    return can_meet(read.where, write.where)


def _can_wait(one: Access, other: Access, relation: Relation | None) -> bool:
    """Tell whether one could have to wait for the other."""
    if one.lock is None or other.lock is None:
        return False
    if one.table == ADVISORY:
        return one.lock.conflicts(other.lock) and can_meet(one.where, other.where)
    match one.action, other.action:
        case Action.INSERT, Action.INSERT:
            return _can_have_one_key(one.after, other.after, relation)
        # Who has locked a row has not made it, and who makes one has not locked it.
        case (Action.INSERT, Action.LOCK) | (Action.LOCK, Action.INSERT):
            return False
        case Action.INSERT, _:
            return _takes_key_of(one, other, relation)
        case _, Action.INSERT:
            return _takes_key_of(other, one, relation)
    is_one_row = (
        can_meet(one.where, other.where)
        or (one.action is Action.UPDATE and can_meet(one.after, other.where))
        or (other.action is Action.UPDATE and can_meet(one.where, other.after))
    )
    if is_one_row and one.lock.conflicts(other.lock):
        return True
    return (
        one.action is Action.UPDATE
        and other.action is Action.UPDATE
        and _can_have_one_key(one.after, other.after, relation, one, other)
    )


def _takes_key_of(insert: Access, other: Access, relation: Relation | None) -> bool:
    return _can_have_one_key(insert.after, other.where, relation) or (
        other.action is Action.UPDATE
        and _can_have_one_key(insert.after, other.after, relation, other)
    )


def _can_have_one_key(
    one: Pins, other: Pins, relation: Relation | None, *updates: Access
) -> bool:
    """Tell whether two rows can be the same to a unique index.

    :param updates: only indexes count that all of these write to.
    """
    if relation is None:
        return True
    mine, its = dict(one), dict(other)
    for unique in relation.uniques:
        if unique.columns and any(
            update.columns is not None and update.columns.isdisjoint(unique.columns)
            for update in updates
        ):
            continue
        if all(
            column not in mine
            or column not in its
            or _can_be_same_key(mine[column], its[column])
            for column in unique.columns
        ):
            return True
    return False


def _can_be_same_key(one: object, other: object) -> bool:
    if isinstance(one, Above) and isinstance(other, Above):
        return False  # a sequence gives each value once
    return can_be_same(one, other)  # type: ignore[arg-type]

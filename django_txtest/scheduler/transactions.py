"""What statements, and the ends of transactions, do to the sessions of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from django_txtest.databases.catalogue import Catalogue
from django_txtest.history import Kind
from django_txtest.scheduler.dependency import ANYTHING, NOTHING, Effect, Touch, Watch
from django_txtest.scheduler.footprint import (
    ADVISORY,
    Access,
    Action,
    Footprint,
    is_of_row_locked,
)

BEGIN_WRITING = "begin immediately"
#: The isolation levels in which a transaction reads from one snapshot.
_SNAPSHOT = {"REPEATABLE READ", "SERIALIZABLE"}


@dataclass(frozen=True)
class Explored:
    """A database whose statements are explored.

    `name` is the same for all aliases that lead to it.
    """

    name: str
    catalogue: Catalogue
    isolation_level: str


@dataclass(frozen=True)
class Transaction:
    """What a transaction has done so far."""

    accesses: frozenset[Access] = frozenset()
    is_unknown: bool = False
    has_snapshot: bool = False
    #: By what it has locked rows, of tables whose rows stay those that they are.
    locked: frozenset[Access] = frozenset()
    #: The tables of which it has read every row.
    whole: frozenset[str] = frozenset()
    #: Whether another one has ended since, of which the server remembers what it did.
    is_late: bool = False
    #: That of the session.
    is_strict: bool = False


def of_statement(
    database: Explored,
    transaction: Transaction,
    footprint: Footprint,
    *,
    is_inside: bool,
) -> Effect:
    """Return what a statement does, but for the end of its transaction.

    :param is_inside: whether that is another step.
    """
    if database.catalogue.vendor == "sqlite":
        return _on_file(database, footprint, is_inside=is_inside)
    if footprint.unknown:
        return ANYTHING
    level = "SERIALIZABLE" if transaction.is_strict else database.isolation_level
    now = {a for a in footprint.accesses if _is_now(a, transaction, is_inside)}
    is_fresh = level not in _SNAPSHOT or not is_inside or transaction.is_strict
    takes_snapshot = is_inside and (
        transaction.is_strict or (level in _SNAPSHOT and not transaction.has_snapshot)
    )
    watched: set[Watch] = set()
    early: set[Watch] = set()
    if level == "SERIALIZABLE":
        watched = {(database.name, a.table, a.is_write) for a in now}
        if takes_snapshot:  # it is decided which transactions are at the same time
            watched.add((database.name, "", False))
    if is_inside and not (transaction.is_late or transaction.is_strict):
        # Who has read all of a table has read what others write to it, before or after.
        whole = transaction.whole | tables_read_whole(footprint)
        found = {a.table for a in now if a.action is not Action.INSERT}  # by reading
        early = {each for each in watched if each[1] not in found - whole}
    if footprint.control or not (footprint.accesses or takes_snapshot):
        return NOTHING
    wants = {a for a in now if a.lock is not None}
    # Who is the victim if its COMMIT makes a deadlock depends on who waits now.
    afterwards = transaction.accesses | set(footprint.accesses)
    if not _at_commit(database, afterwards):
        wants = {a for a in wants if not _is_locked(a, database, transaction)}
    return Effect(
        wants=_in(database, wants),
        reads=_in(database, _reads(now, is_fresh=is_fresh)),
        snapshots=frozenset({database.name} if takes_snapshot else ()),
        watched=frozenset(watched - early),
        watched_early=frozenset(early),
        is_used=True,
    )


def tables_read_whole(footprint: Footprint) -> frozenset[str]:
    """Return the tables of which a statement looks at every row."""
    return frozenset(a.table for a in footprint.accesses if a.is_whole)


def _is_locked(access: Access, database: Explored, transaction: Transaction) -> bool:
    """Tell whether its transaction has the lock already."""
    relation = database.catalogue.relation(access.table)
    return relation is not None and any(
        is_of_row_locked(access, other, relation) for other in transaction.locked
    )


def _is_now(access: Access, transaction: Transaction, is_inside: bool) -> bool:
    return not access.at_commit or not is_inside or transaction.is_strict


def _reads(accesses: Iterable[Access], *, is_fresh: bool) -> Iterable[Access]:
    """Return what reads of the present, whatever the snapshot is."""
    accesses = list(accesses)
    found = {(a.table, a.where) for a in accesses if a.action is Action.READ}
    for access in accesses:
        if access.action is Action.INSERT or access.table == ADVISORY:
            continue
        if not (is_fresh or access.foreign_key is not None):
            continue
        if access.action is Action.UPDATE:
            if (access.table, access.where) in found:
                continue
            access = replace(access, columns=None)
        yield access


def of_commit(database: Explored, transaction: Transaction, kind: Kind) -> Effect:
    """Return what is checked before a transaction is committed."""
    if kind is not Kind.COMMIT:
        return NOTHING
    if database.catalogue.vendor == "sqlite":
        # It may have to wait for those who read, and would not, before they did.
        return of_end(database, transaction, is_published=True)
    late = _at_commit(database, transaction.accesses)
    if not late:
        return NOTHING
    return Effect(
        wants=_in(database, (a for a in late if a.lock is not None)),
        reads=_in(database, _reads(late, is_fresh=True)),
        is_used=True,
    )


def _at_commit(database: Explored, accesses: Iterable[Access]) -> set[Access]:
    """Return those of which something is checked at the COMMIT."""
    late = set()
    for access in accesses:
        relation = database.catalogue.relation(access.table)
        is_late = relation is not None and any(u.is_deferred for u in relation.uniques)
        if access.at_commit or (access.is_write and is_late):
            late.add(access)
    return late


def of_end(
    database: Explored, transaction: Transaction, *, is_published: bool
) -> Effect:
    """Return what the end of a transaction does, or a rollback of its last part."""
    name = database.name
    if database.catalogue.vendor == "sqlite":
        has_written = transaction.is_unknown or any(
            a.is_write for a in transaction.accesses
        )
        done = "commit" if has_written else "end reading"
        if not (has_written or transaction.accesses):
            return NOTHING
        return Effect(files=frozenset({(name, done)}), is_used=True)
    if transaction.is_unknown:
        return ANYTHING
    if not transaction.accesses:
        return NOTHING
    is_watched = database.isolation_level == "SERIALIZABLE" or transaction.is_strict
    return Effect(
        frees=_in(database, (a for a in transaction.accesses if a.lock is not None)),
        publishes=_in(
            database, (a for a in transaction.accesses if a.is_write and is_published)
        ),
        watched=frozenset({(name, None, True)} if is_watched else ()),
        is_used=True,
    )


def _on_file(database: Explored, footprint: Footprint, *, is_inside: bool) -> Effect:
    name = database.name
    if footprint.unknown:
        return ANYTHING
    if footprint.control == BEGIN_WRITING or footprint.writes:
        done = ["write"] if is_inside else ["write", "commit"]
        files = frozenset((name, each) for each in done)
        return Effect(files=files, is_used=True)
    if footprint.accesses:
        return Effect(files=frozenset({(name, "read")}), is_used=True)
    return NOTHING


def _in(database: Explored, accesses: Iterable[Access]) -> frozenset[Touch]:
    return frozenset((database.name, access) for access in accesses)

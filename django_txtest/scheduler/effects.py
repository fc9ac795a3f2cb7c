"""What each step does to others: from its events, and what its session did before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.db import connections

from django_txtest.databases import get_database
from django_txtest.databases.catalogue import Catalogue
from django_txtest.history import Event, Kind
from django_txtest.scheduler.dependency import ANYTHING, NOTHING, Effect, Touch
from django_txtest.scheduler.footprint import ADVISORY, Access, Footprint, writes_key
from django_txtest.scheduler.statements import Statements
from django_txtest.scheduler.transactions import (
    BEGIN_WRITING,
    Explored,
    Transaction,
    of_commit,
    of_end,
    of_statement,
    tables_read_whole,
)


@dataclass(frozen=True)
class _Session:
    """What a session has done so far, as far as it matters for its next steps."""

    transactions: tuple[tuple[str, Transaction], ...] = ()
    #: Whether what a statement said may have changed what others do, and when.
    is_strict: bool = False
    #: Locks that it has until it gives them back, or ends.
    kept: frozenset[Touch] = frozenset()
    #: What it is in the middle of, as it has to wait.
    waits_in: tuple[Kind, str, Footprint, bool] | None = None

    def of(self, alias: str) -> Transaction | None:
        """Return the transaction on a database."""
        return dict(self.transactions).get(alias)

    def put(self, alias: str, transaction: Transaction | None) -> _Session:
        """Return what it is with another transaction."""
        left = dict(self.transactions)
        left.pop(alias, None)
        if transaction is not None:
            left[alias] = transaction
        return replace(self, transactions=tuple(sorted(left.items(), key=_first)))


def _first(item: tuple[str, object]) -> str:
    return item[0]


_Key = tuple[object, ...]


@dataclass
class Effects:
    """Follows the sessions of an execution, and says what each step does.

    :param databases: those explored, by their aliases.
    """

    databases: Mapping[str, Explored] = field(default_factory=dict)
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _known: dict[_Key, tuple[_Session, Effect]] = field(default_factory=dict)
    _statements: dict[str, Statements] = field(default_factory=dict)
    _footprints: dict[tuple[str, str, str], Footprint] = field(default_factory=dict)
    _merged: dict[tuple[Effect, Effect], Effect] = field(default_factory=dict)
    #: Tables of which it was taken that their rows and keys stay those that they are,
    #: and those of which that is not so; None stands for all.
    _steady: set[tuple[str, str] | None] = field(default_factory=set)
    _changing: set[tuple[str, str] | None] = field(default_factory=set)
    #: Whether that was a mistake: what was said of steps may be too little.
    was_wrong: bool = False

    def afresh(self, databases: Mapping[str, Explored]) -> Effects:
        """Return one for these databases that knows but which tables change."""
        return Effects(databases, _changing=set(self._changing))

    def begin(self) -> None:
        """Begin another execution."""
        self._sessions = {}
        if self.was_wrong:
            self._known.clear()
            self._steady.clear()
            self.was_wrong = False

    def of_step(self, events: Sequence[Event]) -> tuple[Effect, frozenset[str]]:
        """Return what a step does, and which sessions it is a step of.

        Those are who made it, and those who went on by it.

        :param events: what happened between this choice and the next.
        """
        if not events:
            return ANYTHING, frozenset()
        by_session: dict[str, list[Event]] = {}
        for event in events:
            by_session.setdefault(event.session, []).append(event)
        effect = NOTHING
        moved = set()
        for name, own in by_session.items():
            if any(event.kind is not Kind.WAITS for event in own):
                moved.add(name)
                effect = self._merge(effect, self._advance(name, own))
        if effect.is_unknown or any(table is None for _, table, _ in effect.watched):
            self._make_late()
        return effect, frozenset(moved)

    def _make_late(self) -> None:
        """Note for the transactions that have begun that one has ended."""
        for name, session in self._sessions.items():
            transactions = tuple(
                (alias, replace(each, is_late=each.has_snapshot))
                for alias, each in session.transactions
            )
            self._sessions[name] = replace(session, transactions=transactions)

    def _merge(self, one: Effect, other: Effect) -> Effect:
        # Each is one object, so that what depends on it can be remembered.
        if (one, other) not in self._merged:
            self._merged[one, other] = one | other
        return self._merged[one, other]

    def _advance(self, name: str, events: list[Event]) -> Effect:
        before = self._sessions.get(name, _Session())
        key = (before, *map(_shape, events))
        if key not in self._known:
            self._known[key] = self._follow(before, events)
        after, effect = self._known[key]
        self._sessions[name] = after
        return effect

    def _follow(
        self, session: _Session, events: Iterable[Event]
    ) -> tuple[_Session, Effect]:
        effect = NOTHING
        is_waiting = is_error = is_over = False
        for event in events:
            match event.kind:
                case Kind.STATEMENT | Kind.COMMIT | Kind.ROLLBACK:
                    session, issued = self._issue(session, event)
                    effect |= issued
                case Kind.CHECKPOINT:
                    effect |= Effect(is_checkpoint=True)
                case Kind.WAITS:
                    is_waiting = True
                case Kind.GOES_ON:
                    is_waiting = False
                case Kind.ERROR:
                    is_error = True
                case Kind.RETURNS | Kind.RAISES:
                    is_over = True
        if session.waits_in is not None and not is_waiting:
            session, completed = self._complete(session, is_error=is_error)
            effect |= completed
        if is_over:
            session, ended = self._end(session)
            effect |= ended
        return session, effect

    # Statements

    def _issue(self, session: _Session, event: Event) -> tuple[_Session, Effect]:
        """Return what it does as soon as it is sent, whether it has to wait or not."""
        kind, footprint = self._meaning(event)
        begins = footprint.control.startswith("begin")
        is_inside = event.in_transaction or begins or kind is not Kind.STATEMENT
        session = replace(session, waits_in=(kind, event.alias, footprint, is_inside))
        database = self.databases.get(event.alias)
        self._learn(database, footprint)
        if database is None:
            return session, ANYTHING
        if footprint.unknown:
            session = replace(session, is_strict=True)
        transaction = session.of(event.alias) or Transaction()
        transaction = replace(transaction, is_strict=session.is_strict)
        if kind is not Kind.STATEMENT:
            return session, of_commit(database, transaction, kind)
        effect = of_statement(database, transaction, footprint, is_inside=is_inside)
        if is_inside and not footprint.control:
            transaction = replace(
                transaction,
                accesses=transaction.accesses | frozenset(footprint.accesses),
                is_unknown=transaction.is_unknown or bool(footprint.unknown),
                has_snapshot=True,
            )
        if footprint.control == BEGIN_WRITING:
            transaction = replace(transaction, is_unknown=True)
        if is_inside:
            session = session.put(event.alias, transaction)
        kept = {
            (database.name, access)
            for access in footprint.accesses
            if access.table == ADVISORY and "session" in (access.columns or ())
        }
        return replace(session, kept=session.kept | kept), effect

    def _complete(
        self, session: _Session, *, is_error: bool
    ) -> tuple[_Session, Effect]:
        """Return what it does once it does not wait, any more."""
        assert session.waits_in is not None
        kind, alias, footprint, is_inside = session.waits_in
        session = replace(session, waits_in=None)
        database = self.databases.get(alias)
        if database is None:
            return session, ANYTHING
        transaction = session.of(alias)
        effect = NOTHING
        if kind is Kind.STATEMENT:
            before = transaction or Transaction(is_strict=session.is_strict)
            # Again, as it may be that it has only now got where others are.
            effect = of_statement(database, before, footprint, is_inside=is_inside)
            if transaction is not None and not is_error:
                transaction = replace(
                    transaction,
                    locked=transaction.locked | self._locked(database, footprint),
                    whole=transaction.whole | tables_read_whole(footprint),
                )
                session = session.put(alias, transaction)
        is_end = kind is not Kind.STATEMENT or not is_inside
        if not is_inside:
            transaction = Transaction(
                frozenset(footprint.accesses),
                bool(footprint.unknown),
                is_strict=session.is_strict,
            )
        if transaction is None:
            return session, effect
        is_undone = is_error or footprint.control == "rollback to"
        if is_end or is_undone:
            is_committed = not is_error and kind is not Kind.ROLLBACK
            effect |= of_end(
                database, transaction, is_published=is_committed and is_end
            )
            transaction = replace(transaction, locked=frozenset())
            session = session.put(alias, transaction)
        if is_end:
            session = session.put(alias, None)
        return session, effect

    def _learn(self, database: Explored | None, footprint: Footprint) -> None:
        """Take note of tables whose rows or keys a statement may change."""
        changing: set[tuple[str, str] | None] = set()
        if database is None or footprint.unknown:
            changing.add(None)
        else:
            for access in footprint.writes:
                relation = database.catalogue.relation(access.table)
                if relation is None or writes_key(access, relation):
                    changing.add((database.name, access.table))
        self._changing |= changing
        if None in changing:
            self.was_wrong |= bool(self._steady)
        self.was_wrong |= not self._steady.isdisjoint(changing)

    def _locked(self, database: Explored, footprint: Footprint) -> frozenset[Access]:
        """Return by what a statement has locked rows that there have always been."""
        if None in self._changing:
            return frozenset()
        found = {
            access
            for access in footprint.locks
            if access.is_exact and (database.name, access.table) not in self._changing
        }
        self._steady |= {(database.name, access.table) for access in found}
        return frozenset(found)

    def _end(self, session: _Session) -> tuple[_Session, Effect]:
        """Return what the end of its call does."""
        effect = NOTHING
        for alias, transaction in session.transactions:
            effect |= of_end(self.databases[alias], transaction, is_published=False)
        if session.kept:
            effect |= Effect(frees=session.kept, is_used=True)
        return _Session(), effect

    def _meaning(self, event: Event) -> tuple[Kind, Footprint]:
        if event.kind is not Kind.STATEMENT:
            return event.kind, Footprint()
        footprint = self._footprint(event)
        ends = {"commit": Kind.COMMIT, "rollback": Kind.ROLLBACK}
        return ends.get(footprint.control, event.kind), footprint

    def _footprint(self, event: Event) -> Footprint:
        key = (event.alias, event.sql, repr(event.params))
        if key not in self._footprints:
            if event.alias not in self._statements:
                catalogue = Catalogue()
                if event.alias in self.databases:
                    catalogue = self.databases[event.alias].catalogue
                self._statements[event.alias] = Statements(catalogue)
            statements = self._statements[event.alias]
            self._footprints[key] = statements.footprint(event.sql, event.params)
        return self._footprints[key]


def _shape(event: Event) -> _Key:
    if event.kind is not Kind.STATEMENT:
        return event.kind, event.alias
    params = repr(event.params)
    return event.kind, event.alias, event.sql, params, event.in_transaction


def explored(
    aliases: Sequence[str], isolation_level: str | None
) -> dict[str, Explored]:
    """Ask the databases for what decides which steps depend on each other.

    :param isolation_level: that of all transactions, if it was said.
    """
    found: dict[object, Explored] = {}
    by_alias = {}
    for alias in aliases:
        database = get_database(connections[alias])
        identity = database.identity()
        if identity not in found:
            catalogue = database.catalogue()
            level = isolation_level or catalogue.isolation_level
            level = level.upper().replace("_", " ")
            found[identity] = Explored(alias, catalogue, level)
        by_alias[alias] = found[identity]
    return by_alias

"""Finds the footprints of statements: SQL, parsed once for each text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlglot
from sqlglot import exp

from django_txtest.databases.catalogue import Catalogue, Relation, comparable, plain
from django_txtest.scheduler.footprint import (
    ADVISORY,
    Above,
    Access,
    Action,
    Footprint,
    Lock,
    Values,
    is_one_row,
    pins,
    with_consequences,
)
from django_txtest.scheduler.sql import (
    NotUnderstood,
    Terms,
    by_default,
    conditions_of,
    equality,
    is_in_any_order,
    locks_of,
    not_known,
    sources_of,
    value_of,
    values_of_row,
    with_names,
)

#: Of more rows in one INSERT, it is not asked what each has.
MAX_ROWS = 100

_COMMENT = re.compile(r"^\s*(/\*.*?\*/\s*)+", re.DOTALL)
_QUERY = re.compile(
    r"\s*[(]*\s*(SELECT|INSERT|UPDATE|DELETE|WITH|VALUES)\b", re.IGNORECASE
)
_CALL = re.compile(r'([A-Za-z_][A-Za-z0-9_$]*)"?\s*\(')
_CONTROL = {
    "BEGIN": "begin",
    "START": "begin",
    "COMMIT": "commit",
    "END": "commit",
    "ROLLBACK": "rollback",
    "ABORT": "rollback",
    "SAVEPOINT": "savepoint",
    "RELEASE": "release",
    "SHOW": "set",
}
# After BEGIN, in SQLite.
_TAKES_LOCK = {"IMMEDIATE", "EXCLUSIVE"}
# What may be set, and changes nothing of what statements mean.
_HARMLESS = re.compile(
    r"\s*SET\s+(SESSION\s+|LOCAL\s+)?(lock_timeout|statement_timeout|time\s*zone|"
    r"deadlock_timeout|application_name|work_mem|idle_in_transaction_session_timeout)\b",
    re.IGNORECASE,
)
_ADVISORY = re.compile(r"pg_(try_)?advisory_(xact_)?(un)?lock(_shared|_all)?")
_SYSTEM_COLUMNS = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"}


@dataclass(frozen=True)
class _Template:
    """An access of a statement whose parameters are not known yet."""

    access: Access
    where: Terms
    after: Terms
    #: Whether it makes no difference which of the rows comes first.
    in_any_order: bool = True


class Statements:
    """The footprints of the statements that are made in one database."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._parsed: dict[tuple[str, bool], list[_Template] | Footprint] = {}

    def footprint(self, sql: str, params: Any = None) -> Footprint:
        """Return what a statement does.

        :param params: as a cursor takes them; a list of such for `executemany`.
        """
        key = (sql, params is not None)
        if key not in self._parsed:
            self._parsed[key] = self._parse(*key)
        parsed = self._parsed[key]
        if isinstance(parsed, Footprint):
            return parsed
        accesses: list[Access] = []
        for each in _each(params, sql):
            accesses += [self._bind(template, each) for template in parsed]
        found, unknown = with_consequences(accesses, self.catalogue)
        return Footprint(tuple(found), unknown)

    def _parse(self, sql: str, has_params: bool) -> list[_Template] | Footprint:
        sql = _COMMENT.sub("", sql)
        control = _control(sql)
        if control is not None:
            return control
        if _QUERY.match(sql) is None:
            return Footprint(unknown=f"{sql.split(None, 1)[0]} is not understood")
        called = {name.lower() for name in _CALL.findall(sql)}
        impure = {
            name
            for name in called & self.catalogue.impure
            if _ADVISORY.fullmatch(name) is None
        }
        if impure:
            return Footprint(unknown=f"it calls {' and '.join(sorted(impure))}()")
        if has_params:
            sql = with_names(sql)
        dialect = {"postgresql": "postgres"}.get(
            self.catalogue.vendor, self.catalogue.vendor
        )
        try:
            parsed = sqlglot.parse(sql, dialect=dialect or None)
            if len(parsed) != 1 or parsed[0] is None:
                return Footprint(unknown="it is more than one statement")
            return _Reader(parsed[0], self.catalogue).templates()
        # Whatever it is that a parser trips over, it is no error of the user's.
        except Exception as error:  # noqa: BLE001
            lines = str(error).splitlines() or [type(error).__name__]
            return Footprint(unknown=f"its SQL is not understood: {lines[0]}")

    def _bind(self, template: _Template, params: Any) -> Access:
        relation = self.catalogue.relation(template.access.table)
        where = _bind(template.where, params, relation)
        after = _bind(template.after, params, relation)
        access = template.access
        match access.action:
            case Action.INSERT if relation is not None:
                for column, value in relation.sequences.items():
                    if column not in template.after:
                        after[column] = Above(value)
            case Action.UPDATE:
                written = access.columns
                kept = {
                    column: values
                    for column, values in where.items()
                    if written is not None and column not in written
                }
                after = {**kept, **after}
            case Action.READ | Action.LOCK if access.columns is not None:
                # Which rows come first depends on what is in others, too.
                if not template.in_any_order and not is_one_row(relation, pins(where)):
                    access = replace(access, columns=None)
        return replace(access, where=pins(where), after=pins(after))


class _Reader:
    """Finds the accesses of one parsed statement."""

    def __init__(self, statement: Any, catalogue: Catalogue) -> None:
        self._statement = statement
        self._catalogue = catalogue
        self._named = {
            plain(each.alias_or_name) for each in statement.find_all(exp.CTE)
        }

    def templates(self) -> list[_Template]:
        """Return what it does.

        :raises NotUnderstood: if that cannot be said.
        """
        found = list(self._templates())
        tables = {each.access.table for each in found} | self._named
        for each in self._statement.find_all(exp.Table):
            is_name = isinstance(each.this, exp.Identifier)
            if is_name and not isinstance(each.parent, exp.Lock):
                relation = self._catalogue.relation(plain(each.name))
                if plain(each.name) not in tables and not (relation and relation.shows):
                    raise NotUnderstood(f"what it does to {each.name}")
        return found

    def _templates(self) -> Iterator[_Template]:
        for node in self._statement.walk():
            node = node[0] if isinstance(node, tuple) else node
            match node:
                case exp.Select():
                    yield from self._select(node)
                case exp.Insert():
                    yield from self._insert(node)
                case exp.Update():
                    yield from self._update(node)
                case exp.Delete():
                    yield from self._delete(node)
                case exp.Command() | exp.Create() | exp.Drop() | exp.Merge():
                    raise NotUnderstood(type(node).__name__)
                case exp.Into():
                    raise NotUnderstood("INTO")
                case exp.Anonymous() if _ADVISORY.fullmatch(node.name.lower()):
                    yield self._advisory(node)

    # The kinds of statements

    def _select(self, select: Any) -> Iterator[_Template]:
        sources = list(self._sources(select))
        conditions = list(conditions_of(select))
        aggregated = is_in_any_order(select)
        locked, lock, wait = locks_of(select)
        if locked is not None and any(
            isinstance(each, exp.Subquery) for each in sources_of(select)
        ):
            raise NotUnderstood("a lock on the rows of a subquery")
        for alias, table in sources:
            columns = self._columns_read(alias, table)
            where = self._terms(conditions, alias, table, len(sources))
            is_locked = locked is not None and (not locked or alias in locked)
            access = Access(
                table,
                Action.LOCK if is_locked else Action.READ,
                columns=columns,
                lock=lock if is_locked else None,
                skips_locked=is_locked and wait is False,
                is_nowait=is_locked and wait is True,
            )
            yield from self._shown(_Template(access, where, {}, aggregated))

    def _insert(self, insert: Any) -> Iterator[_Template]:
        target = insert.this
        names: list[str] | None = None
        if isinstance(target, exp.Schema):
            names = [plain(each.name) for each in target.expressions]
            target = target.this
        if not isinstance(target, exp.Table):
            raise NotUnderstood("INSERT into what is no table")
        table = self._table(target)
        if names is None and table in self._catalogue.relations:
            names = list(self._catalogue.relations[table].columns)
        rows: Sequence[Terms] = [{}]
        values = insert.args.get("expression")
        if isinstance(values, exp.Values) and names is not None:
            rows = [values_of_row(names, each) for each in values.expressions]
        if len(rows) > MAX_ROWS:
            rows = [{}]
        access = Access(table, Action.INSERT, lock=Lock.UPDATE)
        # None of its columns is known to be left out, where it is not known which.
        named = names if names is not None else list(self._columns_of(table))
        for row in rows:
            after = {**dict.fromkeys(named, (not_known,)), **row}
            after = {c: terms for c, terms in after.items() if terms != (by_default,)}
            yield _Template(access, {}, after)
        conflict = insert.args.get("conflict")
        if conflict is not None:
            yield from self._conflict(table, conflict, rows)

    def _conflict(
        self, table: str, conflict: Any, rows: Sequence[Terms]
    ) -> Iterator[_Template]:
        keys = [
            plain(name.name)
            for each in conflict.args.get("conflict_keys") or ()
            for name in each.find_all(exp.Identifier)
        ]
        written = {
            plain(each.this.name)
            for each in conflict.expressions
            if isinstance(each, exp.EQ)
        }
        for row in rows:
            where = {column: row[column] for column in keys if column in row}
            access = Access(
                table,
                Action.UPDATE if written else Action.READ,
                columns=self._with_generated(table, written) if written else None,
                lock=Lock.UPDATE if written else None,
            )
            yield _Template(access, where, {})

    def _update(self, update: Any) -> Iterator[_Template]:
        table = self._table(update.this)
        alias = plain(update.this.alias_or_name)
        others = list(self._sources(update))
        conditions = list(conditions_of(update))
        after: Terms = {}
        written: set[str] = set()
        for each in update.expressions:
            if not isinstance(each, exp.EQ) or not isinstance(each.this, exp.Column):
                raise NotUnderstood("a SET of more than one column")
            column = plain(each.this.name)
            written.add(column)
            after[column] = (value_of(each.expression) or not_known,)
        columns = self._with_generated(table, written)
        access = Access(
            table,
            Action.UPDATE,
            columns=columns,
            lock=self._lock_of_update(table, columns),
        )
        where = self._terms(conditions, alias, table, len(others) + 1)
        yield _Template(access, where, after)
        read = self._columns_read(alias, table)
        yield _Template(Access(table, Action.READ, columns=read), where, {})
        yield from self._others(others, conditions)

    def _delete(self, delete: Any) -> Iterator[_Template]:
        table = self._table(delete.this)
        alias = plain(delete.this.alias_or_name)
        others = list(self._sources(delete))
        conditions = list(conditions_of(delete))
        where = self._terms(conditions, alias, table, len(others) + 1)
        yield _Template(Access(table, Action.DELETE, lock=Lock.UPDATE), where, {})
        yield from self._others(others, conditions)

    def _others(
        self, sources: Sequence[tuple[str, str]], conditions: Sequence[Any]
    ) -> Iterator[_Template]:
        for alias, table in sources:
            where = self._terms(conditions, alias, table, len(sources) + 1)
            yield from self._shown(_Template(Access(table, Action.READ), where, {}))

    def _advisory(self, call: Any) -> _Template:
        name = call.name.lower()
        terms = tuple(value_of(each) or not_known for each in call.expressions)
        shared = name.endswith("_shared")
        access = Access(
            ADVISORY,
            Action.LOCK,
            lock=Lock.SHARE if shared and "unlock" not in name else Lock.UPDATE,
            is_nowait="_try_" in name,
            columns=frozenset({"xact" if "_xact_" in name else "session"}),
        )
        where: Terms = {"key": (terms[0],)} if len(terms) == 1 else {}
        return _Template(access, where, {})

    # What they are about

    def _table(self, table: Any) -> str:
        if not isinstance(table, exp.Table) or not table.name:
            raise NotUnderstood("what is written to is no table")
        return plain(table.name)

    def _sources(self, node: Any) -> Iterator[tuple[str, str]]:
        """Yield the alias and the name of each table that a statement reads."""
        for each in sources_of(node):
            if isinstance(each, exp.Table) and isinstance(each.this, exp.Identifier):
                name = plain(each.name)
                if name not in self._named or each.args.get("db"):
                    yield plain(each.alias_or_name), name
            elif isinstance(each, exp.Paren):
                raise NotUnderstood("a join in parentheses")

    def _shown(self, template: _Template) -> Iterator[_Template]:
        """Yield reads of the tables that a view shows, or of the table."""
        left, seen = [template.access.table], set()
        while left:
            name = left.pop()
            if name in seen:
                continue
            seen.add(name)
            relation = self._catalogue.relation(name)
            if relation is None or relation.shows is None:
                if name == template.access.table:
                    yield template
                else:
                    shown = replace(template.access, table=name, columns=None)
                    yield _Template(shown, {}, {})
                continue
            if relation.is_opaque_to_read:
                yield _Template(replace(template.access, table=name), {}, {})
            left += relation.shows

    def _columns_of(self, table: str) -> Iterable[str]:
        relation = self._catalogue.relation(table)
        return () if relation is None else relation.columns

    def _columns_read(self, alias: str, table: str) -> frozenset[str] | None:
        """Return the columns of a table that are named anywhere in the statement."""
        known = set(self._columns_of(table))
        found: set[str] = set()
        for star in self._statement.find_all(exp.Star):
            if not isinstance(star.parent, exp.Count):
                return None
        for join in self._statement.find_all(exp.Join):
            if join.args.get("using") or join.args.get("method"):
                return None
        for column in self._statement.find_all(exp.Column):
            name, of = plain(column.name), plain(column.table)
            if name in _SYSTEM_COLUMNS or (not of and name == alias):
                return None
            if of == alias or (not of and (name in known or not known)):
                found.add(name)
        return frozenset(found)

    def _with_generated(self, table: str, written: set[str]) -> frozenset[str]:
        relation = self._catalogue.relation(table)
        return frozenset(written) | (relation.generated if relation else frozenset())

    def _lock_of_update(self, table: str, columns: frozenset[str]) -> Lock:
        relation = self._catalogue.relation(table)
        if relation is None:
            return Lock.UPDATE
        for unique in relation.uniques:
            if not unique.columns or not columns.isdisjoint(unique.columns):
                return Lock.UPDATE
        return Lock.NO_KEY_UPDATE

    def _terms(
        self, conditions: Iterable[Any], alias: str, table: str, sources: int
    ) -> Terms:
        """Return what conditions that must all hold say of the columns of a table."""
        known: Terms = {}
        for each in conditions:
            found = equality(each)
            if found is None:
                continue
            column, terms = found
            name, of = plain(column.name), plain(column.table)
            is_mine = of == alias or (not of and sources == 1)
            if not of and sources > 1:
                is_mine = False
            if is_mine and name not in known:
                known[name] = terms
        return known


def _control(sql: str) -> Footprint | None:
    words = sql.split(None, 3)
    first = words[0].upper().rstrip(";") if words else ""
    if first == "BEGIN" and len(words) > 1 and words[1].upper() in _TAKES_LOCK:
        return Footprint(control="begin immediately")
    if first == "ROLLBACK" and " TO " in f"{sql.upper()} ":
        return Footprint(control="rollback to")
    if first in _CONTROL:
        return Footprint(control=_CONTROL[first])
    if first == "SET":
        if _HARMLESS.match(sql):
            return Footprint(control="set")
        return Footprint(unknown="SET may change what other statements do")
    if not first:
        return Footprint()
    return None


def _each(params: Any, sql: str) -> Iterable[Any]:
    """Return the parameters of each time that a statement is made."""
    is_many = (
        isinstance(params, Sequence)
        and not isinstance(params, (str, bytes))
        and bool(params)
        and all(isinstance(each, (list, tuple, Mapping)) for each in params)
    )
    # A list of lists may also be parameters that are arrays.
    if not is_many or sql.count("%s") == len(params):
        return [params]
    return params if len(params) <= MAX_ROWS else [None]


def _bind(terms: Terms, params: Any, relation: Relation | None) -> dict[str, Values]:
    kinds = {} if relation is None else relation.columns
    bound: dict[str, Values] = {}
    for column, of_column in terms.items():
        kind = "integer" if column == "key" and relation is None else kinds.get(column)
        try:
            values: set[Any] = set()
            for term in of_column:
                found = term(params)
                several = found if isinstance(found, frozenset) else (found,)
                values.update(comparable(kind or "", each) for each in several)
        except (ValueError, TypeError, LookupError):
            continue
        bound[column] = frozenset(values)
    return bound

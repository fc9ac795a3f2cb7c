"""Finds what one parsed statement reads, writes and locks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from django_txtest.databases.catalogue import Catalogue, plain
from django_txtest.scheduler.footprint import ADVISORY, Access, Action, Lock
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
)

#: Of more rows in one INSERT, it is not asked what each has.
MAX_ROWS = 100
#: The functions that take advisory locks, or give them back.
ADVISORY_CALL = re.compile(r"pg_(try_)?advisory_(xact_)?(un)?lock(_shared|_all)?")

_SYSTEM_COLUMNS = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"}


@dataclass(frozen=True)
class Template:
    """An access of a statement whose parameters are not known yet."""

    access: Access
    where: Terms
    after: Terms
    #: Whether it makes no difference which of the rows comes first.
    in_any_order: bool = True


class Reader:
    """Finds the accesses of one parsed statement."""

    def __init__(self, statement: Any, catalogue: Catalogue) -> None:
        self._statement = statement
        self._catalogue = catalogue
        self._named = {
            plain(each.alias_or_name) for each in statement.find_all(exp.CTE)
        }

    def templates(self) -> list[Template]:
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

    def _templates(self) -> Iterator[Template]:
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
                case exp.Anonymous() if ADVISORY_CALL.fullmatch(node.name.lower()):
                    yield self._advisory(node)

    # The kinds of statements

    def _select(self, select: Any) -> Iterator[Template]:
        sources = list(self._sources(select))
        conditions = list(conditions_of(select))
        aggregated = is_in_any_order(select)
        locked, lock, wait = locks_of(select)
        is_whole = locked is None and self._looks_at_all(select, sources)
        if locked is not None and any(
            isinstance(each, exp.Subquery) for each in sources_of(select)
        ):
            raise NotUnderstood("a lock on the rows of a subquery")
        for alias, table in sources:
            columns = self._columns_read(alias, table)
            where = self._terms(conditions, alias, table, len(sources))
            is_exact = self._is_exact(select, where, conditions)
            is_locked = locked is not None and (not locked or alias in locked)
            access = Access(
                table,
                Action.LOCK if is_locked else Action.READ,
                columns=columns,
                lock=lock if is_locked else None,
                skips_locked=is_locked and wait is False,
                is_nowait=is_locked and wait is True,
                is_exact=is_exact,
                is_whole=is_whole,
            )
            yield from self._shown(Template(access, where, {}, aggregated))

    def _insert(self, insert: Any) -> Iterator[Template]:
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
            yield Template(access, {}, after)
        conflict = insert.args.get("conflict")
        if conflict is not None:
            yield from self._conflict(table, conflict, rows)

    def _conflict(
        self, table: str, conflict: Any, rows: Sequence[Terms]
    ) -> Iterator[Template]:
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
            yield Template(access, where, {})

    def _update(self, update: Any) -> Iterator[Template]:
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
        where = self._terms(conditions, alias, table, len(others) + 1)
        access = Access(
            table,
            Action.UPDATE,
            columns=columns,
            lock=self._lock_of_update(table, columns),
            is_exact=self._is_exact(update, where, conditions),
        )
        yield Template(access, where, after)
        read = self._columns_read(alias, table)
        yield Template(Access(table, Action.READ, columns=read), where, {})
        yield from self._others(others, conditions)

    def _delete(self, delete: Any) -> Iterator[Template]:
        table = self._table(delete.this)
        alias = plain(delete.this.alias_or_name)
        others = list(self._sources(delete))
        conditions = list(conditions_of(delete))
        where = self._terms(conditions, alias, table, len(others) + 1)
        yield Template(Access(table, Action.DELETE, lock=Lock.UPDATE), where, {})
        yield from self._others(others, conditions)

    def _others(
        self, sources: Sequence[tuple[str, str]], conditions: Sequence[Any]
    ) -> Iterator[Template]:
        for alias, table in sources:
            where = self._terms(conditions, alias, table, len(sources) + 1)
            yield from self._shown(Template(Access(table, Action.READ), where, {}))

    def _advisory(self, call: Any) -> Template:
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
        return Template(access, where, {})

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

    def _shown(self, template: Template) -> Iterator[Template]:
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
                    yield Template(shown, {}, {})
                continue
            if relation.is_opaque_to_read:
                yield Template(replace(template.access, table=name), {}, {})
            left += relation.shows

    def _is_exact(self, node: Any, where: Terms, conditions: Sequence[Any]) -> bool:
        """Tell whether a statement has no conditions but those on its one table."""
        others = (exp.Subquery, exp.Join, exp.Offset, exp.Fetch, exp.TableSample)
        limit = node.args.get("limit")
        return (
            node is self._statement
            and len(where) == len(conditions)
            and len(list(node.find_all(exp.Table))) == 1
            and len(list(node.find_all(exp.Select))) <= 1
            and node.find(*others) is None
            and (limit is None or limit.expression.name.strip("0").isdecimal())
        )

    def _looks_at_all(self, select: Any, sources: Sequence[tuple[str, str]]) -> bool:
        """Tell whether the server has to look at every row: nothing leads to some."""
        if select is not self._statement or len(sources) != 1:
            return False
        others = (exp.Subquery, exp.Join, exp.Limit, exp.Fetch, exp.TableSample)
        queries = list(select.find_all(exp.Select, exp.Table))
        if len(queries) > 2 or select.find(*others) is not None:
            return False
        relation = self._catalogue.relation(sources[0][1])
        if relation is None or relation.indexed is None or relation.shows is not None:
            return False
        # To the least or the greatest value of a column, an index leads, too.
        asked = {
            plain(column.name)
            for column in select.find_all(exp.Column)
            if column.find_ancestor(exp.Where, exp.AggFunc) is not None
        }
        return asked.isdisjoint(relation.indexed)

    def _columns_of(self, table: str) -> Iterable[str]:
        relation = self._catalogue.relation(table)
        return () if relation is None else relation.columns

    def _columns_read(self, alias: str, table: str) -> frozenset[str] | None:
        """Return the columns of a table that are named, but for what is only set."""
        known = set(self._columns_of(table))
        found: set[str] = set()
        for star in self._statement.find_all(exp.Star):
            if not isinstance(star.parent, exp.Count):
                return None
        for join in self._statement.find_all(exp.Join):
            if join.args.get("using") or join.args.get("method"):
                return None
        is_update = isinstance(self._statement, exp.Update)
        changes = self._statement.expressions if is_update else ()
        targets = [change.this for change in changes]
        for column in self._statement.find_all(exp.Column):
            if any(column is target for target in targets):
                continue
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

"""Finds the footprints of statements: SQL, parsed once for each text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

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

#: Of more rows in one INSERT, it is not asked what each has.
MAX_ROWS = 100

_PLACEHOLDER = re.compile(r"%(?:\((?P<name>[^)]*)\))?(?P<kind>[sbt%])")
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

#: Finds a value among the parameters; raises ValueError where nothing is known of it.
_Value: TypeAlias = Callable[[Any], Any]
#: For a column, the values that it may have, once there are parameters.
_Terms: TypeAlias = "dict[str, tuple[_Value, ...]]"


@dataclass(frozen=True)
class _Template:
    """An access of a statement whose parameters are not known yet."""

    access: Access
    where: _Terms
    after: _Terms
    #: Whether it makes no difference which of the rows comes first.
    in_any_order: bool = True


class Statements:
    """The footprints of the statements that are made in one database."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._parsed: dict[str, list[_Template] | Footprint] = {}

    def footprint(self, sql: str, params: Any = None) -> Footprint:
        """Return what a statement does.

        :param params: as a cursor takes them; a list of such for `executemany`.
        """
        if sql not in self._parsed:
            self._parsed[sql] = self._parse(sql, has_params=params is not None)
        parsed = self._parsed[sql]
        if isinstance(parsed, Footprint):
            return parsed
        accesses: list[Access] = []
        for each in _each(params, sql):
            accesses += [self._bind(template, each) for template in parsed]
        found, unknown = with_consequences(accesses, self.catalogue)
        return Footprint(tuple(found), unknown)

    def _parse(self, sql: str, *, has_params: bool) -> list[_Template] | Footprint:
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
            sql = _with_names(sql)
        dialect = {"postgresql": "postgres"}.get(
            self.catalogue.vendor, self.catalogue.vendor
        )
        try:
            parsed = sqlglot.parse(sql, dialect=dialect or None)
            if len(parsed) != 1 or parsed[0] is None:
                return Footprint(unknown="it is more than one statement")
            return _Reader(parsed[0], self.catalogue).templates()
        except (sqlglot.errors.SqlglotError, _NotUnderstood, RecursionError) as error:
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


class _NotUnderstood(Exception):
    pass


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

        :raises _NotUnderstood: if that cannot be said.
        """
        found = list(self._templates())
        tables = {each.access.table for each in found} | self._named
        for each in self._statement.find_all(exp.Table):
            is_name = isinstance(each.this, exp.Identifier)
            if is_name and not isinstance(each.parent, exp.Lock):
                relation = self._catalogue.relation(plain(each.name))
                if plain(each.name) not in tables and not (relation and relation.shows):
                    raise _NotUnderstood(f"what it does to {each.name}")
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
                    raise _NotUnderstood(type(node).__name__)
                case exp.Into():
                    raise _NotUnderstood("INTO")
                case exp.Anonymous() if _ADVISORY.fullmatch(node.name.lower()):
                    yield self._advisory(node)

    # The kinds of statements

    def _select(self, select: Any) -> Iterator[_Template]:
        sources = list(self._sources(select))
        conditions = list(_conditions(select))
        aggregated = _is_aggregated(select)
        locked, lock, wait = _locks_of(select)
        if locked is not None and any(
            isinstance(each, exp.Subquery) for each in _from(select)
        ):
            raise _NotUnderstood("a lock on the rows of a subquery")
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
            raise _NotUnderstood("INSERT into what is no table")
        table = self._table(target)
        if names is None and table in self._catalogue.relations:
            names = list(self._catalogue.relations[table].columns)
        rows: Sequence[_Terms] = [{}]
        values = insert.args.get("expression")
        if isinstance(values, exp.Values) and names is not None:
            rows = [_row(names, each) for each in values.expressions]
        if len(rows) > MAX_ROWS:
            rows = [{}]
        access = Access(table, Action.INSERT, lock=Lock.UPDATE)
        # None of its columns is known to be left out, where it is not known which.
        unknown = names if names is not None else list(self._columns_of(table))
        for row in rows:
            after = {**dict.fromkeys(unknown, (_unknown,)), **row}
            after = {c: terms for c, terms in after.items() if terms != (_default,)}
            yield _Template(access, {}, after)
        conflict = insert.args.get("conflict")
        if conflict is not None:
            yield from self._conflict(table, conflict, rows)

    def _conflict(
        self, table: str, conflict: Any, rows: Sequence[_Terms]
    ) -> Iterator[_Template]:
        keys = [
            plain(column.name)
            for each in conflict.args.get("conflict_keys") or ()
            for column in each.find_all(exp.Column)
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
        conditions = list(_conditions(update))
        after: _Terms = {}
        written: set[str] = set()
        for each in update.expressions:
            if not isinstance(each, exp.EQ) or not isinstance(each.this, exp.Column):
                raise _NotUnderstood("a SET of more than one column")
            column = plain(each.this.name)
            written.add(column)
            after[column] = (_value_of(each.expression) or _unknown,)
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
        conditions = list(_conditions(delete))
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
        terms = tuple(_value_of(each) or _unknown for each in call.expressions)
        shared = name.endswith("_shared")
        access = Access(
            ADVISORY,
            Action.LOCK,
            lock=Lock.SHARE if shared and "unlock" not in name else Lock.UPDATE,
            is_nowait="_try_" in name,
            columns=frozenset({"xact" if "_xact_" in name else "session"}),
        )
        where: _Terms = {"key": (terms[0],)} if len(terms) == 1 else {}
        return _Template(access, where, {})

    # What they are about

    def _table(self, table: Any) -> str:
        if not isinstance(table, exp.Table) or not table.name:
            raise _NotUnderstood("what is written to is no table")
        return plain(table.name)

    def _sources(self, node: Any) -> Iterator[tuple[str, str]]:
        """Yield the alias and the name of each table that a statement reads."""
        for each in _from(node):
            if isinstance(each, exp.Table) and isinstance(each.this, exp.Identifier):
                name = plain(each.name)
                if name not in self._named or each.args.get("db"):
                    yield plain(each.alias_or_name), name
            elif isinstance(each, exp.Paren):
                raise _NotUnderstood("a join in parentheses")

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
    ) -> _Terms:
        """Return what conditions that must all hold say of the columns of a table."""
        known: _Terms = {}
        for each in conditions:
            found = _equality(each)
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


# SQL


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


def _from(node: Any) -> Iterator[Any]:
    """Yield what a statement reads from, in all versions of sqlglot."""
    for name in ("from_", "from"):
        clause = node.args.get(name)
        if clause is not None:
            yield from _joined(clause.this)
    using = node.args.get("using")
    for each in using if isinstance(using, list) else ():
        yield from _joined(each)
    for join in node.args.get("joins") or ():
        yield from _joined(join.this)


def _joined(source: Any) -> Iterator[Any]:
    yield source
    for join in source.args.get("joins") or ():
        yield from _joined(join.this)


def _conditions(node: Any) -> Iterator[Any]:
    """Yield conditions that hold for all rows that make a difference."""
    where = node.args.get("where")
    if where is not None:
        yield from _parts(where.this)
    for join in node.args.get("joins") or ():
        is_inner = not join.args.get("side") and join.args.get("kind") in (
            None,
            "",
            "INNER",
            "CROSS",
        )
        if is_inner and join.args.get("on") is not None:
            yield from _parts(join.args["on"])


def _parts(condition: Any) -> Iterator[Any]:
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        yield from _parts(condition.left)
        yield from _parts(condition.right)
    else:
        yield condition


def _equality(condition: Any) -> tuple[Any, tuple[_Value, ...]] | None:
    """Return a column and the values that it must have one of, if it is so simple."""
    match condition:
        case exp.EQ():
            pairs = [
                (condition.left, condition.right),
                (condition.right, condition.left),
            ]
            for left, right in pairs:
                column = left.unnest()
                if not isinstance(column, exp.Column):
                    continue
                if isinstance(right, exp.Any):
                    values = _value_of(right.this)
                    return (column, (_all_of(values),)) if values else None
                value = _value_of(right)
                if value is not None:
                    return column, (value,)
        case exp.In() if condition.args.get("query") is None:
            column = condition.this.unnest()
            terms = [_value_of(each) for each in condition.expressions]
            known = tuple(each for each in terms if each is not None)
            if isinstance(column, exp.Column) and known and len(known) == len(terms):
                return column, known
        case exp.Is() if isinstance(condition.expression, exp.Null):
            column = condition.this.unnest()
            if isinstance(column, exp.Column):
                return column, (lambda params: None,)
        case exp.Column():  # a condition by itself: a boolean
            return condition, (lambda params: True,)
        case exp.Not() if isinstance(condition.this.unnest(), exp.Column):
            return condition.this.unnest(), (lambda params: False,)
    return None


def _value_of(node: Any) -> _Value | None:
    """Return what finds the value of an expression that is a constant."""
    node = node.unnest()
    if isinstance(node, exp.Cast):
        # To which type makes no difference, once the value is one of the column's.
        if node.to.expressions and not node.to.args.get("nested"):
            return None
        return _value_of(node.this)
    match node:
        case exp.Null():
            return lambda params: None
        case exp.Boolean():
            boolean = bool(node.this)
            return lambda params: boolean
        case exp.Literal():
            literal = node.this if node.is_string else _number(node.this)
            return None if literal is None else lambda params: literal
        case exp.Neg() if isinstance(node.this, exp.Literal) and node.this.is_number:
            number = _number(node.this.this)
            return None if number is None else lambda params: -number
        case exp.Placeholder() if node.name:
            name = node.name
            return lambda params: _param(params, name)
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _param(params: Any, name: str) -> Any:
    if isinstance(params, Mapping):
        return params[name]
    return params[int(name.removeprefix(_PREFIX))]


def _all_of(values: _Value) -> _Value:
    return lambda params: frozenset(values(params))


def _unknown(params: Any) -> Any:
    raise ValueError("it is not known")


def _default(params: Any) -> Any:
    raise ValueError("it is the default")


def _row(names: Sequence[str], row: Any) -> _Terms:
    values = row.expressions if isinstance(row, exp.Tuple) else [row.unnest()]
    terms: _Terms = {}
    for name, value in zip(names, values, strict=False):
        is_default = isinstance(value, exp.Var) and value.name.upper() == "DEFAULT"
        terms[name] = (_default if is_default else _value_of(value) or _unknown,)
    return terms


def _is_aggregated(select: Any) -> bool:
    """Tell whether it makes no difference in which order the rows come."""
    if select.args.get("group") or select.args.get("distinct"):
        return False
    commutative = (exp.Count, exp.Sum, exp.Max, exp.Min, exp.Avg)
    for each in select.expressions:
        for column in each.find_all(exp.Column, exp.Star):
            if column.find_ancestor(*commutative) is None:
                return False
    limit = select.args.get("limit")
    outer = select.parent
    is_constant = all(not each.find(exp.AggFunc) for each in select.expressions)
    return outer is None and (limit is None or is_constant)


def _locks_of(select: Any) -> tuple[set[str] | None, Lock | None, bool | None]:
    locks = select.args.get("locks") or ()
    if not locks:
        return None, None, None
    if len(locks) > 1:
        raise _NotUnderstood("two kinds of locks")
    [lock] = locks
    of = {plain(each.alias_or_name) for each in lock.expressions}
    if "key" not in lock.arg_types:  # an old version of the parser
        raise _NotUnderstood("how it locks")
    match bool(lock.args.get("update")), bool(lock.args.get("key")):
        case True, False:
            strength = Lock.UPDATE
        case True, True:
            strength = Lock.NO_KEY_UPDATE
        case False, False:
            strength = Lock.SHARE
        case _:
            strength = Lock.KEY_SHARE
    return of, strength, lock.args.get("wait")


# Parameters

_PREFIX = "txtest_"


def _with_names(sql: str) -> str:
    """Return SQL with names in the place of the drivers' placeholders."""
    count = 0

    def name(match: re.Match[str]) -> str:
        nonlocal count
        if match["kind"] == "%":
            return "%"
        if match["name"] is not None:
            return f":{match['name']}"
        count += 1
        return f":{_PREFIX}{count - 1}"

    return _PLACEHOLDER.sub(name, sql)


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


def _bind(terms: _Terms, params: Any, relation: Relation | None) -> dict[str, Values]:
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

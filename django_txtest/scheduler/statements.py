"""Finds the footprints of statements: SQL, parsed once for each text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlglot

from django_txtest.databases.catalogue import Catalogue, Relation, comparable
from django_txtest.scheduler.footprint import (
    Above,
    Access,
    Action,
    Footprint,
    Values,
    is_one_row,
    pins,
    with_consequences,
)
from django_txtest.scheduler.reading import ADVISORY_CALL, MAX_ROWS, Reader, Template
from django_txtest.scheduler.sql import Terms, with_names

_COMMENT = re.compile(r"^\s*(/\*.*?\*/\s*)+", re.DOTALL)
_QUERY = re.compile(
    r"\s*[(]*\s*(SELECT|INSERT|UPDATE|DELETE|WITH|VALUES)\b", re.IGNORECASE
)
# Of PostgreSQL: what shows what the server and its sessions are doing.
_SERVER = re.compile(r"\bpg_(locks|cursors|sequences|stat\w*|prepared_\w+)\b")
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


class Statements:
    """The footprints of the statements that are made in one database."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._parsed: dict[tuple[str, bool], list[Template] | Footprint] = {}

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

    def _parse(self, sql: str, has_params: bool) -> list[Template] | Footprint:
        sql = _COMMENT.sub("", sql)
        control = _control(sql)
        if control is not None:
            return control
        if _QUERY.match(sql) is None:
            return Footprint(unknown=f"{sql.split(None, 1)[0]} is not understood")
        if _SERVER.search(sql):
            return Footprint(unknown="it looks at what the server is doing")
        called = {name.lower() for name in _CALL.findall(sql)}
        impure = {
            name
            for name in called & self.catalogue.impure
            if ADVISORY_CALL.fullmatch(name) is None
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
            return Reader(parsed[0], self.catalogue).templates()
        # Whatever it is that a parser trips over, it is no error of the user's.
        except Exception as error:  # noqa: BLE001
            lines = str(error).splitlines() or [type(error).__name__]
            return Footprint(unknown=f"its SQL is not understood: {lines[0]}")

    def _bind(self, template: Template, params: Any) -> Access:
        relation = self.catalogue.relation(template.access.table)
        where = _bind(template.where, params, relation)
        after = _bind(template.after, params, relation)
        access = template.access
        if len(where) < len(template.where):
            access = replace(access, is_exact=False)
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

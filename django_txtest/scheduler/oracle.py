"""Serial equivalence: whether an execution could as well have gone one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import permutations
from math import isnan
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, models
from django.http import HttpResponseBase

from django_txtest.exceptions import CallError
from django_txtest.outcomes import Results
from django_txtest.scheduler.calls import shown
from django_txtest.scheduler.keys import (
    Columns,
    NewKeys,
    columns_of_models,
    is_made_up,
    is_time,
    plain_name,
    table_of,
)
from django_txtest.scheduler.start import Rows, Start, TableKey

#: With more there are too many serial orders.
MAX_SERIAL = 6
#: How many of them are made again.
_RECHECKED = 6
#: How many differences a message tells of.
_TOLD = 10
#: How deep results are compared.
_DEPTH = 10


@dataclass(frozen=True)
class Final:
    """What an execution came to: its results, and the rows that it left."""

    results: Results
    rows: dict[TableKey, Rows]


@dataclass(frozen=True)
class Comparison:
    """A serial order, by the names of its sessions, and what differs from it."""

    order: str
    differences: tuple[str, ...]

    @property
    def told(self) -> str:
        """The differences, as lines."""
        lines = [f"  {each}" for each in self.differences[:_TOLD]]
        left = len(self.differences) - _TOLD
        return "\n".join(lines + [f"  and {left} more"] * (left > 0))


class SerialOracle:
    """Knows what each serial order of the calls comes to.

    :param run: makes an execution in which the sessions of these numbers, and no
        others, go one by one.
    """

    def __init__(
        self,
        start: Start,
        names: Sequence[str],
        run: Callable[[Sequence[int]], Final],
        ignore: Collection[str] = (),
        allow: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._start = start
        self._names = names
        self._run = run
        self._ignore = frozenset(ignore)
        self._allow = allow
        self._models = columns_of_models()
        #: Most executions come to one of a few things.
        self._known: dict[bytes, str | None] = {}
        self._serial: dict[frozenset[int], list[tuple[tuple[int, ...], Final]]] = {}

    def final(self, results: Results) -> Final:
        """Return what the execution came to that was made last, and put all back."""
        return Final(results, self._start.finish())

    def prepare(self) -> None:
        """Make every serial order of all calls."""
        self._orders(frozenset(range(len(self._names))))

    def recheck(self) -> str | None:
        """Make some serial orders again; return what they now come to that differs."""
        everybody = frozenset(range(len(self._names)))
        for order, before in self._orders(everybody)[:_RECHECKED]:
            differences = self._differences(self._run(order), before, everybody)
            if differences:
                return differences[0]
        return None

    def doubt(self) -> str:
        """Say so if no call ever did anything but raise what is not allowed."""
        everybody = frozenset(range(len(self._names)))
        finals = [final for _, final in self._serial.get(everybody, ())]
        if not finals or not all(
            isinstance(result, CallError) and not self._is_allowed(result)
            for final in finals
            for result in final.results
        ):
            return ""
        told = [
            f"{name} {_told(result)}"
            for name, result in zip(self._names, finals[0].results, strict=True)
        ]
        return (
            f"Every call raises in every serial order: {', '.join(told)}. So there was "
            f"little to explore. If that is meant, name the exceptions in allow=."
        )

    def problem(self, final: Final) -> str | None:
        """Say how a final state differs from those of all serial orders, if it does."""
        plain = repr((self._plain(list(final.results), None), final.rows))
        fingerprint = sha256(plain.encode("utf-8", "replace")).digest()
        if fingerprint not in self._known:
            self._known[fingerprint] = self._problem(final)
        return self._known[fingerprint]

    def nearest(
        self, final: Final, is_wanted: Callable[[Sequence[int]], bool] | None = None
    ) -> Comparison | None:
        """Return the serial order that a final state differs least from.

        Of the calls that raised what is allowed, it takes that they were not made.

        :param is_wanted: tells of a serial order whether to look at it.
        """
        made = frozenset(
            number
            for number, result in enumerate(final.results)
            if not self._is_allowed(result)
        )
        nearest: Comparison | None = None
        for order, serial in self._orders(made):
            if is_wanted is not None and not is_wanted(order):
                continue
            differences = self._differences(final, serial, made)
            if nearest is None or len(differences) < len(nearest.differences):
                nearest = Comparison(self.order_told(order), tuple(differences))
            if not differences:
                break
        return nearest

    def difference(self, final: Final, other: Final) -> str | None:
        """Return one thing in which two executions of all calls differ, or None."""
        everybody = frozenset(range(len(self._names)))
        return next(iter(self._differences(final, other, everybody)), None)

    def order_told(self, order: Sequence[int]) -> str:
        """Return the names of the sessions, in this order."""
        return ", then ".join(self._names[number] for number in order) or "nothing"

    def _problem(self, final: Final) -> str | None:
        nearest = self.nearest(final)
        assert nearest is not None
        if not nearest.differences:
            return None
        return (
            f"No serial order of the calls gives these results and rows. What is "
            f"different after {nearest.order}:\n{nearest.told}"
        )

    def _is_allowed(self, result: Any) -> bool:
        return isinstance(result, CallError) and isinstance(
            result.original, self._allow
        )

    def _orders(self, made: frozenset[int]) -> list[tuple[tuple[int, ...], Final]]:
        if made not in self._serial:
            self._serial[made] = [
                (order, self._run(order)) for order in permutations(sorted(made))
            ]
        return self._serial[made]

    # Comparing

    def _differences(
        self,
        final: Final,
        serial: Final,
        made: frozenset[int],
    ) -> list[str]:
        tables = sorted(final.rows.keys() | serial.rows.keys())
        has_others = any(a != DEFAULT_DB_ALIAS for a, _ in self._start.tables)
        mine, its = (self._all_rows(each, tables) for each in (final, serial))
        start = {key: self._dicts(key, self._start.rows(key)) for key in tables}
        my_keys = NewKeys(mine, start, self._models)
        its_keys = NewKeys(its, start, self._models)
        differences = []
        for number in sorted(made):
            result = final.results[number]
            other = serial.results[sorted(made).index(number)]
            if not self._same_result(result, my_keys, other, its_keys):
                told, other_told = self._told_results(result, other)
                differences.append(
                    f"{self._names[number]} {told}; there it {other_told}"
                )
        for key in tables:
            table = plain_name(key[1])
            my_rows = Counter(my_keys.renamed(table, row) for row in mine[key])
            its_rows = Counter(its_keys.renamed(table, row) for row in its[key])
            if my_rows != its_rows:
                more = [r for r in mine[key] if _take(its_rows, my_keys, table, r)]
                left = Counter(my_keys.renamed(table, row) for row in mine[key])
                less = [r for r in its[key] if _take(left, its_keys, table, r)]
                key_column = self._models.get(table, Columns()).key
                name = f"[{key[0]}] {table}" if has_others else table
                differences += _told_rows(name, key_column, more, less)
        return differences

    def _all_rows(
        self, final: Final, tables: Iterable[TableKey]
    ) -> dict[TableKey, list[dict[str, Any]]]:
        return {
            key: self._dicts(
                key, final.rows[key] if key in final.rows else self._start.rows(key)
            )
            for key in tables
        }

    def _dicts(self, key: TableKey, rows: Rows) -> list[dict[str, Any]]:
        table = plain_name(key[1])
        columns = self._start.tables[key].columns
        kept = [
            (index, column)
            for index, column in enumerate(columns)
            if not self._is_ignored(table, column)
        ]
        return [{column: row[index] for index, column in kept} for row in rows]

    def _is_ignored(self, table: str, column: str) -> bool:
        columns = self._models.get(table)
        return (
            column in self._ignore
            or f"{table}.{column}" in self._ignore
            or (columns is not None and column in columns.times)
        )

    def _same_result(
        self, mine: Any, my_keys: NewKeys, other: Any, its_keys: NewKeys
    ) -> bool:
        is_same = self._plain(mine, None) == self._plain(other, None) or (
            self._plain(mine, my_keys) == self._plain(other, its_keys)
        )
        return bool(is_same)

    def _plain(self, value: Any, keys: NewKeys | None, depth: int = 0) -> Any:
        """Return what can be compared: no two objects of one kind are the same."""
        if depth > _DEPTH:  # it may be that an object has itself
            return type(value)

        def again(value: Any) -> Any:
            return self._plain(value, keys, depth + 1)

        match value:
            case CallError():
                return "error", again(value.original)
            case Error():  # its text may have keys and numbers of sessions
                return "error", type(value)
            case BaseException():
                return "error", type(value), again(value.args)
            case models.Model():
                return type(value), self._plain_fields(value, keys)
            case models.QuerySet():
                return again(list(value))
            case HttpResponseBase():
                content = getattr(value, "content", None)
                return "response", value.status_code, content
            case dict():
                return {
                    again(key) if isinstance(key, (int, str)) else key: again(each)
                    for key, each in value.items()
                }
            case list() | tuple():
                return type(value), [again(each) for each in value]
            case float() if isnan(value):  # which is not equal to itself
                return "nan"
            case bool() | float() | None:
                return value
        if keys is not None and isinstance(value, (int, str)):
            return keys.name(value)
        if getattr(type(value), "__eq__", None) is not object.__eq__:
            return value
        # Else two of them are never equal.
        is_plain = hasattr(value, "__dict__") and not callable(value)
        return type(value), again(vars(value)) if is_plain else None

    def _told_results(self, mine: Any, other: Any) -> tuple[str, str]:
        """Say what two results are, and where both look alike, what is in them."""
        told, other_told = _told(mine), _told(other)
        parts, other_parts = self._parts(mine), self._parts(other)
        if told == other_told:
            different = [name for name in parts if parts[name] != other_parts.get(name)]
            for name in different[:_TOLD]:
                told += f" {name}={shown(parts[name])}"
                other_told += f" {name}={shown(other_parts.get(name))}"
        if _has_same_items(mine, other):
            other_told += " (only the order differs; order_by() would say it)"
        return told, other_told

    def _parts(self, result: Any) -> dict[str, Any]:
        match result:
            case models.Model():
                return dict(self._plain_fields(result, None))
            case HttpResponseBase():
                return {"content": getattr(result, "content", None)}
        return {}

    def _plain_fields(self, instance: models.Model, keys: NewKeys | None) -> Any:
        plain = []
        fields: Any = instance._meta.concrete_fields
        for each in fields:
            table = table_of(each.model)
            if is_time(each) or self._is_ignored(table, each.column):
                continue
            value = instance.__dict__.get(each.attname)
            if keys is not None:
                reference = self._models[table].references.get(each.column)
                if each.primary_key and is_made_up(each):
                    value = keys.name(value, [table])
                elif reference:
                    value = keys.name(value, [reference])
            plain.append((each.column, self._plain(value, None)))
        return plain


def _has_same_items(mine: Any, other: Any) -> bool:
    is_list = isinstance(mine, list) and isinstance(other, list)
    return is_list and sorted(map(repr, mine)) == sorted(map(repr, other))


def _take(
    rows: Counter[Any], keys: NewKeys, table: str, row: Mapping[str, Any]
) -> bool:
    """Take a row out; return whether it is not there."""
    renamed = keys.renamed(table, row)
    if rows[renamed] > 0:
        rows[renamed] -= 1
        return False
    return True


def _told(result: Any) -> str:
    if isinstance(result, CallError):
        lines = str(result.original).strip().splitlines()
        text = f": {lines[0]}" if lines else ""
        return f"raises {type(result.original).__name__}{text}"
    return f"returns {shown(result)}"


def _told_rows(
    table: str,
    key: str | None,
    more: list[dict[str, Any]],
    less: list[dict[str, Any]],
) -> list[str]:
    told = []
    # Where rows are in the file differs from execution to execution.
    more, less = sorted(more, key=_row), sorted(less, key=_row)
    for row in list(more):
        twin = next((r for r in less if key and r.get(key) == row.get(key)), None)
        if twin is None or key is None:
            continue
        more.remove(row)
        less.remove(twin)
        told += [
            f"{table} {key}={row[key]}: {column} is {_value(value)}; there it is "
            f"{_value(twin[column])}"
            for column, value in row.items()
            if value != twin[column]
        ]
    told += [f"{table} has this row, and has it not there: {_row(r)}" for r in more]
    told += [f"{table} has not this row, and has it there: {_row(r)}" for r in less]
    return told


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{column}={_value(value)}" for column, value in row.items())


def _value(value: Any) -> str:
    # PostgreSQL gives the text of everything.
    is_number = isinstance(value, str) and value.lstrip("-").replace(".", "").isdigit()
    return str(value) if is_number else repr(value)

"""What parsed SQL says, in terms of sqlglot's trees, whichever version made them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlglot import exp

from django_txtest.databases.catalogue import plain
from django_txtest.scheduler.footprint import Lock

_PLACEHOLDER = re.compile(r"%(?:\((?P<name>[^)]*)\))?(?P<kind>[sbt%])")
_PREFIX = "txtest_"

#: Finds a value among the parameters; raises ValueError where nothing is known of it.
Value: TypeAlias = Callable[[Any], Any]
#: For a column, the values that it may have, once there are parameters.
Terms: TypeAlias = "dict[str, tuple[Value, ...]]"


class NotUnderstood(Exception):
    """A statement is more than can be understood."""


def with_names(sql: str) -> str:
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


def sources_of(node: Any) -> Iterator[Any]:
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


def conditions_of(node: Any) -> Iterator[Any]:
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


def equality(condition: Any) -> tuple[Any, tuple[Value, ...]] | None:
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
                    values = value_of(right.this)
                    return (column, (_all_of(values),)) if values else None
                value = value_of(right)
                if value is not None:
                    return column, (value,)
        case exp.In() if condition.args.get("query") is None:
            column = condition.this.unnest()
            terms = [value_of(each) for each in condition.expressions]
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


def value_of(node: Any) -> Value | None:
    """Return what finds the value of an expression that is a constant."""
    node = node.unnest()
    if isinstance(node, exp.Cast):
        # To which type makes no difference, once the value is one of the column's.
        if node.to.expressions and not node.to.args.get("nested"):
            return None
        return value_of(node.this)
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


def _all_of(values: Value) -> Value:
    return lambda params: frozenset(values(params))


def not_known(params: Any) -> Any:
    """Be the value of what is no constant."""
    raise ValueError("it is not known")


def by_default(params: Any) -> Any:
    """Be the value of DEFAULT."""
    raise ValueError("it is the default")


def values_of_row(names: Sequence[str], row: Any) -> Terms:
    """Return what a row of VALUES has in each column."""
    values = row.expressions if isinstance(row, exp.Tuple) else [row.unnest()]
    terms: Terms = {}
    for name, value in zip(names, values, strict=False):
        is_default = isinstance(value, exp.Var) and value.name.upper() == "DEFAULT"
        terms[name] = (by_default if is_default else value_of(value) or not_known,)
    return terms


def is_in_any_order(select: Any) -> bool:
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


def locks_of(select: Any) -> tuple[set[str] | None, Lock | None, bool | None]:
    """Return the aliases whose rows are locked, how, and whether it waits.

    No aliases mean all. It may wait (None), fail (True) or skip rows (False).

    :raises NotUnderstood: if it locks in more than one way.
    """
    locks = select.args.get("locks") or ()
    if not locks:
        return None, None, None
    if len(locks) > 1:
        raise NotUnderstood("two kinds of locks")
    [lock] = locks
    of = {plain(each.alias_or_name) for each in lock.expressions}
    if "key" not in lock.arg_types:  # an old version of the parser
        raise NotUnderstood("how it locks")
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

"""Says in one line what mends a failure, where its pattern is known."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Collection, Sequence

from django_txtest.databases import sqlstate
from django_txtest.exceptions import CallError
from django_txtest.history import Event, History, Place
from django_txtest.outcomes import Results
from django_txtest.scheduler.accesses import Touch
from django_txtest.scheduler.anomalies import Anomaly, DependencyKind

_CREATORS = ("get_or_create(", "update_or_create(")
# No rows come of these that could be locked.
_AGGREGATES = ("COUNT(", "SUM(", "MAX(", "MIN(", "AVG(", "GROUP BY", "DISTINCT")

_ORDER = (
    "Let every call lock its rows in one order, as by order_by('pk'), or retry the "
    "transaction on SQLSTATE 40P01."
)
_RETRY = "Retry the whole transaction on SQLSTATE 40001."
_SERIALIZE = (
    "Make each call one transaction at the isolation level SERIALIZABLE, and retry it "
    "on SQLSTATE 40001."
)


def hint_of(
    history: History,
    results: Results,
    anomaly: Anomaly | None,
    vendors: Collection[str],
) -> str:
    """Return what to change, in one line, or nothing where it is not known."""
    if anomaly is None:
        return _hint_of_errors(results)
    reads = [
        each.before for each in anomaly.cycle if each.kind is DependencyKind.READ_WRITE
    ]
    events = [history[read.index] for read in reads]
    writes = [history[touch.index] for touch in _writes(anomaly)]
    match anomaly.code:
        case "P4":
            return _counting(anomaly, writes) or _locking(events[:1], vendors)
        case "G2-item":
            return _locking(events, vendors)
        case "G2":
            return _constraint(reads, events) or _serializing(vendors)
        case "G-single" | "PMP" if len(writes) == 1 or writes[0].in_transaction:
            return _snapshot(anomaly, vendors)
        case _:
            return _atomic(writes)


def _hint_of_errors(results: Results) -> str:
    errors = [each.original for each in results if isinstance(each, CallError)]
    codes = [sqlstate(error) for error in errors]
    if "40P01" in codes:
        return _ORDER
    return _RETRY if "40001" in codes else ""


def _writes(anomaly: Anomaly) -> list[Touch]:
    touches = [t for each in anomaly.cycle for t in (each.before, each.after)]
    return [touch for touch in touches if touch.access.is_write]


def _counting(anomaly: Anomaly, writes: Sequence[Event]) -> str:
    """Return the hint for what is read only to be counted up or down."""
    places = [event.place for event in writes if event.place]
    found = [_counted(place) for place in places]
    if not found or not all(found) or len(set(found)) > 1:
        return ""
    return (
        f"Let the database do the arithmetic: F({found[0]!r}) in the place of the "
        f"value that was read, at {_joined(places)}."
    )


def _counted(place: Place) -> str:
    """Return the attribute that a function does nothing with but to add to it."""
    function = _function(place)
    if function is None:
        return ""
    counted = {
        node.target.attr
        for node in ast.walk(function)
        if isinstance(node, ast.AugAssign)
        and isinstance(node.op, ast.Add | ast.Sub)
        and isinstance(node.target, ast.Attribute)
    }
    uses = [
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr in counted
    ]
    return uses[0] if len(uses) == 1 else ""


def _function(place: Place) -> ast.AST | None:
    try:
        module = ast.parse("".join(linecache.getlines(place.file)))
    except (SyntaxError, ValueError):
        return None
    found = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= place.line <= (node.end_lineno or 0)
    ]
    return max(found, key=lambda node: node.lineno, default=None)


def _locking(reads: Sequence[Event], vendors: Collection[str]) -> str:
    if "sqlite" in vendors:  # it has no locks on rows
        return ""
    if any(word in event.sql.upper() for event in reads for word in _AGGREGATES):
        return _serializing(vendors)
    places = [event.place for event in reads if event.place]
    if not places:
        return ""
    within = (
        ""
        if all(event.in_transaction for event in reads)
        else (", and hold the lock to the end: within transaction.atomic()")
    )
    return f"Lock what is read, by select_for_update(), at {_joined(places)}{within}."


def _constraint(reads: Sequence[Touch], events: Sequence[Event]) -> str:
    """Return the hint for what is created where it was not found."""
    for read, event in zip(reads, events, strict=True):
        place = event.place
        line = linecache.getline(place.file, place.line) if place else ""
        if any(name in line for name in _CREATORS):
            columns = ", ".join(read.access.keys) or f"what is looked up at {place}"
            return f"Have a unique constraint on {columns} of {read.access.table}."
    return ""


def _serializing(vendors: Collection[str]) -> str:
    return "" if "sqlite" in vendors else _SERIALIZE


def _snapshot(anomaly: Anomaly, vendors: Collection[str]) -> str:
    [missed] = [e for e in anomaly.cycle if e.kind is DependencyKind.READ_WRITE]
    reader = missed.before.session
    if "sqlite" in vendors or any(t.session == reader for t in _writes(anomaly)):
        return ""
    return (
        f"Let {reader} read within one transaction at the isolation level REPEATABLE "
        f"READ, which shows it the rows of one moment."
    )


def _atomic(writes: Sequence[Event]) -> str:
    names = sorted({event.session for event in writes if not event.in_transaction})
    if not names:
        return ""
    return f"Make what {' and '.join(names)} does one transaction.atomic()."


def _joined(places: Sequence[Place]) -> str:
    return " and at ".join(dict.fromkeys(map(str, places)))

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
from django_txtest.scheduler.footprint import Action

_CREATORS = ("get_or_create(", "update_or_create(")
# No rows come of these that could be locked.
_AGGREGATES = ("COUNT(", "SUM(", "MAX(", "MIN(", "AVG(", "GROUP BY", "DISTINCT")

_WRITES = ("INSERT", "UPDATE", "DELETE")

_ORDER = (
    "Let every call lock its rows in one order, as by order_by('pk'), or retry the "
    "transaction on SQLSTATE 40P01."
)
_BEGIN_WRITING = (
    'Let transactions take the lock when they begin: {"transaction_mode": "IMMEDIATE"} '
    "in the OPTIONS of the database."
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
        return _hint_of_errors(results, vendors)
    reads = [
        each.before for each in anomaly.cycle if each.kind is DependencyKind.READ_WRITE
    ]
    events = [history[read.index] for read in reads]
    touches = _writes(anomaly)
    writes = [history[touch.index] for touch in touches]
    match anomaly.code:
        case "P4":
            # What an UPDATE reads, it locks by itself.
            reads = [r for r in reads if not history[r.index].sql.startswith(_WRITES)]
            events = [history[read.index] for read in reads]
            return _counting(touches, writes) or _locking(
                reads, events, touches, vendors
            )
        case "G2-item":
            return _locking(reads, events, touches, vendors)
        case "G2":
            return _constraint(reads, events) or _serializing(vendors)
        case "G-single" | "PMP" if len(writes) == 1 or writes[0].in_transaction:
            return _snapshot(anomaly, history, vendors)
        case _:
            return _atomic(writes)


def _hint_of_errors(results: Results, vendors: Collection[str]) -> str:
    errors = [each.original for each in results if isinstance(each, CallError)]
    codes = [sqlstate(error) for error in errors]
    if "40P01" in codes:
        return _ORDER
    if "sqlite" in vendors and any("database is locked" in str(e) for e in errors):
        return _BEGIN_WRITING
    return _RETRY if "40001" in codes else ""


def _writes(anomaly: Anomaly) -> list[Touch]:
    touches = [t for each in anomaly.cycle for t in (each.before, each.after)]
    return [touch for touch in touches if touch.access.is_write]


def _counting(touches: Sequence[Touch], writes: Sequence[Event]) -> str:
    """Return the hint for what is read only to be counted up or down."""
    places = [event.place for event in writes if event.place]
    found = [_counted(place) for place in places]
    if not found or not all(found) or len(set(found)) > 1:
        return ""
    # The function may count something else, which is in no database.
    if not all(found[0] in (touch.access.columns or ()) for touch in touches):
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


def _locking(
    reads: Sequence[Touch],
    events: Sequence[Event],
    writes: Sequence[Touch],
    vendors: Collection[str],
) -> str:
    if "sqlite" in vendors:  # it has no locks on rows
        return ""
    if any(word in event.sql.upper() for event in events for word in _AGGREGATES):
        return _serializing(vendors)
    if not events or any(event.sql.startswith(_WRITES) for event in events):
        return _serializing(vendors)  # of a DELETE there may be no rows to lock
    places = [event.place for event in events if event.place]
    if not places:
        return ""
    if all(read.access.action is Action.LOCK for read in reads):
        return (
            f"Hold the lock that is taken at {_joined(places)} until the write is "
            f"made: do both within one transaction.atomic()."
        )
    is_held = all(
        event.in_transaction and read.commit == write.commit
        for read, event in zip(reads, events, strict=True)
        for write in writes
        if write.session == read.session
    )
    within = (
        "" if is_held else ", and hold the lock to the end: within transaction.atomic()"
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


def _snapshot(anomaly: Anomaly, history: History, vendors: Collection[str]) -> str:
    [missed] = [e for e in anomaly.cycle if e.kind is DependencyKind.READ_WRITE]
    reader = missed.before.session
    if "sqlite" in vendors:
        return ""
    if any(
        event.session == reader and event.sql.startswith(_WRITES) for event in history
    ):
        return _serializing(vendors)  # one snapshot would refuse what it writes
    return (
        f"Let {reader} read within one transaction at the isolation level REPEATABLE "
        f"READ, which shows it the rows of one moment."
    )


def _atomic(writes: Sequence[Event]) -> str:
    names = sorted({event.session for event in writes if not event.in_transaction})
    if not names:
        return ""
    if len(names) > 1:
        return f"Make what each of {' and '.join(names)} does one transaction.atomic()."
    return f"Make what {names[0]} does one transaction.atomic()."


def _joined(places: Sequence[Place]) -> str:
    return " and at ".join(dict.fromkeys(map(str, places)))

"""Sees each statement before it is executed, at the levels "sql" and "db".

A wrapper is put around what each connection executes, by the signal that Django sends
when one is opened; that is done here, and nowhere else. At the level "orm" it does
nothing but ask for the level. It does not see what goes past Django's cursors: the
driver's own connection and cursors, `callproc`, and the `copy` of psycopg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connections
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_txtest.databases import get_database, text_of
from django_txtest.exceptions import ReadOnlyViolation
from django_txtest.maintenance import in_maintenance
from django_txtest.readonly.hooks import is_resetting_sequences
from django_txtest.readonly.levels import Level
from django_txtest.readonly.policy import deepest_level


def install_guard() -> None:
    """Guard the connections that are opened from now on, and those that are open."""
    connection_created.connect(_guard, dispatch_uid="django_txtest.readonly")
    for connection in connections.all(initialized_only=True):
        _guard(connection)


def _guard(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if connection.alias == NO_DB_ALIAS:
        return  # to the server, to make databases: no table of the project is there
    if guard_statement not in connection.execute_wrappers:
        # The first is the outermost: what is refused, no other wrapper sees.
        connection.execute_wrappers.insert(0, guard_statement)


def guard_statement(
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Execute the statement, unless it may write to what is read-only.

    :raises ReadOnlyViolation: in that case.
    """
    connection: BaseDatabaseWrapper = context["connection"]
    level = deepest_level(connection.vendor)
    if level is Level.ORM or in_maintenance():
        return execute(sql, params, many, context)
    # Only who uses these levels needs sqlglot in memory.
    from django_txtest.readonly.statements import analyse

    text = text_of(sql, connection)
    effects = analyse(text, connection.vendor, has_params=params is not None)
    if level is Level.SQL and not effects.writes and not effects.calls:
        return execute(sql, params, many, context)
    from django_txtest.readonly import targets

    calls = _writing_calls(connection, effects)
    violation = targets.violation_of(effects, calls, text, connection)
    if violation is not None:
        if is_resetting_sequences():
            return execute(sql, params, many, context)
        raise violation
    if targets.is_for_database(effects, connection.alias, level):
        with _refusals_of_database(connection, effects.operation):
            return execute(sql, params, many, context)
    return execute(sql, params, many, context)


@contextmanager
def _refusals_of_database(
    connection: BaseDatabaseWrapper, operation: str
) -> Iterator[None]:
    """Have the database refuse every write, and say it as we do."""
    from django_txtest.readonly.targets import reason_of_database

    database = get_database(connection)
    try:
        with database.refusing_writes():
            yield
    except DatabaseError as error:
        if database.is_refusal(error):
            setting = reason_of_database(connection.alias)
            raise ReadOnlyViolation(
                None, operation or "A statement", connection.alias, setting
            ) from error
        raise


# For each connection, which functions write, as far as somebody asked.
_functions: WeakKeyDictionary[BaseDatabaseWrapper, dict[str, bool]] = (
    WeakKeyDictionary()
)


def _writing_calls(connection: BaseDatabaseWrapper, effects: Any) -> list[str]:
    """Return the functions in a statement that may write to any table."""
    if effects.operation in ("CREATE", "ALTER", "DROP"):
        _functions.pop(connection, None)  # it may be a function
    if not effects.calls:
        return []
    known = _functions.setdefault(connection, {})
    new = effects.calls - known.keys()
    if new:
        try:
            with connection.wrap_database_errors:
                writing = get_database(connection).writing_functions(new)
        except DatabaseError:  # of a transaction that an error has ended already
            return []
        known.update((name, name in writing) for name in new)
    return [name for name in sorted(effects.calls) if known[name]]

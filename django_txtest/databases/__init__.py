"""What we know of each database vendor, behind one registry."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import Error, connections

from django_txtest.databases.access import (
    allowed_aliases,
    is_rolled_back,
    refuse_other_databases,
    running_test_class,
)
from django_txtest.databases.base import (
    Database,
    SessionInfo,
    Table,
    text_of,
    without_pool,
)
from django_txtest.databases.clones import Clones, cloned, get_clones, renew_clone
from django_txtest.databases.errors import sqlstate
from django_txtest.databases.mysql import MySQL, MySQLTable
from django_txtest.databases.postgresql import PostgreSQL
from django_txtest.databases.sqlite import SQLite

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Clones",
    "Database",
    "MySQL",
    "MySQLTable",
    "PostgreSQL",
    "SQLite",
    "SessionInfo",
    "Table",
    "allowed_aliases",
    "cloned",
    "close_connections",
    "end_connection",
    "get_clones",
    "get_database",
    "is_rolled_back",
    "leave_pools",
    "refuse_other_databases",
    "renew_clone",
    "running_test_class",
    "sqlstate",
    "text_of",
]

_VENDORS: dict[str, type[Database]] = {
    "mysql": MySQL,
    "postgresql": PostgreSQL,
    "sqlite": SQLite,
}


def get_database(connection: BaseDatabaseWrapper) -> Database:
    """Return what we know of the database that `connection` leads to."""
    return _VENDORS.get(connection.vendor, Database)(connection)


def end_connection(connection: BaseDatabaseWrapper) -> None:
    """End what a connection of another thread is doing, and close it.

    If the thread is still alive and uses it again, Django opens it anew.
    """
    if connection.connection is None:
        return
    connection.inc_thread_sharing()
    try:
        with (
            suppress(Error),
            connection.wrap_database_errors,
            get_database(connection).second_connection() as other,
        ):
            other.end_session_of(connection)
        with suppress(Exception):  # of what a test may have made of it
            connection.close()
    finally:
        connection.dec_thread_sharing()


def close_connections() -> None:
    """Close all connections of this thread; what cannot be closed is left."""
    for connection in connections.all(initialized_only=True):
        with suppress(Exception):  # one of another thread, or what a test made of it
            connection.close()


def leave_pools(aliases: Iterable[str]) -> None:
    """Give this thread connections that are in no pool, where there are pools.

    Calls that all connect before any begins would wait for each other there.
    """
    for alias in aliases:
        if connections[alias].settings_dict["OPTIONS"].get("pool"):
            connections[alias] = without_pool(connections[alias])

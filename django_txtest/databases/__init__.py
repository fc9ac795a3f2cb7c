"""What we know of each database vendor, behind one registry."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import Error

from django_txtest.databases.access import (
    allowed_aliases,
    is_rolled_back,
    refuse_other_databases,
    running_test_class,
)
from django_txtest.databases.base import Database, SessionInfo, Table
from django_txtest.databases.mysql import MySQL, MySQLTable
from django_txtest.databases.postgresql import PostgreSQL
from django_txtest.databases.sqlite import SQLite

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Database",
    "MySQL",
    "MySQLTable",
    "PostgreSQL",
    "SQLite",
    "SessionInfo",
    "Table",
    "allowed_aliases",
    "end_connection",
    "get_database",
    "is_rolled_back",
    "refuse_other_databases",
    "running_test_class",
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
        with suppress(Error):
            connection.close()
    finally:
        connection.dec_thread_sharing()

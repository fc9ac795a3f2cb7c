"""What we know of each database vendor, behind one registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db import connections

from django_txtest.databases.access import allowed_aliases, refuse_other_databases
from django_txtest.databases.base import Database, SessionInfo, Table
from django_txtest.databases.postgresql import PostgreSQL
from django_txtest.databases.sqlite import SQLite

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = [
    "Database",
    "SessionInfo",
    "Table",
    "allowed_aliases",
    "get_database",
    "open_sessions",
    "refuse_other_databases",
]

_VENDORS: dict[str, type[Database]] = {"postgresql": PostgreSQL, "sqlite": SQLite}


def get_database(connection: BaseDatabaseWrapper) -> Database:
    """Return what we know of the database that `connection` leads to."""
    return _VENDORS.get(connection.vendor, Database)(connection)


def open_sessions(aliases: Iterable[str]) -> dict[str, int]:
    """Connect to each alias; return the numbers that the servers have for that."""
    sessions = {}
    for alias in aliases:
        connections[alias].ensure_connection()
        pid = get_database(connections[alias]).session_pid()
        if pid is not None:
            sessions[alias] = pid
    return sessions

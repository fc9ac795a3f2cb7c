"""SQLite."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_txtest.databases.base import Database, Table
from django_txtest.databases.catalogue import Catalogue
from django_txtest.databases.sqlite_catalogue import read_catalogue


class SQLite(Database):
    """SQLite, in a file or in memory."""

    def identity(self) -> object:
        """Return the file's number, or the connection that holds the memory."""
        if self._in_memory:
            return id(self.connection.connection)
        status = os.stat(self.connection.settings_dict["NAME"])
        return status.st_dev, status.st_ino

    def concurrency_obstacle(self) -> str | None:
        """Return why concurrent calls cannot work on this database, or None."""
        if not self._in_memory:
            return None
        alias = self.connection.alias
        return (
            f"the test database of {alias!r} is an in-memory SQLite, which other "
            f"threads and processes cannot share. Put it in a file: set "
            f"DATABASES[{alias!r}]['TEST']['NAME'] to a path."
        )

    def end_session_of(self, connection: BaseDatabaseWrapper) -> None:
        """Interrupt what a connection of another thread is executing."""
        connection.connection.interrupt()

    def exploration_obstacle(self) -> str | None:
        """Return why interleavings cannot be explored on this database, or None."""
        return self.concurrency_obstacle()

    def prepare_explored(self, isolation_level: str | None) -> None:
        """Have the connection never wait by itself, nor for the disk."""
        super().prepare_explored(isolation_level)
        self.connection.connection.execute("PRAGMA busy_timeout = 0")
        # Only a power failure would notice: https://sqlite.org/pragma.html
        self.connection.connection.execute("PRAGMA synchronous = OFF")

    def catalogue(self) -> Catalogue:
        """Return what there is that decides which statements can collide."""
        return read_catalogue(self._ask)

    def has_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        connection = self.connection.connection
        return connection is not None and connection.in_transaction

    def would_wait(self, error: DatabaseError, *, has_read: bool) -> bool:
        """Tell whether a session would usually have waited, where ours got an error.

        SQLite refuses at once a transaction that has read and now wants to write,
        while another one writes: https://sqlite.org/c3ref/busy_handler.html
        """
        return "database is locked" in str(error) and not has_read

    @contextmanager
    def refusing_writes(self) -> Iterator[None]:
        """Within the block the database itself refuses every write of the connection.

        https://sqlite.org/pragma.html#pragma_query_only
        """
        connection: sqlite3.Connection = self.connection.connection
        ((before,),) = connection.execute("PRAGMA query_only").fetchall()
        connection.execute("PRAGMA query_only = 1")
        try:
            yield
        finally:
            connection.execute(f"PRAGMA query_only = {before}")

    def is_refusal(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that the database is read-only."""
        return "attempt to write a readonly database" in str(error)

    def is_lock_timeout(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that a lock could not be had in time."""
        return "database is locked" in str(error) or "table is locked" in str(error)

    @contextmanager
    def bounded_lock_waits(self, seconds: float) -> Iterator[None]:
        """Within the block, waiting for a lock for `seconds` is an error."""
        with self.connection.cursor() as cursor:
            ((before,),) = cursor.execute("PRAGMA busy_timeout").fetchall()
        self._execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
        try:
            yield
        finally:
            self._execute(f"PRAGMA busy_timeout = {before}")

    def put_connection_right(self) -> None:
        """Bring the connection back to autocommit, with no statement in progress.

        A cursor that still has rows to give holds a lock on the file, also when its
        connection is closed, for as long as something refers to it.
        """
        super().put_connection_right()
        connection = self.connection.connection
        if connection is not None and _is_active(connection):
            for cursor in gc.get_objects():
                # type() and not isinstance(), which would wake Django's lazy objects.
                is_cursor = issubclass(type(cursor), sqlite3.Cursor)
                if is_cursor and cursor.connection is connection:
                    cursor.close()

    def is_test_database(self) -> bool:
        """Tell whether this is a database that Django's test runner made."""
        if self._in_memory or super().is_test_database():
            return True
        # A clone, of a parallel run, has its number before the suffix.
        test_name = self.connection.settings_dict["TEST"]["NAME"]
        name = str(self.connection.settings_dict["NAME"])
        return bool(test_name) and name.startswith(f"{os.path.splitext(test_name)[0]}_")

    def tables(self) -> list[Table]:
        """Return every table but SQLite's own and the virtual ones."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' "
                "AND name NOT LIKE 'sqlite~_%%' ESCAPE '~' "
                "AND name NOT LIKE 'txtest~_%%' ESCAPE '~' "
                "AND sql NOT LIKE 'CREATE VIRTUAL%%' ORDER BY name",
                [],
            )
            names = [name for (name,) in cursor.fetchall()]
            return [self._table(cursor, name) for name in names]

    def _table(self, cursor: Any, name: str) -> Table:
        quoted = self.quote(name)
        cursor.execute(f"PRAGMA table_xinfo({quoted})")
        # The last field, hidden: 2 and 3 are generated columns.
        columns = tuple(row[1] for row in cursor.fetchall() if row[6] == 0)
        return Table(quoted, columns)

    def quote(self, name: str) -> str:
        """Return a name as a statement has it; Django lets quotes within it be."""
        return '"' + name.replace('"', '""') + '"'

    def read(self, table: Table) -> list[Any]:
        """Return the rows as SQLite stores them.

        The unary plus takes the declared type away, and with it the converters
        that Django registers for some of them.
        """
        names = [self.quote(column) for column in table.columns]
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {', '.join(f'+{name}' for name in names)} FROM {table.name}"
            )
            return list(cursor.fetchall())

    @property
    def _in_memory(self) -> bool:
        is_in_memory = self.connection.is_in_memory_db  # type: ignore[attr-defined]
        return bool(is_in_memory())


def _is_active(connection: sqlite3.Connection) -> bool:
    """Tell whether statements are in progress.

    There is no way to ask, but only while there are, those that come after an interrupt
    are interrupted too: https://sqlite.org/c3ref/interrupt.html
    """
    connection.interrupt()
    try:
        connection.execute("SELECT 1")
    except sqlite3.Error:
        return True
    return False

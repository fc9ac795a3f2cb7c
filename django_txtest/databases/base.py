"""What every database can do for us, in the terms of Django's backend interface."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.core.management.color import no_style
from django.db import DatabaseError, Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import TEST_DATABASE_PREFIX

from django_txtest.databases.catalogue import Catalogue
from django_txtest.exceptions import DatabaseNotSupported
from django_txtest.maintenance import maintenance


@dataclass(frozen=True)
class Table:
    """A table, and the columns that rows are read from and written to.

    `name` is quoted, with its schema where the vendor has schemas.
    """

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class SessionInfo:
    """A session of the database server, as a message can tell of it."""

    pid: int
    application: str
    state: str
    query: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"pid {self.pid} ({self.application or 'no application name'}), "
            f"{self.state}, in a transaction for {self.seconds:.1f} s, "
            f"last query: {self.query or '(none)'}"
        )


def text_of(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """Return the text of what a cursor of Django's was given to execute."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    # A Composable of psycopg 2 or 3.
    compose = getattr(sql, "as_string", None)
    return compose(connection.connection) if compose else str(sql)


def without_pool(connection: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    """Return a copy of the connection that is in no pool of psycopg's."""
    copy: BaseDatabaseWrapper = connection.copy()
    copy.settings_dict["OPTIONS"].pop("pool", None)
    return copy


class Database:
    """A database of a vendor that we know nothing in particular of."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection

    def identity(self) -> object:
        """Return a value that differs when the database was made anew."""
        return self.connection.settings_dict["NAME"]

    def concurrency_obstacle(self) -> str | None:
        """Return why concurrent calls cannot work on this database, or None."""
        return None

    # Sessions

    def session_pid(self) -> int | None:
        """Return the server's number for the session of this connection."""
        return None

    def application_pids(
        self, names: Sequence[str], reported: Sequence[int]
    ) -> list[int]:
        """Return the sessions of the applications of these names.

        :param reported: the sessions that the applications said they opened.
        """
        return []

    def waiting_pids(self, pids: Sequence[int]) -> set[int] | None:
        """Return which of the sessions wait for a lock; None if one cannot tell."""
        return None

    def blockers(self, pids: Sequence[int]) -> dict[int, set[int]]:
        """Return which sessions each waits for, of those that wait for a lock."""
        return {}

    def cancel(self, pid: int) -> None:
        """Cancel what session `pid` is executing."""

    def terminate(self, pid: int) -> None:
        """End session `pid`, which rolls back what it has open."""

    def terminate_all(self, pids: Sequence[int]) -> None:
        """End the sessions."""
        for pid in pids:
            self.terminate(pid)

    def end_session_of(self, connection: BaseDatabaseWrapper) -> None:
        """End what a connection of another thread is doing, and its session.

        To close a connection that is executing something would wait for that.
        """

    def lock_holders(self) -> list[SessionInfo]:
        """Return the other sessions that hold locks on tables of this database."""
        return []

    def is_lock_timeout(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that a lock could not be had in time."""
        return False

    @contextmanager
    def bounded_lock_waits(self, seconds: float) -> Iterator[None]:
        """Within the block, waiting for a lock for `seconds` is an error."""
        yield

    # Read-only

    def writing_functions(self, names: Collection[str]) -> set[str]:
        """Return which of the functions, by their lower-cased names, may write."""
        return set()

    def refusing_writes(self) -> AbstractContextManager[None]:
        """Within the block the database itself refuses every write of the connection.

        What the driver does outside of Django's cursors is meant, too. No transaction
        is begun that goes on after it, and one that is open goes on.

        :raises DatabaseNotSupported: if the vendor's databases cannot do so.
        """
        raise DatabaseNotSupported(
            f"On {self.connection.vendor} there is no way to have the database itself "
            f"refuse writes. Use the level 'orm'."
        )

    def is_refusal(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that the database is read-only."""
        return False

    # Explored sessions

    def clock(self) -> Any:
        """Return what time it is, for `active_since`; None if that is of no use."""
        return None

    def active_since(self, moment: Any, but: Collection[int]) -> list[SessionInfo]:
        """Return the sessions that were sent a statement since.

        :param but: the numbers of sessions that do not count; nor does this one.
        """
        return []

    def exploration_obstacle(self) -> str | None:
        """Return why interleavings cannot be explored on this database, or None."""
        vendor = self.connection.vendor
        return f"on {vendor} it is not known which session waits for which."

    def prepare_explored(self, isolation_level: str | None) -> None:
        """Prepare a connection, just opened, for a session that is explored.

        :raises DatabaseNotSupported: if there is no such isolation level.
        """
        if isolation_level is not None:
            raise DatabaseNotSupported(
                f"isolation_level={isolation_level!r}: on {self.connection.vendor} "
                f"there is no choice of isolation levels. Leave the argument out."
            )

    def may_hasten_deadlocks(self) -> bool:
        """Tell whether `hasten_deadlocks` is allowed."""
        return False

    def hasten_deadlocks(self) -> bool:
        """For the rest of the transaction, look for deadlocks as soon as it waits.

        Does nothing, and returns False, before there is a transaction: it has no locks.
        """
        return False

    def has_transaction(self) -> bool:
        """Tell whether the end of a transaction would be any news to the server."""
        return self.connection.connection is not None

    def would_wait(self, error: DatabaseError, *, has_read: bool) -> bool:
        """Tell whether a session would usually have waited, where ours got an error.

        :param has_read: whether its transaction has read or written anything.
        """
        return False

    def put_connection_right(self) -> None:
        """Bring the connection back to autocommit, outside of any transaction.

        Whatever the code before left open is rolled back. If the connection does not
        work any more it is closed, and Django opens a new one when it is next used.
        """
        connection = self.connection
        # An atomic block that is still open keeps rollback(), set_autocommit() and
        # close() from working; connect() resets the same attributes.
        connection.in_atomic_block = False
        connection.atomic_blocks = []
        connection.savepoint_ids = []
        connection.needs_rollback = False
        connection.closed_in_transaction = False
        connection.run_on_commit = []
        # Savepoints are numbered: the same code is to give them the same names again.
        connection.clean_savepoints()
        if connection.connection is None:
            return
        try:
            connection.rollback()
            connection.set_autocommit(True)
        except Error:
            with suppress(Error):  # PyMySQL closes nothing twice
                connection.close()
        if connection.errors_occurred and not self.is_usable():
            connection.close()
        connection.errors_occurred = False

    def is_usable(self) -> bool:
        """Tell whether the connection works."""
        return self.connection.connection is not None and self.connection.is_usable()

    def is_test_database(self) -> bool:
        """Tell whether this is a database that Django's test runner made."""
        name = str(self.connection.settings_dict["NAME"])
        test_name = self.connection.settings_dict["TEST"]["NAME"]
        return name.startswith(str(test_name or TEST_DATABASE_PREFIX))

    def catalogue(self) -> Catalogue:
        """Return what there is that decides which statements can collide."""
        return Catalogue(self.connection.vendor)

    def _ask(self, sql: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    @contextmanager
    def second_connection(self) -> Iterator[Database]:
        """Yield the same database over a connection of its own, closed at the end."""
        connection = without_pool(self.connection)
        try:
            with maintenance():
                yield type(self)(connection)
        finally:
            connection.close()

    # Rows

    def tables(self) -> list[Table]:
        """Return every table, whether a model knows of it or not."""
        introspection = self.connection.introspection
        with self.connection.cursor() as cursor:
            names = introspection.table_names(cursor)
            return [
                Table(
                    self.connection.ops.quote_name(name),
                    tuple(
                        column.name
                        for column in introspection.get_table_description(cursor, name)
                    ),
                )
                for name in names
            ]

    def quote(self, name: str) -> str:
        """Return a name as a statement has it."""
        return self.connection.ops.quote_name(name)

    def read(self, table: Table) -> list[Any]:
        """Return the rows of `table` in a form that `replace` takes back."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {self._columns(table)} FROM {table.name}")
            return list(cursor.fetchall())

    def read_values(self, table: Table) -> list[tuple[Any, ...]]:
        """Return the rows of `table`, each with a value for each of its columns."""
        return list(map(tuple, self.read(table)))

    def replace(self, contents: Iterable[tuple[Table, list[Any]]]) -> None:
        """Make `contents` all that the tables named in it have, in one transaction."""
        contents = list(contents)
        with (
            self.connection.constraint_checks_disabled(),
            transaction.atomic(self.connection.alias),
        ):
            for table, _ in contents:
                self._execute(f"DELETE FROM {table.name}")
            for table, rows in contents:
                if rows:
                    self.insert(table, rows)

    def insert(self, table: Table, rows: list[Any]) -> None:
        """Insert rows that `read` returned."""
        places = ", ".join(["%s"] * len(table.columns))
        into = f"{table.name} ({self._columns(table)})".replace("%", "%%")
        with self.connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {into} VALUES ({places})", rows)

    @maintenance()
    def reset_sequences(self) -> None:
        """Start every sequence anew: at 1, or after the largest key in its table."""
        connection = self.connection
        if not connection.features.supports_sequence_reset:
            return
        sequences = self._sequences()
        statements = [
            *connection.ops.sequence_reset_by_name_sql(no_style(), sequences),
            *self._advance_sequences_sql(),
        ]
        with transaction.atomic(connection.alias):
            for statement in statements:
                self._execute(statement)

    def _sequences(self) -> list[Any]:
        sequences: list[Any] = self.connection.introspection.sequence_list()
        return sequences

    def _advance_sequences_sql(self) -> list[str]:
        from django.apps import apps

        # A router, or what the vendor lacks, may keep a model's table elsewhere.
        existing = self.connection.introspection.django_table_names(
            only_existing=True, include_views=False
        )
        models = apps.get_models(include_auto_created=True)
        wanted = [model for model in models if model._meta.db_table in existing]
        return self.connection.ops.sequence_reset_sql(no_style(), wanted)

    def _columns(self, table: Table) -> str:
        return ", ".join(map(self.quote, table.columns))

    def _execute(self, sql: str, params: Iterable[Any] | None = None) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)

"""MariaDB and MySQL."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, Error
from django.db.backends.base.base import BaseDatabaseWrapper

from django_txtest.databases.base import Database, SessionInfo, Table

_COLUMNS = """
SELECT t.TABLE_NAME, t.ENGINE, c.COLUMN_NAME, c.COLUMN_TYPE,
       COALESCE(c.GENERATION_EXPRESSION, '') <> ''
FROM information_schema.TABLES t
JOIN information_schema.COLUMNS c
  ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
WHERE t.TABLE_SCHEMA = DATABASE()
  AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
  AND t.TABLE_NAME NOT LIKE 'txtest|_%' ESCAPE '|'
ORDER BY t.TABLE_NAME, c.ORDINAL_POSITION
"""

# A session that is idle has no query to show: what it did last is not kept.
_LOCK_HOLDERS = """
SELECT p.ID, CONCAT(p.USER, '@', p.HOST), LOWER(p.COMMAND), LEFT(p.INFO, 300),
       TIMESTAMPDIFF(SECOND, t.trx_started,
                     CONVERT_TZ(NOW(), @@session.time_zone, 'SYSTEM'))
FROM information_schema.INNODB_TRX t
JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
WHERE p.DB = DATABASE() AND p.ID <> CONNECTION_ID()
ORDER BY t.trx_started
"""

# Not INNODB_TRX, which shows the same for ever to who asks more often than each 0.1 s.
# Transactions of a deadlock that was are shown before this list.
_TRANSACTIONS = "LIST OF TRANSACTIONS FOR EACH SESSION"
_WAITING_TRANSACTION = re.compile(r"^LOCK WAIT .*\n\S+ thread id (\d+)", re.MULTILINE)

# For what InnoDB knows nothing of: what a table is, a table of another engine, and the
# locks that GET_LOCK() takes.
_WAITING_SESSIONS = """
SELECT ID FROM information_schema.PROCESSLIST
WHERE STATE LIKE 'Waiting for % lock' OR STATE = 'User lock'
"""

_LOCK_WAITS = ("innodb_lock_wait_timeout", "lock_wait_timeout")

# Waited for too long, deadlock, and MySQL's answer to NOWAIT.
_LOCK_ERRORS = {1205, 1213, 3572}
_NO_SUCH_THREAD = 1094
_ACCESS_DENIED = {1044, 1142, 1227, 1370, 1419}


@dataclass(frozen=True)
class MySQLTable(Table):
    """A table, with what its columns are, and where its rows are stored."""

    definition: str
    engine: str


class MySQL(Database):
    """MariaDB 10.6 and newer, or MySQL 8, by mysqlclient or PyMySQL."""

    def session_pid(self) -> int | None:
        """Return the number of the session."""
        self.connection.ensure_connection()
        return int(self.connection.connection.thread_id())

    def application_pids(
        self, names: Sequence[str], reported: Sequence[int]
    ) -> list[int]:
        """Return the sessions that were reported, since applications have no names.

        They may have ended: no number is given twice.
        """
        return list(reported)

    def waiting_pids(self, pids: Sequence[int]) -> set[int] | None:
        """Return those of the sessions that wait for a lock which another one has.

        Only an account with the PROCESS privilege may know.
        """
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SHOW ENGINE INNODB STATUS")
                _, _, status = cursor.fetchone()
                cursor.execute(_WAITING_SESSIONS)
                waiting = {pid for (pid,) in cursor.fetchall()}
        except DatabaseError as error:
            if _code(error) in _ACCESS_DENIED:
                return None
            raise
        _, _, transactions = status.partition(_TRANSACTIONS)
        waiting.update(map(int, _WAITING_TRANSACTION.findall(transactions)))
        return waiting.intersection(pids)

    def cancel(self, pid: int) -> None:
        """Cancel what session `pid` is executing."""
        self._kill(f"KILL QUERY {pid:d}")

    def terminate(self, pid: int) -> None:
        """End session `pid`, waiting up to a second until it is gone."""
        self._kill(f"KILL {pid:d}")
        deadline = time.monotonic() + 1
        while self._is_there(pid) and time.monotonic() < deadline:
            time.sleep(0.01)

    def end_session_of(self, connection: BaseDatabaseWrapper) -> None:
        """End the session of a connection of another thread."""
        self.terminate(int(connection.connection.thread_id()))

    def lock_holders(self) -> list[SessionInfo]:
        """Return the other sessions that have transactions open on this database.

        Only an account with the PROCESS privilege may know.
        """
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(_LOCK_HOLDERS)
                rows = cursor.fetchall()
        except DatabaseError as error:
            if _code(error) in _ACCESS_DENIED:
                return []
            raise
        return [
            SessionInfo(pid, user, state, query or "not known", float(seconds))
            for pid, user, state, query, seconds in rows
        ]

    def is_lock_timeout(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that a lock could not be had in time."""
        return _code(error) in _LOCK_ERRORS

    @contextmanager
    def bounded_lock_waits(self, seconds: float) -> Iterator[None]:
        """Within the block, waiting for a lock for `seconds` is an error.

        The server knows whole seconds only: these are rounded up.
        """
        with self.variables(_bounds(seconds)):
            yield

    def is_usable(self) -> bool:
        """Tell whether the connection works.

        Not by a ping, with which PyMySQL would open another session in its place.
        """
        if self.connection.connection is None:
            return False
        try:
            self._execute("SELECT 1")
        except Error:
            return False
        return True

    def put_connection_right(self) -> None:
        """Bring the connection back to autocommit, and to its own database."""
        super().put_connection_right()
        connection = self.connection
        if connection.connection is not None:
            try:
                with connection.wrap_database_errors:
                    connection.connection.select_db(connection.settings_dict["NAME"])
            except Error:
                with suppress(Error):
                    connection.close()

    # What is installed in a test database

    def may_install(self) -> bool:
        """Tell whether the account may make tables, and triggers on every table."""
        if self.has_table("txtest_state"):
            return True
        try:
            self._execute(
                "CREATE TABLE IF NOT EXISTS txtest_probe (id INT PRIMARY KEY)"
            )
            try:
                self._execute(
                    "CREATE TRIGGER txtest_probe AFTER INSERT ON txtest_probe "
                    "FOR EACH ROW SET @txtest_probe = 1"
                )
            finally:
                self._execute("DROP TABLE txtest_probe")
        except DatabaseError as error:
            if _code(error) in _ACCESS_DENIED:
                return False
            raise
        return True

    def has_table(self, name: str) -> bool:
        """Tell whether there is a table of this name."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM information_schema.TABLES "
                "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
                [name],
            )
            return cursor.fetchone() is not None

    @contextmanager
    def exact_writes(self, lock_timeout: float | None = None) -> Iterator[None]:
        """Within the block, rows are stored as they are given, and unnoticed.

        No foreign key acts or objects, a zero is no request for a new key, and no
        value is refused, like the dates of zero that an older mode has let in.
        """
        with self.variables(
            {
                "sql_mode": "'NO_AUTO_VALUE_ON_ZERO'",
                "foreign_key_checks": "0",
                "@txtest_off": "1",
                **({} if lock_timeout is None else _bounds(lock_timeout)),
            }
        ):
            yield

    # Rows

    def tables(self) -> list[Table]:
        """Return every table but our own."""
        return list(self.described_tables())

    def described_tables(self) -> list[MySQLTable]:
        """Return every table but our own, with what is in it."""
        with self.connection.cursor() as cursor:
            cursor.execute(_COLUMNS)
            rows = cursor.fetchall()
        engines: dict[str, str] = {}
        columns: dict[str, list[str]] = {}
        definitions: dict[str, list[str]] = {}
        for name, engine, column, kind, is_generated in rows:
            engines[name] = engine or ""
            definitions.setdefault(name, []).append(f"{column} {kind}")
            columns.setdefault(name, []).extend([] if is_generated else [column])
        return [
            MySQLTable(
                self.connection.ops.quote_name(name),
                tuple(columns[name]),
                ", ".join(definitions[name]),
                engines[name],
            )
            for name in engines
        ]

    def read(self, table: Table) -> list[Any]:
        """Return the rows, with text in the place of what drivers make objects of.

        A float would be shown with fewer digits than it has; a double is not.
        """
        kinds = {
            "float": "({} + 0e0)",
            "bit": "({} + 0)",
            **dict.fromkeys(
                ("date", "datetime", "timestamp", "time", "year"), "CAST({} AS CHAR)"
            ),
        }
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS "
                "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
                [table.name.strip("`")],
            )
            types = dict(cursor.fetchall())
            values = [
                kinds.get(types[column].lower(), "{}").format(
                    self.connection.ops.quote_name(column)
                )
                for column in table.columns
            ]
            cursor.execute(f"SELECT {', '.join(values)} FROM {table.name}")
            return list(cursor.fetchall())

    def replace(self, contents: Iterable[tuple[Table, list[Any]]]) -> None:
        """Make `contents` all that the tables named in it have, in one transaction."""
        with self.exact_writes():
            super().replace(contents)

    def _sequences(self) -> list[Any]:
        # Django looks at the table of each model, which may be in another database.
        introspection = self.connection.introspection
        names = introspection.django_table_names(
            only_existing=True, include_views=False
        )
        sequences: list[Any] = []
        with self.connection.cursor() as cursor:
            for name in names:
                sequences += introspection.get_sequences(cursor, name)
        return sequences

    @contextmanager
    def variables(self, values: dict[str, str]) -> Iterator[None]:
        """Within the block, give variables of the session other values."""
        system = [name for name in values if not name.startswith("@")]
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {', '.join(f'@@session.{name}' for name in system)}"
            )
            before = cursor.fetchone()
            changes = [f"{name} = {value}" for name, value in values.items()]
            cursor.execute(f"SET {', '.join(changes)}")
        try:
            yield
        finally:
            own = [f"{name} = NULL" for name in values.keys() - system]
            back = [f"{name} = %s" for name in system]
            self._execute(f"SET {', '.join([*back, *own])}", before)

    def _kill(self, sql: str) -> None:
        try:
            self._execute(sql)
        except DatabaseError as error:
            if _code(error) != _NO_SUCH_THREAD:
                raise

    def _is_there(self, pid: int) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = %s", [pid]
            )
            return cursor.fetchone() is not None


def _bounds(seconds: float) -> dict[str, str]:
    return dict.fromkeys(_LOCK_WAITS, str(max(1, math.ceil(seconds))))


def _code(error: BaseException) -> int | None:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else None

"""PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_txtest.databases.base import Database, SessionInfo, Table
from django_txtest.databases.catalogue import Catalogue
from django_txtest.databases.errors import sqlstate
from django_txtest.databases.postgresql_catalogue import read_catalogue
from django_txtest.exceptions import DatabaseNotSupported

# Tables of the user, in every schema: a partition is reached through its root, and
# what an extension owns is the extension's.
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname ORDER BY a.attnum)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
GROUP BY n.nspname, c.relname
ORDER BY n.nspname, c.relname
"""

# 16384 is the first OID that is not the catalogue's own (FirstNormalObjectId).
_LOCK_HOLDERS = """
SELECT s.pid, s.application_name, s.state, left(s.query, 300),
       extract(epoch FROM clock_timestamp() - s.xact_start)::float
FROM pg_stat_activity s
WHERE s.datname = current_database() AND s.pid <> pg_backend_pid()
  AND s.xact_start IS NOT NULL
  AND EXISTS (
    SELECT FROM pg_locks l
    WHERE l.pid = s.pid AND l.granted AND l.relation >= 16384)
ORDER BY s.xact_start
"""

_ACTIVE_SINCE = """
SELECT s.pid, s.application_name, s.state, left(s.query, 300),
       extract(epoch FROM clock_timestamp() - s.query_start)::float
FROM pg_stat_activity s
WHERE s.datname = current_database() AND s.backend_type = 'client backend'
  AND s.query_start >= %s AND s.pid <> pg_backend_pid() AND s.pid <> ALL (%s)
"""

_MAY_INSTALL = """
SELECT has_database_privilege(current_database(), 'CREATE') AND NOT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT pg_has_role(c.relowner, 'USAGE')
      AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
"""

# Lock not available, and deadlock detected: the server may find one sooner.
_LOCK_ERRORS = {"55P03", "40P01"}

# The status of a transaction, for both drivers, in which there was no error, or one.
_IN_ORDER = 2
_IN_ERROR = 3

# Read-only SQL transaction.
_READ_ONLY = "25006"

_WRITING_FUNCTIONS = """
SELECT DISTINCT lower(p.proname) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE lower(p.proname) = ANY(%s) AND p.provolatile = 'v'
  AND l.lanname NOT IN ('internal', 'c')
"""

# What begins, ends and undoes a block in which nothing can be written.
_ALONE = (["BEGIN READ ONLY"], ["COMMIT"], ["ROLLBACK"])
_RELEASE = "RELEASE SAVEPOINT txtest_read_only"
_IN_SAVEPOINT = (
    ["SAVEPOINT txtest_read_only", "SET LOCAL transaction_read_only = on"],
    [_RELEASE],
    ["ROLLBACK TO SAVEPOINT txtest_read_only", _RELEASE],
)

ISOLATION_LEVELS = (
    "READ UNCOMMITTED",
    "READ COMMITTED",
    "REPEATABLE READ",
    "SERIALIZABLE",
)


class PostgreSQL(Database):
    """PostgreSQL 14 and newer, by psycopg 2 or 3."""

    def identity(self) -> object:
        """Return the server's start and the database's OID."""
        return self._row(
            "SELECT pg_postmaster_start_time(), oid FROM pg_database "
            "WHERE datname = current_database()"
        )

    def session_pid(self) -> int | None:
        """Return the process number of the backend."""
        self.connection.ensure_connection()
        return int(self.connection.connection.info.backend_pid)

    def application_pids(
        self, names: Sequence[str], reported: Sequence[int]
    ) -> list[int]:
        """Return the sessions whose application_name is one of these.

        Not those reported: the server gives numbers of sessions that ended to others.
        """
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = ANY(%s)",
                [list(names)],
            )
            return [pid for (pid,) in cursor.fetchall()]

    def waiting_pids(self, pids: Sequence[int]) -> set[int]:
        """Return those of the sessions that wait for a lock which another one has."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM unnest(%s::int[]) AS pid "
                "WHERE cardinality(pg_blocking_pids(pid)) > 0",
                [list(pids)],
            )
            return {pid for (pid,) in cursor.fetchall()}

    def blockers(self, pids: Sequence[int]) -> dict[int, set[int]]:
        """Return which sessions each waits for, of those that wait for a lock."""
        with self.connection.cursor() as cursor:
            # Asked over and over: without parameters, that is one thing less to do.
            cursor.execute(
                f"SELECT pid, blockers FROM unnest('{{{','.join(map(str, pids))}}}'"
                "::int[]) AS pid, pg_blocking_pids(pid) AS blockers "
                "WHERE cardinality(blockers) > 0"
            )
            return {pid: set(blockers) for pid, blockers in cursor.fetchall()}

    def cancel(self, pid: int) -> None:
        """Cancel what session `pid` is executing."""
        self._execute("SELECT pg_cancel_backend(%s)", [pid])

    def terminate(self, pid: int) -> None:
        """End session `pid`, waiting up to a second until it is gone."""
        self._execute("SELECT pg_terminate_backend(%s, 1000)", [pid])

    def terminate_all(self, pids: Sequence[int]) -> None:
        """End the sessions, all at once."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid",
                [list(pids)],
            )
        super().terminate_all(pids)  # waits for each

    def may_install(self) -> bool:
        """Tell whether the role may make a schema, and triggers on every table."""
        return bool(self._row(_MAY_INSTALL)[0])

    def end_session_of(self, connection: BaseDatabaseWrapper) -> None:
        """End the backend of a connection of another thread."""
        self.terminate(int(connection.connection.info.backend_pid))

    def writing_functions(self, names: Collection[str]) -> set[str]:
        """Return which of the functions may write.

        PostgreSQL lets only those that are declared volatile do so. Those written in C
        are taken for what they say they are.
        """
        with self.connection.connection.cursor() as cursor:
            cursor.execute(_WRITING_FUNCTIONS, [list(names)])
            return {name for (name,) in cursor.fetchall()}

    @contextmanager
    def refusing_writes(self) -> Iterator[None]:
        """Within the block the database itself refuses every write of the connection.

        In a transaction, for the time of a savepoint, which is where PostgreSQL puts it
        back: https://www.postgresql.org/docs/current/sql-set-transaction.html
        """
        connection: Any = self.connection.connection
        if connection.info.transaction_status == _IN_ERROR:
            yield  # it refuses everything
            return
        is_alone = connection.autocommit and not self.has_transaction()
        begin, end, undo = _ALONE if is_alone else _IN_SAVEPOINT

        def execute(statements: Sequence[str]) -> None:
            # One by one: a driver that prepares what it is given can do no other.
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

        execute(begin)
        try:
            yield
        except BaseException:
            with suppress(self.connection.Database.Error):  # type: ignore[attr-defined]
                execute(undo)
            raise
        execute(end)

    def is_refusal(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that the database is read-only."""
        return sqlstate(error) == _READ_ONLY

    def exploration_obstacle(self) -> str | None:
        """Return why interleavings cannot be explored on this database, or None."""
        return None

    def prepare_explored(self, isolation_level: str | None) -> None:
        """Have transactions begin at the level.

        :raises DatabaseNotSupported: if there is no such isolation level.
        """
        if isolation_level is None:
            return
        level = str(isolation_level).upper().replace("_", " ")
        if level not in ISOLATION_LEVELS:
            raise DatabaseNotSupported(
                f"isolation_level={isolation_level!r} is not one of "
                f"{', '.join(ISOLATION_LEVELS)}."
            )
        connection: Any = self.connection.connection
        connection.isolation_level = None  # what OPTIONS has would come before it
        with connection.cursor() as cursor:
            cursor.execute(f"SET default_transaction_isolation = '{level.lower()}'")

    def catalogue(self) -> Catalogue:
        """Return what there is that decides which statements can collide."""
        # In a transaction, to see of which isolation level it is.
        with transaction.atomic(self.connection.alias):
            return read_catalogue(self._ask)

    def may_hasten_deadlocks(self) -> bool:
        """Tell whether the role may set deadlock_timeout, as superusers may."""
        connection: Any = self.connection.connection
        driver: Any = self.connection.Database  # type: ignore[attr-defined]
        with suppress(driver.Error), connection.cursor() as cursor:
            # To what it is: only the permission is of interest.
            cursor.execute(
                "SELECT set_config('deadlock_timeout', "
                "current_setting('deadlock_timeout'), false)"
            )
            return True
        return False

    def hasten_deadlocks(self) -> bool:
        """For the rest of the transaction, look for deadlocks as soon as it waits.

        Does nothing, and returns False, before there is a transaction: it has no locks.
        The victim of a deadlock is whose look finds it.
        """
        connection: Any = self.connection.connection
        if connection is None or connection.info.transaction_status != _IN_ORDER:
            return False
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1ms'")
        return True

    def has_transaction(self) -> bool:
        """Tell whether the end of a transaction would be any news to the server."""
        connection: Any = self.connection.connection
        return connection is not None and connection.info.transaction_status != 0

    def lock_holders(self) -> list[SessionInfo]:
        """Return the other sessions that hold locks on tables of this database."""
        with self.connection.cursor() as cursor:
            cursor.execute(_LOCK_HOLDERS)
            return [SessionInfo(*row) for row in cursor.fetchall()]

    def clock(self) -> Any:
        """Return the server's time."""
        return self._row("SELECT clock_timestamp()")[0]

    def active_since(self, moment: Any, but: Collection[int]) -> list[SessionInfo]:
        """Return the sessions on this database that were sent a statement since."""
        with self.connection.cursor() as cursor:
            cursor.execute(_ACTIVE_SINCE, [moment, list(but)])
            return [SessionInfo(*row) for row in cursor.fetchall()]

    def is_lock_timeout(self, error: DatabaseError) -> bool:
        """Tell whether `error` says that a lock could not be had in time."""
        return sqlstate(error) in _LOCK_ERRORS

    @contextmanager
    def bounded_lock_waits(self, seconds: float) -> Iterator[None]:
        """Within the block, waiting for a lock for `seconds` is an error."""
        (before,) = self._row("SELECT current_setting('lock_timeout')")
        milliseconds = str(max(1, round(seconds * 1000)))
        self._set_lock_timeout(milliseconds)
        try:
            yield
        finally:
            self._set_lock_timeout(before)

    def tables(self) -> list[Table]:
        """Return the tables of every schema, partitions by their root."""
        with self.connection.cursor() as cursor:
            cursor.execute(_TABLES)
            return [Table(name, tuple(columns)) for name, columns in cursor.fetchall()]

    def quote(self, name: str) -> str:
        """Return a name as a statement has it; Django lets quotes within it be."""
        return '"' + name.replace('"', '""') + '"'

    def read(self, table: Table) -> list[Any]:
        """Return each row as the text of a composite value, which loses nothing."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT (t.*)::text FROM {table.name} AS t")
            return [text for (text,) in cursor.fetchall()]

    def read_values(self, table: Table) -> list[tuple[Any, ...]]:
        """Return the rows of `table`, each with the text of each column's value."""
        columns = ", ".join(f"{self.quote(column)}::text" for column in table.columns)
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM {table.name}".replace("%", "%%"), [])
            return list(cursor.fetchall())

    def replace(self, contents: Iterable[tuple[Table, list[Any]]]) -> None:
        """Make `contents` all that the tables named in it have, in one transaction."""
        contents = list(contents)
        if not contents:
            return
        with transaction.atomic(self.connection.alias):
            if self._may_disable_triggers():
                # Foreign keys and the user's own triggers are not to act on this.
                self._execute("SET LOCAL session_replication_role = replica")
            self._execute("SET CONSTRAINTS ALL DEFERRED")
            self._execute(f"TRUNCATE {', '.join(table.name for table, _ in contents)}")
            for table, rows in contents:
                if rows:
                    self.insert(table, rows)

    def insert(self, table: Table, rows: list[Any]) -> None:
        """Insert rows that `read` returned."""
        name = table.name.replace("%", "%%")
        columns = [self.quote(column).replace("%", "%%") for column in table.columns]
        self._execute(
            f"INSERT INTO {name} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE "
            f"SELECT {', '.join(f'(r).{column}' for column in columns)} "
            f"FROM (SELECT unnest(%s::text[])::{name} AS r) AS saved",
            [rows],
        )

    def _may_disable_triggers(self) -> bool:
        (is_superuser,) = self._row("SELECT current_setting('is_superuser') = 'on'")
        return bool(is_superuser)

    def _set_lock_timeout(self, value: str) -> None:
        self._execute("SELECT set_config('lock_timeout', %s, false)", [value])

    def _row(self, sql: str) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            row: tuple[Any, ...] = cursor.fetchone()
            return row

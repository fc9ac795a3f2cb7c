"""The way back for SQLite: triggers note which tables were written to.

Only those are put back. What they had is kept in the database too, so that a later run
with --keepdb finds it.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError

from django_txtest.conf import settings
from django_txtest.databases import SQLite, Table
from django_txtest.reset.base import Baseline, Level, TableRows, fingerprint

_INSTALL = (
    "CREATE TABLE txtest_dirty (name TEXT)",
    "CREATE TABLE txtest_class (name TEXT)",
    "CREATE TABLE txtest_state (migrations TEXT, schema INTEGER, "
    "contents BLOB, -- a pickle: [(name, columns, rows)]\n"
    "fingerprint TEXT)",
)

# Triggers of SQLite are for each row: the condition keeps the log short. "Before", as a
# trigger of the user's may end those that come after it, with RAISE(IGNORE).
_TRIGGER = """
CREATE TRIGGER IF NOT EXISTS "txtest_{operation}_{plain}" BEFORE {operation} ON {table}
WHEN NOT EXISTS (SELECT 1 FROM txtest_dirty WHERE name = '{literal}')
BEGIN INSERT INTO txtest_dirty VALUES ('{literal}'); END
"""

_FINGERPRINT = fingerprint(*_INSTALL, _TRIGGER)


class SQLiteBaseline(Baseline):
    """Holds the rows of all levels in memory, and the first in the database too."""

    keeps_connection = True
    outlives_process = True
    database: SQLite

    def __init__(self, database: SQLite) -> None:
        super().__init__(database)
        #: A map for each level, the highest first, of the tables written to by then.
        self._saved: ChainMap[str, list[Any]] = ChainMap()
        self._tables: dict[str, Table] = {}
        self._schema_version = 0
        #: The largest keys that AUTOINCREMENT gave by the time of a checkpoint.
        self._sequences: list[tuple[str, int]] | None = None
        #: The user's triggers, once they were needed: tables, names, how to make them.
        self._triggers: list[tuple[str, str, str]] | None = None
        #: A connection, and how long it waits for locks, in milliseconds.
        self._known: object = None
        self._busy_timeout = 0
        self._keeps_journal = False

    def begin_class(self) -> None:
        """Learn what migrations left; if that is known, restore it."""
        if self._is_installed():
            self._load()
            self.restore()
        else:
            self._install()

    def adopt(self) -> None:
        """In a clone, have what the database had when it was cloned be what it goes to.

        The rows of levels above the first are in memory, that of the caller.
        """
        self._load()
        self._schema_version = 0  # it may have tables that are not of level 1
        self.keep(Level.CLASS)
        self.keep(Level.CHECKPOINT)

    def keep(self, level: Level) -> None:
        """Make what is in the database now the level, in place of one that is there."""
        if len(self._saved.maps) >= level:
            self.forget(level)
        while len(self._saved.maps) < level:
            self._saved = self._saved.new_child()
        with self._undisturbed():
            self._learn_tables(level)
            for name in self._dirty():
                self._saved[name] = self.database.read(self._tables[name])
            # If this run is killed, the next one has to know which tables they were.
            self._execute(
                "INSERT INTO txtest_class "
                "SELECT name FROM txtest_dirty EXCEPT SELECT name FROM txtest_class"
            )
            self._execute("DELETE FROM txtest_dirty")
            if level is Level.CHECKPOINT:
                self._sequences = self._read_sequences()

    def forget(self, level: Level) -> None:
        """Give the level up, if it is there: the next restore goes to one below."""
        given_up: set[str] = set().union(*self._saved.maps[: 1 - level])
        below = ChainMap(*self._saved.maps[1 - level :])
        with self._undisturbed():
            for name in given_up & below.keys():
                self._mark(name)
            if level is Level.CLASS:
                self._execute("DELETE FROM txtest_class")
        for name in given_up - below.keys():
            # It was created for the level: it is to be found, and dropped.
            del self._tables[name]
            self._schema_version = 0
        self._saved = below
        self._sequences = None
        if level is Level.CLASS and self._keeps_journal:
            # Django would leave its file behind.
            self._execute("PRAGMA journal_mode = DELETE")

    def take_back(self, tables: Mapping[str, Table], told: TableRows) -> None:
        """Restore, and tell what the tables had that were written to since."""
        self._tell((tables[name] for name in self._dirty() if name in tables), told)
        self.restore()

    def restore(self) -> None:
        """Put the database back to the highest level."""
        if not self._empty():
            with self._foreign_keys_off(), self._undisturbed():
                if self._read_schema_version() != self._schema_version:
                    self._mend_schema()
                self._restore(self._dirty())
        if self._sequences is not None and self._read_sequences() != self._sequences:
            with self._undisturbed():
                self._execute("DELETE FROM sqlite_sequence")
                for row in self._sequences:
                    self._execute("INSERT INTO sqlite_sequence VALUES (?, ?)", row)

    def _read_sequences(self) -> list[tuple[str, int]] | None:
        if not self._execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
        ).fetchone():
            return None
        rows = self._execute("SELECT name, seq FROM sqlite_sequence ORDER BY name")
        return rows.fetchall()

    def _empty(self) -> bool:
        """Empty what was empty; return whether that was all there was to do.

        Most often it is, and foreign keys can stay on: to switch them would make SQLite
        prepare every statement of the connection anew, those of the tests, too.
        """
        try:
            # Also if there is nothing to do: waits for those with a write open.
            with self._undisturbed():
                if self._read_schema_version() != self._schema_version:
                    return False
                dirty = self._dirty()
                if not dirty:
                    return True
                if any(map(self._saved.get, dirty)) or self._triggers_on(dirty):
                    return False
                for name in dirty:
                    self._execute(f"DELETE FROM {name}")
                if len(self._dirty()) > len(dirty):  # a foreign key has acted
                    return False
                self._execute("DELETE FROM txtest_dirty")
        except DatabaseError:  # a foreign key does not let it
            return False
        return True

    def _restore(self, dirty: Sequence[str]) -> None:
        with self._triggers_off(dirty):
            for name in dirty:
                saved = self._saved[name]
                table = self._tables[name]
                # By their text, as 1, 1.0 and True are equal, but not the same value.
                if saved and _same_rows(saved, self.database.read(table)):
                    continue
                self._execute(f"DELETE FROM {name}")
                if saved:
                    self.database.insert(table, saved)
            self._execute("DELETE FROM txtest_dirty")

    def _prepare_connection(self) -> int:
        """Make commits fast on a new connection; return its lock timeout in ms.

        They are told to overwrite the head of the journal, and not to delete its file,
        which is as safe; and not to wait for the disk, which only a power failure would
        notice. A test that changes pragmas gets the next one a new connection.
        https://sqlite.org/pragma.html
        """
        connection = self.database.connection
        if connection.connection is None or self._known is not connection.connection:
            self._busy_timeout = self._value("PRAGMA busy_timeout")
            self._keeps_journal = self._value("PRAGMA journal_mode") == "delete"
            if self._keeps_journal:
                self._execute("PRAGMA journal_mode = PERSIST")
            self._execute("PRAGMA synchronous = OFF")
            self._known = connection.connection
        return self._busy_timeout

    # What is kept in the database

    def _is_installed(self) -> bool:
        # An older version has the table, but may not have the column.
        has_column = self._execute(
            "SELECT 1 FROM pragma_table_info('txtest_state') WHERE name = 'fingerprint'"
        ).fetchone()
        if not has_column:
            return False
        state = self._execute("SELECT fingerprint, migrations FROM txtest_state")
        return bool(state.fetchone() == (_FINGERPRINT, self._migrations()))

    def _load(self) -> None:
        self._execute("INSERT INTO txtest_dirty SELECT name FROM txtest_class")
        was_killed = self._execute("DELETE FROM txtest_class").rowcount
        state = self._execute("SELECT schema, contents FROM txtest_state")
        self._schema_version, contents = state.fetchone()
        if was_killed:  # what it had created is to be found, and dropped
            self._schema_version = 0
        for name, columns, rows in pickle.loads(contents):
            self._tables[name] = Table(name, columns)
            self._saved[name] = rows

    def _install(self) -> None:
        with self._transaction():
            self._uninstall()
            for statement in _INSTALL:
                self._execute(statement)
            for table in self.database.tables():
                self._tables[table.name] = table
                self._saved[table.name] = self.database.read(table)
                self._watch(table)
            contents = [
                (name, table.columns, self._saved[name])
                for name, table in self._tables.items()
            ]
            self._execute(
                "INSERT INTO txtest_state VALUES (?, 0, ?, ?)",
                [self._migrations(), pickle.dumps(contents), _FINGERPRINT],
            )
            self._note_schema()

    def _doubt_everything(self) -> None:
        """Watch tables again that were made anew, and look at all of them once.

        Django's ALTER TABLE makes a table anew; that of SQLite fires no triggers.
        """
        rows = self._execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        triggers = {name for (name,) in rows.fetchall()}
        for name, table in self._tables.items():
            if f"txtest_INSERT_{_plain(name)}".replace('""', '"') not in triggers:
                self._watch(table)
            self._mark(name)

    def _uninstall(self) -> None:
        ours = self._execute(
            "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'trigger') "
            "AND name LIKE 'txtest~_%' ESCAPE '~' ORDER BY type DESC"
        )
        for kind, name in ours.fetchall():
            self._execute(f"DROP {kind} {self.database.quote(name)}")

    def _watch(self, table: Table) -> None:
        plain = _plain(table.name)
        literal = table.name.replace("'", "''")
        for operation in ("INSERT", "UPDATE", "DELETE"):
            self._execute(
                _TRIGGER.format(
                    operation=operation, plain=plain, table=table.name, literal=literal
                )
            )

    def _migrations(self) -> str:
        exists = self._execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'django_migrations'"
        ).fetchone()
        if not exists:
            return ""
        row = self._execute("SELECT count(*), max(id) FROM django_migrations")
        return repr(row.fetchone())

    # The log, and the schema

    def _mark(self, name: str) -> None:
        self._execute("INSERT INTO txtest_dirty VALUES (?)", [name])

    def _dirty(self) -> list[str]:
        rows = self._execute("SELECT DISTINCT name FROM txtest_dirty")
        # One that is not known was created after what is to be put back.
        return [name for (name,) in rows.fetchall() if name in self._tables]

    def _note_schema(self) -> None:
        self._triggers = None
        version = self._read_schema_version()
        if version != self._schema_version:
            self._schema_version = version
            self._execute("UPDATE txtest_state SET schema = ?", [version])

    def _read_schema_version(self) -> int:
        # It grows with every statement that changes the schema.
        return int(self._value("PRAGMA schema_version"))

    def _learn_tables(self, level: Level) -> None:
        """Take note of the tables that are new at the level."""
        if self._read_schema_version() == self._schema_version:
            return
        new_tables = self._new_tables(accept_changes=level is Level.CLASS)
        for table in new_tables:
            self._tables[table.name] = table
            self._saved[table.name] = []
            self._watch(table)
            self._mark(table.name)
        if level is Level.CHECKPOINT:
            self._doubt_everything()
        self._note_schema()

    def _mend_schema(self) -> None:
        """Drop the tables that the test created; raise if it did anything else."""
        for table in self._new_tables():
            self._execute(f"DROP TABLE {table.name}")
        self._doubt_everything()
        self._note_schema()

    def _new_tables(self, accept_changes: bool = False) -> list[Table]:
        """Return the tables that are not known; raise if one that is was altered."""
        current = {table.name: table for table in self.database.tables()}
        for name, table in self._tables.items():
            if current.get(name) != table and not accept_changes:
                raise self.schema_error([f"altered {name}"])
        return [table for name, table in current.items() if name not in self._tables]

    # Statements

    def _execute(self, sql: str, params: Sequence[Any] = ()) -> sqlite3.Cursor:
        # Without Django's cursor, which would take longer than what it executes.
        connection = self.database.connection
        if connection.connection is None:
            connection.connect()
        try:
            cursor: sqlite3.Cursor = connection.connection.execute(sql, params)
        except sqlite3.Error:
            with connection.wrap_database_errors:
                raise
        return cursor

    def _value(self, sql: str) -> Any:
        (value,) = self._execute(sql).fetchone()
        return value

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Within the block, a transaction, nobody else writes."""
        usual = self._prepare_connection()
        wanted = round(settings.lock_timeout * 1000)
        if wanted != usual:
            self._execute(f"PRAGMA busy_timeout = {wanted}")
        try:
            with self.lock_errors(), self._transaction():
                yield
        finally:
            if wanted != usual:
                self._execute(f"PRAGMA busy_timeout = {usual}")

    @contextmanager
    def _foreign_keys_off(self) -> Iterator[None]:
        """Within the block, outside of transactions, no foreign key acts."""
        if not self._value("PRAGMA foreign_keys"):
            yield
            return
        self._execute("PRAGMA foreign_keys = OFF")
        try:
            yield
        finally:
            self._execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._execute("ROLLBACK")
            raise

    @contextmanager
    def _triggers_off(self, tables: Sequence[str]) -> Iterator[None]:
        """Within a transaction, keep the user's own triggers from acting."""
        triggers = self._triggers_on(tables)
        for name, _ in triggers:
            self._execute(f"DROP TRIGGER {self.database.quote(name)}")
        yield
        for _, sql in triggers:
            self._execute(sql)
        if triggers:
            self._note_schema()

    def _triggers_on(self, tables: Sequence[str]) -> list[tuple[str, str]]:
        """Return the names of the user's own triggers, and how to make them."""
        if self._triggers is None:
            self._triggers = self._execute(
                "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger' "
                "AND name NOT LIKE 'txtest~_%' ESCAPE '~'"
            ).fetchall()
        # A trigger has its table's name as it was written there.
        wanted = {name.lower() for name in tables}
        return [
            (name, sql)
            for table, name, sql in self._triggers
            if self.database.quote(table).lower() in wanted
        ]


def _plain(name: str) -> str:
    return name[1:-1]


def _same_rows(rows: list[Any], others: list[Any]) -> bool:
    return sorted(map(repr, rows)) == sorted(map(repr, others))

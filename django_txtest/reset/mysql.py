"""The way back for MariaDB and MySQL: triggers note which tables were written to.

Only those are put back, from rows that are kept in tables of the test database itself,
where each value stays as it is. What no trigger sees is known otherwise: rows that a
foreign key changes, tables without transactions, and statements that change the schema,
of which TRUNCATE is one.
"""

from __future__ import annotations

import json
import time
from collections import ChainMap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import DatabaseError

from django_txtest.conf import settings
from django_txtest.databases import MySQL, MySQLTable
from django_txtest.reset.base import Baseline, Level, fingerprint
from django_txtest.reset.mysql_schema import MySQLSchema, MySQLStatements

# The state is filled last: no such statement can be rolled back, and so half of an
# installation may be there.
_INSTALL = (
    "CREATE TABLE txtest_dirty (id INT NOT NULL)",
    "CREATE TABLE txtest_class (id INT NOT NULL)",
    "CREATE TABLE txtest_tables (id INT NOT NULL PRIMARY KEY, name TEXT NOT NULL, "
    "description LONGTEXT NOT NULL, -- JSON: [columns, definition, engine]\n"
    "saved TEXT)",
    "CREATE TABLE txtest_triggers (position INT NOT NULL PRIMARY KEY, "
    "name TEXT NOT NULL, sql_mode TEXT NOT NULL, statement LONGTEXT NOT NULL)",
    "CREATE TABLE txtest_state (migrations TEXT NOT NULL, fingerprint TEXT NOT NULL)",
)

# Triggers are for each row, but one mark for each statement is enough: NOW() is when
# it began. One for a session would be too few: a mark is locked until its transaction
# ends, and so tells of what is not committed yet. It has no key, so that writers do
# not wait for each other.
_TRIGGER = """
CREATE TRIGGER txtest_{operation}_{id} AFTER {operation} ON {table} FOR EACH ROW
BEGIN
  IF @txtest_off IS NULL AND NOT (@txtest_{id} <=> NOW(6)) THEN
    INSERT INTO txtest_dirty VALUES ({id});
    SET @txtest_{id} = NOW(6);
  END IF;
END
"""

_FINGERPRINT = fingerprint(*_INSTALL, _TRIGGER)


@dataclass(frozen=True)
class _Known:
    """A table, with the number that its marks and its saved rows have."""

    id: int
    table: MySQLTable

    @property
    def columns(self) -> str:
        """The columns that can be written to."""
        return ", ".join(f"`{name}`" for name in self.table.columns)


class MySQLBaseline(MySQLStatements, Baseline):
    """Knows the tables, and keeps their rows of all levels in the database."""

    keeps_connection = True
    outlives_process = True
    database: MySQL

    def __init__(self, database: MySQL) -> None:
        super().__init__(database)
        self._schema = MySQLSchema(database)
        self._tables: dict[str, _Known] = {}
        self._highest_id = 0
        #: A map for each level, the highest first, of the tables written to by then:
        #: by their names, where their rows are, if they have any.
        self._saved: ChainMap[str, str | None] = ChainMap()

    def begin_class(self) -> None:
        """Learn what migrations left; if that is known, restore it."""
        with self.lock_errors():
            if not self._is_installed():
                with self._undisturbed():
                    self._install()
                return
            with self._undisturbed():
                self._load()
            self.restore()

    def keep(self, level: Level) -> None:
        """Make what is in the database now the level, in place of one that is there."""
        if len(self._saved.maps) >= level:
            self.forget(level)
        while len(self._saved.maps) < level:
            self._saved = self._saved.new_child()
        with self.lock_errors(), self._undisturbed():
            counters = self._schema.count()
            if self._schema.has_changed(counters):
                self._learn_new_tables(level)
            self._schema.look(counters)
            with self._transaction():
                written = self._take_marks()
                # If this run is killed, the next one has to know which they were.
                self._insert_ids("txtest_class", [known.id for known in written])
            # All at once: should one fail, all of them are to be marked again.
            self._saved.update((known.table.name, None) for known in written)
            for known in written:
                self._saved[known.table.name] = self._save(known, level)
            self._schema.note()

    def forget(self, level: Level) -> None:
        """Give the level up, if it is there: the next restore goes to one below."""
        given_up: set[str] = set().union(*self._saved.maps[: 1 - level])
        below = ChainMap(*self._saved.maps[1 - level :])
        with self._transaction():
            written = [self._tables[name].id for name in given_up & below.keys()]
            self._insert_ids("txtest_dirty", written)
            if level is Level.CLASS:
                self._execute("DELETE FROM txtest_class")
        for name in given_up - below.keys():
            # It was created for the level: it is to be found, and dropped.
            del self._tables[name]
            self._schema.forget()
        self._saved = below

    def restore(self) -> None:
        """Put the database back to the highest level."""
        with self.lock_errors():
            counters = self._schema.count()
            if self._schema.has_changed(counters):
                with self._undisturbed():
                    counters = self._mend_schema()
            if self._has_marks() or self._unlogged():
                with self._undisturbed():
                    self._schema.look(counters)
                    self._restore()

    def _restore(self) -> None:
        suspects = self._marked() if self._schema.has_triggers else []
        names = [known.table.name for known in suspects]
        with self._schema.triggers_off(names), self._transaction():
            for known in self._take_marks():
                name = known.table.name
                self._execute(f"DELETE FROM {name}")
                if saved := self._saved[name]:
                    self._copy(saved, name, known)

    def _save(self, known: _Known, level: Level) -> str | None:
        """Keep the rows of a table, if there are any, and return where."""
        if not self._rows(f"SELECT 1 FROM {known.table.name} LIMIT 1"):
            return None
        saved = _saved_name(known.id, level)
        # Made once in a run, as it takes its time. It has no keys or constraints.
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {saved} ENGINE=InnoDB "
            f"SELECT {known.columns} FROM {known.table.name} WHERE FALSE"
        )
        with self._transaction():
            self._execute(f"DELETE FROM {saved}")
            self._copy(known.table.name, saved, known)
        return saved

    def _copy(self, source: str, target: str, known: _Known) -> None:
        self._execute(
            f"INSERT INTO {target} ({known.columns}) "
            f"SELECT {known.columns} FROM {source}"
        )

    # The marks

    def _has_marks(self) -> bool:
        """Tell whether there is something to put back, once all of it is committed."""
        deadline = time.monotonic() + settings.lock_timeout
        while True:
            try:
                # NOWAIT, since the server would count the time in whole seconds.
                return bool(
                    self._rows("SELECT DISTINCT id FROM txtest_dirty FOR UPDATE NOWAIT")
                )
            except DatabaseError as error:
                is_late = time.monotonic() > deadline
                if is_late or not self.database.is_lock_timeout(error):
                    raise
            time.sleep(0.01)

    def _marked(self, lock: str = "") -> list[_Known]:
        """Return the tables that were written to, and what they take along."""
        rows = self._rows(f"SELECT DISTINCT id FROM txtest_dirty {lock}")
        numbers = {number for (number,) in rows}
        names = {known.table.name for known in self._unlogged()}
        more = {name for name, known in self._tables.items() if known.id in numbers}
        while more:
            names |= more
            more = {
                child for name in more for child in self._schema.cascades.get(name, ())
            }
            more -= names
        return [self._tables[name] for name in sorted(names)]

    def _take_marks(self) -> list[_Known]:
        # Under its transaction's isolation, nobody can add marks until it ends.
        marked = self._marked("FOR UPDATE")
        self._execute("DELETE FROM txtest_dirty")
        return marked

    def _mark_all(self) -> None:
        self._insert_ids("txtest_dirty", [known.id for known in self._tables.values()])

    def _insert_ids(self, table: str, ids: Iterable[int]) -> None:
        values = ", ".join(f"({number:d})" for number in ids)
        if values:
            self._execute(f"INSERT INTO {table} VALUES {values}")

    def _unlogged(self) -> list[_Known]:
        """Return the tables whose rows stay in a rollback, which takes the marks."""
        return [
            known for known in self._tables.values() if known.table.engine != "InnoDB"
        ]

    # What is kept in the database

    def _is_installed(self) -> bool:
        if not self.database.has_table("txtest_state"):
            return False
        # An older version has another row there, or more or fewer columns.
        state = self._rows("SELECT * FROM txtest_state")
        return state == [(self._migrations(), _FINGERPRINT)]

    def _install(self) -> None:
        self._uninstall()
        for statement in _INSTALL:
            self._execute(f"{statement} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")
        for number, table in enumerate(self.database.described_tables(), 1):
            self._tables[table.name] = known = _Known(number, table)
            saved = self._saved[table.name] = self._save(known, Level.MIGRATED)
            description = [table.columns, table.definition, table.engine]
            self._execute(
                "INSERT INTO txtest_tables VALUES (%s, %s, %s, %s)",
                [number, table.name, json.dumps(description), saved],
            )
        self._watch()
        self._execute(
            "INSERT INTO txtest_state VALUES (%s, %s)",
            [self._migrations(), _FINGERPRINT],
        )
        self._schema.look(self._schema.count())

    def _load(self) -> None:
        rows = self._rows("SELECT id, name, description, saved FROM txtest_tables")
        for number, name, description, saved in rows:
            columns, definition, engine = json.loads(description)
            table = MySQLTable(name, tuple(columns), definition, engine)
            self._tables[name] = _Known(number, table)
            self._saved[name] = saved
        # A run that was killed may have left them so.
        self._schema.recreate_triggers()
        with self._transaction():
            self._execute("INSERT INTO txtest_dirty SELECT id FROM txtest_class")
            self._execute("DELETE FROM txtest_class")

    def _uninstall(self) -> None:
        if self.database.has_table("txtest_triggers"):
            self._schema.recreate_triggers()
        for _, name in self._schema.all_triggers():
            if name.startswith("txtest_"):
                self._execute(f"DROP TRIGGER `{name}`")
        for (name,) in self._rows(
            "SELECT TABLE_NAME FROM information_schema.TABLES "
            "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'txtest|_%' ESCAPE '|'"
        ):
            self._execute(f"DROP TABLE `{name}`")

    def _watch(self) -> None:
        """Make the triggers that are not there."""
        present = {name for _, name in self._schema.all_triggers()}
        for name, known in self._tables.items():
            for operation in ("INSERT", "UPDATE", "DELETE"):
                if f"txtest_{operation}_{known.id}" not in present:
                    self._execute(
                        _TRIGGER.format(operation=operation, id=known.id, table=name)
                    )

    def _migrations(self) -> str:
        if not self.database.has_table("django_migrations"):
            return ""
        [row] = self._rows("SELECT COUNT(*), MAX(id) FROM django_migrations")
        return repr(row)

    # The schema

    def _learn_new_tables(self, level: Level) -> None:
        """Take note of the tables that are new at the level, and look at all."""
        new_tables = self._new_tables(accept_changes=level is Level.CLASS)
        ids = [known.id for known in self._tables.values()]
        # Not one that was used before: triggers may be there that mark it.
        first = max([self._highest_id, *ids]) + 1
        for self._highest_id, table in enumerate(new_tables, first):
            for other in Level:
                saved = _saved_name(self._highest_id, other)
                self._execute(f"DROP TABLE IF EXISTS {saved}")
            self._tables[table.name] = _Known(self._highest_id, table)
            self._saved[table.name] = None
        self._watch()
        self._mark_all()

    def _mend_schema(self) -> dict[str, str]:
        """Drop the tables that the test created; raise if it did anything else.

        Whatever it was, rows may have changed that no trigger saw. Returns what the
        server has counted then.
        """
        for table in self._new_tables():
            self._execute(f"DROP TABLE {table.name}")
        self._watch()
        self._mark_all()
        return self._schema.count()

    def _new_tables(self, accept_changes: bool = False) -> list[MySQLTable]:
        """Return the tables that are not known; raise if one that is was altered."""
        current = {table.name: table for table in self.database.described_tables()}
        for name, known in self._tables.items():
            if current.get(name) != known.table and not accept_changes:
                raise self.schema_error([f"altered {name}"])
        return [table for name, table in current.items() if name not in self._tables]

    # Statements

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Within the block, no check and no trigger acts, and waiting is bounded."""
        with self.database.exact_writes(settings.lock_timeout):
            yield


def _saved_name(number: int, level: Level) -> str:
    return f"txtest_{level.name.lower()}_{number}"

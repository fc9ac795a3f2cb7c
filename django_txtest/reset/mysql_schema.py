"""What the schema of a MariaDB or MySQL test database is, and whether it has changed.

To look takes its time, so that what was seen is kept for as long as nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django_txtest.databases import MySQL

# The server counts the statements of everybody, also those within procedures.
_SCHEMA_COUNTERS = (
    "Com_alter_table",
    "Com_create_table",
    "Com_drop_table",
    "Com_rename_table",
    "Com_truncate",
)
_TRIGGER_COUNTERS = ("Com_create_trigger", "Com_drop_trigger")
_ALL_COUNTERS = (*_SCHEMA_COUNTERS, *_TRIGGER_COUNTERS)
_COUNT = f"SHOW GLOBAL STATUS WHERE Variable_name IN {_ALL_COUNTERS}"

_CASCADES = """
SELECT REFERENCED_TABLE_NAME, TABLE_NAME
FROM information_schema.REFERENTIAL_CONSTRAINTS
WHERE CONSTRAINT_SCHEMA = DATABASE()
  AND NOT (DELETE_RULE IN ('RESTRICT', 'NO ACTION')
           AND UPDATE_RULE IN ('RESTRICT', 'NO ACTION'))
"""

_TRIGGERS = """
SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME
FROM information_schema.TRIGGERS
WHERE TRIGGER_SCHEMA = DATABASE()
ORDER BY EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER
"""


@dataclass
class _Look:
    """What was there when this process last looked at a database."""

    counters: dict[str, str] = field(default_factory=dict)
    #: The tables whose rows change with those of others, by foreign keys.
    cascades: dict[str, set[str]] = field(default_factory=dict)
    #: The user's own triggers of each table.
    triggers: dict[str, list[str]] = field(default_factory=dict)


# It has to outlive the test classes, as another look takes its time.
_looks: dict[object, _Look] = {}


class MySQLStatements:
    """Executes what is not a test's."""

    database: MySQL

    def _execute(self, sql: str, params: list[Any] | None = None) -> None:
        with self.database.connection.cursor() as cursor:
            cursor.execute(sql, params)

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._execute("BEGIN")
        try:
            yield
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")


class MySQLSchema(MySQLStatements):
    """Foreign keys that act, and the user's own triggers.

    What the server counts tells whether to look again.
    """

    def __init__(self, database: MySQL) -> None:
        self.database = database
        wanted = database.connection.settings_dict
        self._key = wanted["HOST"], wanted["PORT"], wanted["NAME"]

    def count(self) -> dict[str, str]:
        """Return how many statements that change the schema the server has counted."""
        return dict(self._rows(_COUNT))

    def has_changed(
        self, counters: dict[str, str], names: Iterable[str] = _SCHEMA_COUNTERS
    ) -> bool:
        """Tell whether, since the last look, tables may have changed."""
        seen = self._seen.counters
        return any(seen.get(name) != counters.get(name) for name in names)

    def look(self, counters: dict[str, str]) -> None:
        """If anything has changed, look at foreign keys and triggers again."""
        if not self.has_changed(counters, _ALL_COUNTERS):
            return
        look = _looks[self._key] = _Look(counters)
        for parent, child in self._rows(_CASCADES):
            look.cascades.setdefault(f"`{parent}`", set()).add(f"`{child}`")
        for table, name in self.all_triggers():
            if not name.startswith("txtest_"):
                look.triggers.setdefault(f"`{table}`", []).append(name)

    def note(self, names: Iterable[str] = _ALL_COUNTERS) -> None:
        """Take what was done just now for nothing to look at."""
        now = self.count()
        self._seen.counters.update((name, now[name]) for name in names)

    def forget(self) -> None:
        """Have everything looked at again."""
        _looks.pop(self._key, None)

    @property
    def cascades(self) -> dict[str, set[str]]:
        """The tables whose rows change with those of others, by foreign keys."""
        return self._seen.cascades

    @property
    def has_triggers(self) -> bool:
        """Whether the user has triggers of their own."""
        return bool(self._seen.triggers)

    def all_triggers(self) -> list[tuple[Any, ...]]:
        """Return the tables and names of all triggers, ours too, as they act."""
        return self._rows(_TRIGGERS)

    @property
    def _seen(self) -> _Look:
        return _looks.setdefault(self._key, _Look())

    @contextmanager
    def triggers_off(self, tables: Iterable[str]) -> Iterator[None]:
        """Within the block, be without the user's own triggers on the tables.

        They cannot be switched off, only dropped and made anew; what they are is kept,
        for if this process is killed in between.
        """
        names = [
            name for table in tables for name in self._seen.triggers.get(table, [])
        ]
        for position, name in enumerate(names):
            [(_, sql_mode, statement, *_)] = self._rows(f"SHOW CREATE TRIGGER `{name}`")
            self._execute(
                "INSERT INTO txtest_triggers VALUES (%s, %s, %s, %s)",
                [position, name, sql_mode, statement],
            )
        for name in names:
            self._execute(f"DROP TRIGGER `{name}`")
        try:
            yield
        finally:
            if names:
                self.recreate_triggers()

    def recreate_triggers(self) -> None:
        """Make the triggers anew that `triggers_off` dropped, be it in another run."""
        rows = self._rows(
            "SELECT name, sql_mode, statement FROM txtest_triggers ORDER BY position"
        )
        for name, sql_mode, statement in rows:
            self._execute(f"DROP TRIGGER IF EXISTS `{name}`")
            with self.database.variables({"sql_mode": f"'{sql_mode}'"}):
                self._execute(statement)
        if rows:
            self._execute("DELETE FROM txtest_triggers")
            self.note(_TRIGGER_COUNTERS)

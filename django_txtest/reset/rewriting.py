"""The way back for any vendor: empty every table, write the saved rows again.

That is what Django's flush does, and then some; its cost grows with the schema.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from django_txtest.conf import settings
from django_txtest.databases import Database, Table
from django_txtest.reset.base import Baseline, Level

Contents: TypeAlias = list[tuple[Table, list[Any]]]

# What migrations left in each database that this process has seen. It has to outlive
# the test classes, and there is no object of Django's that lives as long.
_migrated: dict[tuple[str, object], Contents] = {}


class RewritingBaseline(Baseline):
    """Holds the rows of every table in memory."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        name = str(database.connection.settings_dict["NAME"])
        self._key = name, database.identity()
        self._levels: dict[Level, Contents] = {}

    def begin_class(self) -> None:
        """Learn what migrations left; if that is known, restore it."""
        if self._key in _migrated:
            self._levels = {Level.MIGRATED: _migrated[self._key]}
            self.restore()
        else:
            self.keep(Level.MIGRATED)
            _migrated[self._key] = self._levels[Level.MIGRATED]

    def keep(self, level: Level) -> None:
        """Make what is in the database now the level, in place of one that is there."""
        self._levels[level] = [
            (table, self.database.read(table)) for table in self.database.tables()
        ]

    def forget(self, level: Level) -> None:
        """Give the level up, if it is there: the next restore goes to one below."""
        self._levels.pop(level, None)

    def restore(self) -> None:
        """Put the database back to the highest level."""
        contents = self._levels[max(self._levels)]
        saved = {table.name: (table, rows) for table, rows in contents}
        current = {table.name: table for table in self.database.tables()}
        for name, (table, _) in saved.items():
            if current.get(name) != table:
                raise self.schema_error([f"altered {name}"])
        created: Contents = [
            (table, []) for name, table in current.items() if name not in saved
        ]
        with (
            self.lock_errors(),
            self.database.bounded_lock_waits(settings.lock_timeout),
        ):
            self.database.replace([*saved.values(), *created])

"""What a way to put a database back has to do."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, TypeAlias

from django.db import DatabaseError

from django_txtest.databases import Database, Table
from django_txtest.exceptions import DatabaseNotSupported, SchemaChanged

#: The rows of tables, by their names, each with a value for each of its columns.
TableRows: TypeAlias = "dict[str, list[tuple[Any, ...]]]"


def fingerprint(*script: str) -> str:
    """Return what is kept with what a script installs, to know another version's by."""
    return hashlib.sha256("\0".join(script).encode()).hexdigest()[:32]


class LocksHeld(Exception):
    """The database could not be put back in time: another session is in the way."""


class Level(IntEnum):
    """How much lies under what is put back: each level is on top of those before."""

    MIGRATED = 1
    CLASS = 2
    CHECKPOINT = 3


class Baseline(ABC):
    """What one database is put back to, at up to three levels.

    The first is the database as migrations left it. The second adds, for as long as a
    test class runs, what the class put there for all of its tests. The third adds, for
    a part of a test, what the test had done by then.
    """

    #: Whether the connection can stay open from test to test.
    keeps_connection = False
    #: Whether what was learned is kept in the database itself.
    outlives_process = False

    def __init__(self, database: Database) -> None:
        self.database = database

    @abstractmethod
    def begin_class(self) -> None:
        """Learn what migrations left; if that is known, restore it."""

    @abstractmethod
    def keep(self, level: Level) -> None:
        """Make what is in the database now the level, in place of one that is there.

        :raises LocksHeld: as `restore` does.
        """

    @abstractmethod
    def forget(self, level: Level) -> None:
        """Give the level up, if it is there: the next restore goes to one below."""

    def adopt(self) -> None:
        """In a clone, have what the database had when it was cloned be what it goes to.

        :raises DatabaseNotSupported: if that cannot be known there.
        """
        raise DatabaseNotSupported(
            f"A clone of the database {self.database.connection.alias!r} cannot be put "
            f"back. Only test databases that Django's runner made on PostgreSQL or "
            f"SQLite can, where the role may install triggers. Leave executor= out."
        )

    @abstractmethod
    def restore(self) -> None:
        """Put the database back to the highest level.

        :raises LocksHeld: if that is not possible within the setting's lock timeout.
        """

    def take_back(self, tables: Mapping[str, Table], told: TableRows) -> None:
        """Restore, and tell what the tables had that were written to since.

        Of all tables, where it is not known which were.

        :param tables: by their names.
        :param told: where their rows are added, unless it has them: a repetition, after
            an error, comes too late for some.
        :raises LocksHeld: as `restore` does.
        """
        self._tell(tables.values(), told)
        self.restore()

    # For those who implement the above

    def _tell(self, tables: Iterable[Table], told: TableRows) -> None:
        for table in tables:
            if table.name not in told:
                told[table.name] = self.database.read_values(table)

    @contextmanager
    def lock_errors(self) -> Iterator[None]:
        """Within the block, that a lock could not be had in time is `LocksHeld`."""
        try:
            yield
        except DatabaseError as error:
            if self.database.is_lock_timeout(error):
                raise LocksHeld from error
            raise

    def schema_error(self, changes: Sequence[str]) -> SchemaChanged:
        """Return the error for what a test did to the schema that cannot be undone."""
        return SchemaChanged(
            f"In the database {self.database.connection.alias!r} this test, or one "
            f"before it, {' and '.join(changes)}, which cannot be undone. Let the test "
            f"undo it itself, before it ends. This test database is spoiled: run again "
            f"without --keepdb."
        )

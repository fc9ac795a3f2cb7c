"""What a way to put a database back has to do."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

from django_txtest.databases import Database


def schema_message(database: Database, changes: Sequence[str]) -> str:
    """Say what a test did to the schema that cannot be undone."""
    return (
        f"In the database {database.connection.alias!r} this test, or one before it, "
        f"{' and '.join(changes)}, which cannot be undone. Let the test undo it "
        f"itself, before it ends. This test database is spoiled: run again without "
        f"--keepdb."
    )


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

    def written_tables(self) -> set[str] | None:
        """Return the names of the tables written to since; None if one cannot tell."""
        return None

    @abstractmethod
    def restore(self) -> None:
        """Put the database back to the highest level.

        :raises LocksHeld: if that is not possible within the setting's lock timeout.
        """

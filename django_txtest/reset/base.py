"""What a way to put a database back has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from django_txtest.databases import Database


def schema_message(database: Database, changes: Sequence[str]) -> str:
    """Say what a test did to the schema that cannot be undone."""
    return (
        f"In the database {database.connection.alias!r} this test, or one before it, "
        f"{' and '.join(changes)}, which cannot be undone. Let the test undo it "
        f"itself, before it ends. This test database is spoiled: run again without "
        f"--keepdb."
    )


class LocksHeld(Exception):
    """The database could not be put back in time: another session is in the way."""


class Baseline(ABC):
    """What one database is put back to, at two levels.

    The first is the database as migrations left it. The second adds, for as long as a
    test class runs, what the class put there for all of its tests.
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
    def keep_class_data(self) -> None:
        """Make what is in the database now the second level."""

    @abstractmethod
    def forget_class_data(self) -> None:
        """Give the second level up: the next restore goes back to the first."""

    @abstractmethod
    def restore(self) -> None:
        """Put the database back.

        :raises LocksHeld: if that is not possible within the setting's lock timeout.
        """

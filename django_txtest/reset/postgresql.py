"""The way back for PostgreSQL: triggers note which tables were written to.

Only those are put back, from rows that were saved in the database itself, so that the
cost does not grow with the schema. Whoever wrote, in whatever way, was seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cache, cached_property
from importlib import resources
from typing import Any

from django.db import DatabaseError, transaction

from django_txtest.conf import settings
from django_txtest.databases import PostgreSQL, Table
from django_txtest.reset.base import Baseline, Level, LocksHeld, TableRows, fingerprint


class PostgreSQLBaseline(Baseline):
    """Works through the functions of postgresql.sql."""

    keeps_connection = True
    outlives_process = True
    database: PostgreSQL

    @cached_property
    def has_functions(self) -> bool:
        """Whether the functions of this version are in the database."""
        (installed,) = self._row(
            "SELECT obj_description(to_regnamespace('txtest'), 'pg_namespace')"
        )
        return bool(installed == fingerprint(_script()))

    def begin_class(self) -> None:
        """Learn what migrations left; if that is known, restore it."""
        if self._is_installed():
            self.restore()
            return
        with self.lock_errors():
            self._install()

    def adopt(self) -> None:
        """In a clone there is nothing to do: all levels are in the database."""

    def keep(self, level: Level) -> None:
        """Make what is in the database now the level, in place of one that is there."""
        try:
            with self.lock_errors():
                self._row(f"SELECT txtest.keep({level:d}, {_lock_timeout()})")
        except DatabaseError as error:
            if self.database.is_usable():
                self._refuse_changes(self._schema_changes(), error)
            raise

    def forget(self, level: Level) -> None:
        """Give the level up, if it is there: the next restore goes to one below."""
        self._row(f"SELECT txtest.forget({level:d})")

    def restore(self) -> None:
        """Put the database back to the highest level."""
        deadline = time.monotonic() + settings.lock_timeout
        is_done, _ = self._restore()
        while not is_done:
            # What is not committed yet could be after the restore: wait for it.
            if time.monotonic() > deadline:
                raise LocksHeld
            time.sleep(0.01)
            is_done, _ = self._restore()

    def take_back(self, tables: Mapping[str, Table], told: TableRows) -> None:
        """Restore, and tell what the tables had that were written to since."""
        is_done, written = self._restore(tells=True)
        for name, rows in json.loads(written):
            if name in tables and name not in told:
                told[name] = list(map(tuple, rows))
        if not is_done:
            self.restore()

    def _restore(self, *, tells: bool = False) -> tuple[bool, str]:
        """Put back what is committed; return whether there was no more to do.

        And what there was in the tables written to, as JSON, if it `tells`.
        """
        try:
            # In this order: who commits in between is waited for in the next round.
            with self.lock_errors():
                has_writers, told, _, is_same_schema, _ = self._row(
                    f"SELECT txtest.has_writers(), "
                    f"txtest.restore({_lock_timeout()}, {tells}), "
                    f"txtest.restore_sequences(), txtest.is_same_schema(), "
                    f"pg_advisory_unlock_all()"
                )
        except DatabaseError as error:
            if self.database.is_usable():
                self._mend_schema(error)
            raise
        if not is_same_schema:
            self._mend_schema()
        return is_same_schema and not has_writers, told

    def _is_installed(self) -> bool:
        """Tell whether level 1 is known; if so, it is the highest from now on."""
        if not self.has_functions:
            return False
        is_complete, _ = self._row(
            f"SELECT txtest.is_complete(), txtest.forget({Level.CLASS:d})"
        )
        return bool(is_complete)

    def _install(self) -> None:
        connection = self.database.connection
        with transaction.atomic(connection.alias), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {_lock_timeout()}")
            cursor.execute("DROP SCHEMA IF EXISTS txtest CASCADE")
            cursor.execute(_script())
            cursor.execute(f"COMMENT ON SCHEMA txtest IS '{fingerprint(_script())}'")
            cursor.execute(f"SELECT txtest.keep(1, {_lock_timeout()})")

    def _mend_schema(self, error: DatabaseError | None = None) -> None:
        """Drop the tables that the test created; raise if it did anything else.

        :param error: what came of it, if that is how it was noticed.
        """
        with self.database.connection.cursor() as cursor:
            cursor.execute("SELECT txtest.doubt_everything()")
            changes = self._schema_changes()
            for change, name, kind in changes:
                if change == "created":
                    what = "MATERIALIZED VIEW" if kind == "m" else "TABLE"
                    cursor.execute(f"DROP {what} IF EXISTS {name} CASCADE")
        self._refuse_changes(changes, error)
        self._row("SELECT txtest.note_schema()")

    def _schema_changes(self) -> list[tuple[str, str, str]]:
        with self.database.connection.cursor() as cursor:
            cursor.execute("SELECT change, name, kind FROM txtest.schema_changes()")
            changes: list[tuple[str, str, str]] = cursor.fetchall()
            return changes

    def _refuse_changes(
        self, changes: list[tuple[str, str, str]], error: DatabaseError | None
    ) -> None:
        undone = [
            f"{change} {name}" for change, name, _ in changes if change != "created"
        ]
        if undone:
            raise self.schema_error(undone) from (error and error.__cause__)

    def _row(self, sql: str) -> tuple[Any, ...]:
        with self.database.connection.cursor() as cursor:
            cursor.execute(sql)
            row: tuple[Any, ...] = cursor.fetchone()
            return row


@cache
def _script() -> str:
    return resources.files("django_txtest.reset").joinpath("postgresql.sql").read_text()


def _lock_timeout() -> int:
    """Return the setting in milliseconds, as PostgreSQL has it."""
    return max(1, round(settings.lock_timeout * 1000))

"""The two layers of rows that lie under a test, and their way back.

The first is the database as migrations left it; the second adds what a test class
put there for all of its tests. After each test the second is restored, after the
class the first.

Today a restore empties every table and writes the saved rows again, as Django's
flush does. Its cost grows with the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from django.apps import apps
from django.db import DatabaseError, connections

from django_txtest.conf import settings
from django_txtest.databases import Database, Table, get_database
from django_txtest.exceptions import LeftoverSession, SchemaChanged
from django_txtest.reset.leftovers import Leftovers

Contents: TypeAlias = list[tuple[Table, list[Any]]]

# What migrations left in each database that this process has seen. It has to outlive
# the test classes, and there is no object of Django's that lives as long.
_migrated: dict[tuple[str, object], Contents] = {}


class Layers:
    """The layers of the databases that one test class uses.

    :param aliases: the databases, without mirrors.
    :param leftovers: the connections of other threads, which may be in the way.
    """

    def __init__(self, aliases: Sequence[str], leftovers: Leftovers) -> None:
        self._aliases = aliases
        self._leftovers = leftovers
        self._keys: dict[str, tuple[str, object]] = {}
        self._class_data: dict[str, Contents] = {}

    def begin_class(self) -> None:
        """Start from what migrations left, also if an earlier test flushed it away."""
        for alias in self._aliases:
            database = get_database(connections[alias])
            database.put_connection_right()
            key = self._keys[alias] = _key(database)
            if key in _migrated:
                self._restore(database, _migrated[key])
            else:
                _migrated[key] = _read(database)

    def keep_class_data(self) -> None:
        """Make what is in the databases now the state that every test begins with."""
        for alias in self._aliases:
            self._class_data[alias] = _read(get_database(connections[alias]))

    def end_test(self) -> None:
        """Put the class's data back as it was before the test."""
        for alias, contents in self._class_data.items():
            self._restore(get_database(connections[alias]), contents)

    def end_class(self) -> None:
        """Put the databases back as migrations left them."""
        for alias, key in self._keys.items():
            self._restore(get_database(connections[alias]), _migrated[key])

    def _restore(self, database: Database, contents: Contents) -> None:
        database.put_connection_right()
        self._leftovers.close_ended()
        try:
            with database.bounded_lock_waits(settings.lock_timeout):
                _write(database, contents)
        except DatabaseError as error:
            if not database.is_lock_timeout(error):
                raise
            blockers = self._end_blockers(database)
            with database.bounded_lock_waits(settings.lock_timeout):
                _write(database, contents)
            raise LeftoverSession(
                f"The database {database.connection.alias!r} could not be put back for "
                f"{settings.lock_timeout:g} s (TXTEST_LOCK_TIMEOUT), because a session "
                f"that the test left behind held locks: {'; '.join(blockers)}. "
                f"It was ended and the database put back, so the next test is safe. "
                f"Let the test end its threads, processes and transactions itself."
            ) from error
        finally:
            _clear_caches()

    def _end_blockers(self, database: Database) -> list[str]:
        holders = database.lock_holders()
        for holder in holders:
            database.terminate(holder.pid)
        threads = self._leftovers.end_sessions(database.connection.alias)
        return [str(holder) for holder in holders] or [
            f"a connection of thread {name!r}" for name in threads
        ]


def _key(database: Database) -> tuple[str, object]:
    return str(database.connection.settings_dict["NAME"]), database.identity()


def _read(database: Database) -> Contents:
    return [(table, database.read(table)) for table in database.tables()]


def _write(database: Database, contents: Contents) -> None:
    saved = {table.name: (table, rows) for table, rows in contents}
    current = {table.name: table for table in database.tables()}
    for name, (table, _) in saved.items():
        if current.get(name) != table:
            raise SchemaChanged(
                f"A test dropped or altered the table {name} of the database "
                f"{database.connection.alias!r}, which cannot be undone. Let the test "
                f"undo it itself, before it ends. This test database is spoiled: run "
                f"again without --keepdb."
            )
    created: Contents = [
        (table, []) for name, table in current.items() if name not in saved
    ]
    database.replace([*saved.values(), *created])


def _clear_caches() -> None:
    # Both map keys to rows that a restore may have replaced.
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes.models import ContentType

        ContentType.objects.clear_cache()
    if apps.is_installed("django.contrib.sites"):
        from django.contrib.sites.models import Site

        Site.objects.clear_cache()

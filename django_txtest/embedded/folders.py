"""The temporary folders of a server: its cluster, and the programs if need be."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from django_txtest.embedded.account import Account
from django_txtest.embedded.cluster import version
from django_txtest.embedded.errors import ServerError

MEMORY = Path("/dev/shm")
ROOM_NEEDED = 512 * 2**20
# "/.s.PGSQL.5432.lock" and the end of the string have to fit in sun_path, of which
# the smallest one (macOS) has 104 bytes.
LONGEST_FOLDER = 103 - len("/.s.PGSQL.65535.lock")
REMOVE_SECONDS = 15


def cluster_folder(account: Account, cleanup: ExitStack) -> Path:
    """Make the folder, 0700, that holds the data and the socket."""
    choices = (MEMORY, *_temporary_folders())
    for parent in choices:
        if _suits(parent, account) and (parent != MEMORY or _has_room(parent)):
            folder = _make(parent, cleanup)
            account.own(folder)
            return folder
    raise ServerError(
        "no folder for temporary files has a short enough path and lets the server's "
        f"account in: tried {', '.join(map(str, choices))}"
    )


def reachable_binaries(folder: Path, account: Account, cleanup: ExitStack) -> Path:
    """Return the folder, or a copy of it where the account cannot run what it holds."""
    try:
        version(folder, account)
    except (OSError, subprocess.SubprocessError) as error:
        if not account.is_other:
            raise ServerError(
                f"cannot run the programs in {folder}: {error}"
            ) from error
    else:
        return folder
    for parent in _temporary_folders():
        if _suits(parent, account):
            return _copy(folder, _make(parent, cleanup), account)
    raise ServerError(f"the account that runs PostgreSQL cannot reach {folder}")


def _temporary_folders() -> list[Path]:
    # A TMPDIR of our own may be closed to others, or too long for a socket's path.
    return [Path(name) for name in dict.fromkeys((tempfile.gettempdir(), "/tmp"))]


def _suits(parent: Path, account: Account) -> bool:
    return (
        parent.is_dir()
        and os.access(parent, os.W_OK)
        and account.can_enter(parent)
        and len(os.fsencode(parent)) + len("/txtest-12345678-12345678")
        <= LONGEST_FOLDER
    )


def _has_room(folder: Path) -> bool:
    return shutil.disk_usage(folder).free >= ROOM_NEEDED


def _make(parent: Path, cleanup: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"txtest-{os.getpid()}-", dir=parent))
    cleanup.callback(remove, folder)
    return folder


def remove(folder: Path) -> None:
    """Remove a folder, though orphans of a killed process may go on writing to it."""
    with suppress(OSError):  # under a new name, so that they do not find it again
        folder = folder.rename(folder.with_name(f"{folder.name}-gone"))
    deadline = time.monotonic() + REMOVE_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0 if not folder.exists() else 0.05)


def _copy(folder: Path, target: Path, account: Account) -> Path:
    """Copy an installation and keep the layout ``<package>/<installation>/bin``.

    The programs of a wheel look for their libraries in ``../../../<package>.libs``.
    """
    install = folder.resolve().parent
    package = install.parent
    wanted = {
        part: target / package.name / install.name / part.name
        for part in map(install.joinpath, ("bin", "lib", "share"))
    }
    libraries = package.with_name(f"{package.name}.libs")
    wanted[libraries] = target / libraries.name
    for source, copy in wanted.items():
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.a"))
    account.own(target, *target.rglob("*"))
    return target / package.name / install.name / folder.resolve().name

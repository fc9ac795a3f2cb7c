"""The account that PostgreSQL's programs run as, since they refuse to run as root."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django_txtest.embedded.errors import ServerError


@dataclass(frozen=True)
class Account:
    """A user and group to switch to, or None for the account we have."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls) -> Account:
        """Return ``nobody`` for root, and our own account otherwise."""
        if sys.platform == "win32" or os.geteuid() != 0:
            return cls()
        import pwd

        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            raise ServerError(
                "PostgreSQL refuses to run as root, and this system has no account "
                "'nobody' that could run it"
            ) from None
        return cls(entry.pw_uid, entry.pw_gid)

    @property
    def is_other(self) -> bool:
        """Tell whether programs run as somebody else than we."""
        return self.uid is not None

    @property
    def process_options(self) -> dict[str, Any]:
        """Return the arguments for ``subprocess`` that switch to this account."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Tell whether the account may go down to the folder."""
        if not self.is_other:
            return os.access(folder, os.X_OK)
        folder = folder.resolve()
        return all(
            part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents)
        )

    def own(self, *paths: Path) -> None:
        """Give the paths to the account."""
        if self.uid is not None and self.gid is not None:
            for path in paths:
                os.chown(path, self.uid, self.gid)

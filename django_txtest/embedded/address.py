"""How to reach a server: as Django settings, as a URL, as text between processes."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Address:
    """Where a throw-away server listens; ``host`` is a socket folder, or an IP."""

    host: str
    port: int = 5432
    user: str = "postgres"
    name: str = "postgres"

    def settings(self) -> dict[str, Any]:
        """Return an entry of Django's DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": self.name,
            "USER": self.user,
            "PASSWORD": "",
            "HOST": self.host,
            "PORT": str(self.port),
        }

    def url(self) -> str:
        """Return a URL which both libpq and dj-database-url understand."""
        host = quote(self.host, safe="")
        return f"postgresql://{self.user}@{host}:{self.port}/{self.name}"

    def answers(self) -> bool:
        """Tell whether a server accepts connections there."""
        try:
            if sys.platform == "win32":
                socket.create_connection((self.host, self.port), timeout=5).close()
            else:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(5)
                    client.connect(f"{self.host}/.s.PGSQL.{self.port}")
        except OSError:
            return False
        return True

    def dumps(self) -> str:
        """Return the address as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Address:
        """Return the address that ``dumps`` wrote, or raise ValueError."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not an address: {text!r}") from error

"""What the errors of all drivers have in common."""

from __future__ import annotations


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE code of a database's error, or of one that caused it."""
    while error is not None:
        # psycopg 3 says sqlstate, psycopg 2 says pgcode.
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if isinstance(code, str):
            return code
        error = error.__cause__
    return ""

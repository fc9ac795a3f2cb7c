"""Which databases the code that is running now may use."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

# Private: what SimpleTestCase and its subclasses put in place of the methods of the
# connections that a test did not list in `databases`. There is no public way to ask.
from django.test.testcases import _DatabaseFailure

from django_txtest.exceptions import DatabaseNotAllowed


def allowed_aliases() -> list[str]:
    """Return the aliases that the running test may use; outside of a test, all."""
    in_process = getattr(BaseDatabaseWrapper.connect, "allowed_aliases", connections)
    return [
        alias
        for alias in in_process
        if not isinstance(connections[alias].connect, _DatabaseFailure)
    ]


def refuse_other_databases(aliases: Collection[str]) -> None:
    """For the rest of this process, refuse to connect to any but `aliases`."""
    connect = BaseDatabaseWrapper.connect

    def connect_if_allowed(self: BaseDatabaseWrapper) -> None:
        if self.alias not in aliases:
            raise DatabaseNotAllowed(
                f"A concurrent call used the database {self.alias!r}, which the test "
                f"that made the call may not use. Add it to the test's `databases`."
            )
        connect(self)

    connect_if_allowed.allowed_aliases = tuple(aliases)  # type: ignore[attr-defined]
    # On the class: threads of the call make connections of their own.
    BaseDatabaseWrapper.connect = connect_if_allowed  # type: ignore[method-assign]

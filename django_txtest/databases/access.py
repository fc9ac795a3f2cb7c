"""Which databases the code that is running now may use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import SimpleTestCase, TestCase

from django_txtest.exceptions import DatabaseNotAllowed


def running_test_class() -> type[SimpleTestCase] | None:
    """Return the Django test class whose tests are running, in whatever thread."""
    # Private: while it runs, a class has ensure_connection patched with a function that
    # closes over it. What else Django changes, it changes in the main thread only.
    closure = inspect.getclosurevars(BaseDatabaseWrapper.ensure_connection).nonlocals
    cls = closure.get("cls")
    is_class = isinstance(cls, type) and issubclass(cls, SimpleTestCase)
    return cls if is_class else None


def is_rolled_back(cls: type[SimpleTestCase] | None) -> bool:
    """Tell whether the tests of the class run in a transaction that is rolled back."""
    if cls is None or not issubclass(cls, TestCase):
        return False
    # Private: the question that TestCase itself asks.
    return bool(cls._databases_support_transactions())  # type: ignore[attr-defined]


def allowed_aliases() -> list[str]:
    """Return the aliases that the running test may use; outside of a test, all."""
    cls = running_test_class()
    if cls is not None:
        return [alias for alias in connections if alias in cls.databases]
    aliases = getattr(BaseDatabaseWrapper.connect, "allowed_aliases", connections)
    # A project that has no database has a dummy, which refuses to connect.
    return [alias for alias in aliases if connections[alias].vendor != "unknown"]


def refuse_other_databases(aliases: Collection[str]) -> Callable[[], None]:
    """Refuse this process to connect to any but `aliases`; return what undoes it."""
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
    return partial(setattr, BaseDatabaseWrapper, "connect", connect)

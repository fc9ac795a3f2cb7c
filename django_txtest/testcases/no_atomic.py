"""NoAtomicMixin: the tests of a TestCase, without the transaction around them."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.test.testcases import (  # type: ignore[attr-defined]
    TestData,
    TransactionTestCase,
)

from django_txtest.databases import get_database
from django_txtest.exceptions import MixinError
from django_txtest.maintenance import maintenance
from django_txtest.reset import Layers, Leftovers
from django_txtest.testcases.on_commit import capture_on_commit_callbacks

if TYPE_CHECKING:
    from django.test import TestCase as _Base
else:
    _Base = object

# The methods of Django's that are overridden here. They are private, and have been
# classmethods since Django 5.2 (setUpClass and setUpTestData always).
_CLASSMETHODS = (
    "setUpClass",
    "setUpTestData",
    "_databases_support_transactions",
    "_fixture_setup",
)


class NoAtomicMixin(_Base):
    """Runs the tests of a TestCase in autocommit mode, so that they really commit.

    Put it before the TestCase: ``class RedeemTests(NoAtomicMixin, ShopTestCase)``.
    Threads, processes and other connections then see what a test writes, locks and
    `durable` blocks act as they do in production, and `on_commit` callbacks run at
    the commit. After each test the databases are put back to what migrations,
    fixtures, `setUpTestData` and `setUpClass` left there.

    `captureOnCommitCallbacks` reports the callbacks; it has no need to execute any,
    as the commit does.

    :raises MixinError: when a class is made in which the mixin cannot work.
    """

    _layers: ClassVar[Layers | None]
    _running_test: ClassVar[str | None]
    _pre_setup_ran_eagerly: ClassVar[bool]
    _available_apps_calls_balanced: ClassVar[int]

    def __init_subclass__(cls, *args: Any, **kwargs: Any) -> None:
        super().__init_subclass__(*args, **kwargs)
        _check_bases(cls)

    def run(self, result: unittest.TestResult | None = None) -> Any:
        """Run the test, and have it known by its name, in whatever thread."""
        type(self)._running_test = self.id()
        return super().run(result)

    @classmethod
    def _databases_support_transactions(cls) -> bool:
        # Everything in TestCase that opens, rolls back or relies on the atomic
        # blocks around a test asks this first.
        return False

    @classmethod
    def setUpClass(cls) -> None:
        """Put the class's data in the databases, once and committed."""
        cls._layers = None
        super().setUpClass()
        # A TransactionTestCase has done the set-up of its first test by now. It is to
        # be done again, after what the setUpClass of a subclass adds.
        cls._pre_setup_ran_eagerly = False
        leftovers = Leftovers()
        leftovers.watch()
        # Cleanups run also if what follows, or a subclass's setUpClass, raises.
        cls.addClassCleanup(cls._unset_available_apps)
        cls.addClassCleanup(cls._close_connections)
        cls.addClassCleanup(leftovers.close_all)
        layers = Layers(cls._own_databases(), leftovers)
        layers.begin_class()
        cls.addClassCleanup(layers.end_class)
        cls._load_class_data()
        cls._layers = layers

    @classmethod
    def _load_class_data(cls) -> None:
        # The order of TransactionTestCase._fixture_setup, then of TestCase.setUpClass.
        for alias in cls._own_databases():
            connection = connections[alias]
            if cls.reset_sequences:
                get_database(connection).reset_sequences()
            serialized = getattr(connection, "_test_serialized_contents", None)
            if cls.serialized_rollback and serialized is not None:
                with cls._all_apps():
                    connection.creation.deserialize_db_from_string(serialized)
            if cls.fixtures:
                with maintenance():  # fixtures may be of read-only models
                    call_command("loaddata", *cls.fixtures, verbosity=0, database=alias)
        if not hasattr(cls, "setUpTestData"):  # a TransactionTestCase has none
            return
        before = dict(vars(cls))
        cls.setUpTestData()
        for name, value in list(vars(cls).items()):
            if value is not before.get(name):
                setattr(cls, name, TestData(name, value))

    @classmethod
    @contextmanager
    def _all_apps(cls) -> Iterator[None]:
        # A TransactionTestCase has its available_apps by now, a TestCase not yet.
        if not cls._available_apps_calls_balanced:
            yield
            return
        apps.unset_available_apps()
        try:
            yield
        finally:
            apps.set_available_apps(cls.available_apps)

    @classmethod
    def _unset_available_apps(cls) -> None:
        # Where TransactionTestCase.tearDownClass, which does so, was not called.
        while cls._available_apps_calls_balanced > 0:
            apps.unset_available_apps()
            cls._available_apps_calls_balanced -= 1

    @classmethod
    def _own_databases(cls) -> list[str]:
        # Private, and the only way to know which of the databases are mirrors.
        names: list[str] = cls._databases_names(  # type: ignore[attr-defined]
            include_mirrors=False
        )
        return names

    @classmethod
    def _close_connections(cls) -> None:
        for connection in connections.all(initialized_only=True):
            connection.close()

    @classmethod
    def _fixture_setup(cls) -> None:
        # Nothing to load: what the tests begin with is already there. Nor is Django's
        # own method called, which would load it again before each test.
        if cls._layers is None:  # within setUpClass
            return
        cls._layers.begin_test()
        if cls.reset_sequences:
            for alias in cls._own_databases():
                get_database(connections[alias]).reset_sequences()

    def _fixture_teardown(self) -> None:
        # After the test rather than before the next one: a plain TestCase that runs
        # next relies on it.
        if self._layers is not None:
            self._layers.end_test()

    def _should_reload_connections(self) -> bool:
        return self._layers is None or not self._layers.keeps_connections

    @classmethod
    def captureOnCommitCallbacks(  # noqa: N802
        cls, *, using: str = DEFAULT_DB_ALIAS, execute: bool = False
    ) -> AbstractContextManager[list[Callable[[], Any]]]:
        """Capture the `on_commit` callbacks that are registered within the block.

        They run when their transaction really commits, whatever `execute` says, and
        are listed in the order in which they ran. Those that still wait for a commit
        at the end of the block are listed last.
        """
        return capture_on_commit_callbacks(using)


def _check_bases(cls: type) -> None:
    bases = cls.__mro__
    test_cases = [base for base in bases if issubclass(base, unittest.TestCase)]
    if not test_cases:
        return  # a mixin made of this mixin
    if not issubclass(cls, TransactionTestCase):
        raise MixinError(
            f"{cls.__qualname__} has NoAtomicMixin, but none of its base classes uses "
            f"the database. Derive it from django.test.TestCase."
        )
    if bases.index(NoAtomicMixin) > bases.index(TransactionTestCase):
        first = cls.__bases__[0].__name__
        raise MixinError(
            f"{cls.__qualname__} has NoAtomicMixin after {first}, where it has no "
            f"effect. Write class {cls.__name__}(NoAtomicMixin, {first})."
        )
    for name in _CLASSMETHODS:
        method = getattr(cls, name, None)
        if method is not None and not inspect.ismethod(method):
            raise MixinError(
                f"{cls.__qualname__} overrides {name}() as an instance method. Make it "
                f"a classmethod."
            )

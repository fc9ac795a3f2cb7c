"""A test runner that can give every TransactionTestCase the fast reset."""

from __future__ import annotations

import argparse
import functools
import types
from typing import Any, ClassVar, SupportsIndex
from unittest import TestSuite

from django.test import TestCase, TransactionTestCase
from django.test.runner import DiscoverRunner
from django.test.utils import iter_test_cases  # type: ignore[attr-defined]

from django_txtest.reset import watch_migrations
from django_txtest.testcases import NoAtomicMixin


class TxTestRunner(DiscoverRunner):
    """Django's own test runner, with the option ``--fast-reset``.

    With it, the tests of each `TransactionTestCase` run as if that had `NoAtomicMixin`:
    only what a test changed is put back after it, and the rows of migrations stay. The
    classes that derive from `TestCase` run as ever, and so do those that say
    ``fast_reset = False``.
    """

    def __init__(self, *args: Any, fast_reset: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fast_reset = fast_reset

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add our option to Django's."""
        super().add_arguments(parser)
        parser.add_argument(
            "--fast-reset",
            action="store_true",
            help="After each test of a TransactionTestCase, put back only what the "
            "test changed, rather than empty every table.",
        )

    def setup_databases(self, **kwargs: Any) -> Any:
        """Make the test databases, and learn what migrations leave in them."""
        if self.fast_reset:
            watch_migrations()  # our app does so too, but may not be installed
        return super().setup_databases(**kwargs)

    def load_tests_for_label(
        self, label: str, discover_kwargs: dict[str, str]
    ) -> TestSuite:
        """Load tests as Django does, and put the mixin below those that are to have it.

        It is done to each test, as the class that a module has is not to change: it may
        be the base of others.
        """
        tests = super().load_tests_for_label(label, discover_kwargs)
        for test in iter_test_cases(tests):
            foundation = self.foundation_of(type(test))
            if foundation is not None:
                test.__class__ = on_foundation(type(test), foundation)  # type: ignore[arg-type]
        return tests

    def foundation_of(self, test_class: type) -> type | None:
        """Return what to put below a class of tests, or None to leave it as it is."""
        is_wanted = (
            self.fast_reset
            and issubclass(test_class, TransactionTestCase)
            and not issubclass(test_class, (TestCase, NoAtomicMixin))
            and getattr(test_class, "fast_reset", True)
        )
        return FastResetTestCase if is_wanted else None


class FastResetTestCase(NoAtomicMixin, TransactionTestCase):
    """What goes below a `TransactionTestCase` with ``--fast-reset``."""


class _Changed:
    """What goes above: the tests of parallel runs are pickled."""

    _origin: ClassVar[tuple[type, type]]

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        # Only the class that it is made of can be found by its name.
        reduced: Any = super().__reduce_ex__(protocol)
        _, (_, *args), *rest = reduced
        return _new, (*self._origin, *args), *rest


class _Changing(type):
    """Lets a class set attributes where code that calls it by its name finds them."""

    _origin: tuple[type, type]

    def __setattr__(cls, name: str, value: object) -> None:
        setattr(cls._origin[0], name, value)

    def __delattr__(cls, name: str) -> None:
        delattr(cls._origin[0], name)


@functools.cache
def on_foundation(test_class: type, foundation: type) -> type:
    """Return a class like `test_class`, as if its base class were `foundation`.

    In the order of its bases, `foundation` comes after all that overrides something of
    Django's, and before what both derive from.
    """
    kind = type(test_class)
    metaclass = _Changing if kind is type else type("_Changing", (_Changing, kind), {})
    names = {
        "__module__": test_class.__module__,
        "__qualname__": test_class.__qualname__,
        "_origin": (test_class, foundation),
    }
    return types.new_class(
        test_class.__name__,
        (_Changed, test_class, foundation),
        {"metaclass": metaclass},
        lambda namespace: namespace.update(names),
    )


def _new(test_class: type, foundation: type, *args: Any) -> Any:
    changed = on_foundation(test_class, foundation)
    return changed.__new__(changed, *args)

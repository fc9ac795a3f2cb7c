"""Assertions over every interleaving of some calls."""

from __future__ import annotations

from typing import Any

from django.test import TestCase

from django_txtest.scheduler import Exploration, explore
from django_txtest.scheduler.api import AnyCall, Invariant
from django_txtest.testcases.no_atomic import NoAtomicMixin


class RaceAssertionsMixin:
    """Asserts what holds however the steps of some calls interleave.

    Use it with `NoAtomicMixin`, or derive from `TxTestCase`, which has both.
    """

    def assertSerializable(  # noqa: N802
        self, *calls: AnyCall, **options: Any
    ) -> Exploration:
        """Fail if the calls can come to what no serial order of them comes to.

        :param calls: as `explore` takes them, and the options too.
        """
        __tracebackhide__ = True  # of pytest
        exploration = explore(*calls, **options)
        exploration.raise_if_failed()
        return exploration

    def assertInvariant(  # noqa: N802
        self, invariant: Invariant, *calls: AnyCall, **options: Any
    ) -> Exploration:
        """Fail if an order of the calls' steps breaks the invariant.

        :param invariant: called with the `Results` of each execution; it returns False
            or raises where it does not hold.
        :param calls: as `explore` takes them, and the options too.
        """
        __tracebackhide__ = True  # of pytest
        exploration = explore(*calls, invariant=invariant, **options)
        exploration.raise_if_failed()
        return exploration


class TxTestCase(NoAtomicMixin, RaceAssertionsMixin, TestCase):
    """A TestCase whose tests really commit, with assertions over interleavings."""

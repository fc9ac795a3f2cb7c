"""The runner of Django's own tests, some of which are known to fail."""

from __future__ import annotations

import os
import unittest

import django.test
from django.test import TestCase

from compatibility.known import known
from django_txtest import NoAtomicMixin
from django_txtest.runner import TxTestRunner

#: Which classes have the mixin: none ("plain"), each TransactionTestCase
#: ("transaction"), or each TestCase too ("all").
MODE = os.environ.get("TXTEST_COMPATIBILITY", "all")


class CommittingTestCase(NoAtomicMixin, TestCase):
    """What is in the place of TestCase."""


if MODE == "all":
    # The modules of the tests are not imported yet.
    django.test.TestCase = CommittingTestCase


class Result(unittest.TextTestResult):
    """Expects the known failures, and takes it ill if there are none."""

    known = known(MODE)

    def addError(self, test, error):  # noqa: D102, N802
        if test.id() in self.known:
            self.addExpectedFailure(test, error)
        else:
            super().addError(test, error)

    def addFailure(self, test, error):  # noqa: D102, N802
        if test.id() in self.known:
            self.addExpectedFailure(test, error)
        else:
            super().addFailure(test, error)

    def addSuccess(self, test):  # noqa: D102, N802
        if test.id() in self.known:
            self.addUnexpectedSuccess(test)
        else:
            super().addSuccess(test)


class Runner(TxTestRunner):
    """Gives each TransactionTestCase the mixin if the mode says so."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, fast_reset=MODE != "plain", **kwargs)

    def build_suite(self, *args, **kwargs):
        """Build the suite, and tell in how many tests the mixin is."""
        suite = super().build_suite(*args, **kwargs)
        count = sum(isinstance(test, NoAtomicMixin) for test in suite)
        self.log(f"{count} of them have the mixin.")
        return suite

    def get_resultclass(self):
        """Return the class of the result."""
        return Result

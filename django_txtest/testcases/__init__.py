"""Mixins for test cases, and a test case that has them."""

from django_txtest.testcases.no_atomic import NoAtomicMixin
from django_txtest.testcases.races import RaceAssertionsMixin, TxTestCase

__all__ = ["NoAtomicMixin", "RaceAssertionsMixin", "TxTestCase"]

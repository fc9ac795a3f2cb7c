"""Mixins for test cases."""

from django_txtest.testcases.no_atomic import NoAtomicMixin

__all__ = ["NoAtomicMixin"]

"""Runs a suite with TxTestRunner, the ways that runners run one."""

from __future__ import annotations

import pickle
import unittest

from django.test import TransactionTestCase

from django_txtest.runner import FastResetTestCase, TxTestRunner, on_foundation
from tests.utils import SuitesMixin


class SomeTests(TransactionTestCase):
    fast_reset = False  # for when this suite itself is run so

    def test(self):
        pass


class SuiteTests(SuitesMixin, unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.environment["TXTEST_SUITE_FAST"] = "1"

    def run_fast(self, *options, count=25, **kwargs):
        self.run_suite(
            "--testrunner=django_txtest.runner.TxTestRunner",
            "--fast-reset",
            *options,
            module="suites.plain",
            count=count,
            **kwargs,
        )

    def test_in_order_and_in_reverse(self):
        self.run_fast()
        self.run_fast("--reverse")

    def test_shuffled(self):
        self.run_fast("--shuffle", "1")

    def test_in_parallel(self):
        self.run_fast("--parallel", "2")

    def test_without_the_app(self):
        self.environment["TXTEST_SUITE_WITHOUT_APP"] = "1"
        self.run_fast("--reverse")

    def test_some_of_the_tests(self):
        self.run_fast("-k", "DerivedTests.test_its_name", count=1)

    def test_without_the_option(self):
        self.environment["TXTEST_SUITE_FAST"] = "0"
        runner = "--testrunner=django_txtest.runner.TxTestRunner"
        self.run_suite(runner, "-k", "test_its_name", module="suites.plain", count=7)


class ClassTests(unittest.TestCase):
    def test_the_same_class_for_the_same_class(self):
        changed = on_foundation(SomeTests, FastResetTestCase)
        self.assertIs(on_foundation(SomeTests, FastResetTestCase), changed)
        self.assertIsNot(changed, SomeTests)
        self.assertTrue(issubclass(changed, SomeTests))
        self.assertEqual(repr(changed), repr(SomeTests))

    def test_another_metaclass(self):
        class Kind(type):
            pass

        class KindTests(TransactionTestCase, metaclass=Kind):
            fast_reset = False

        changed = on_foundation(KindTests, FastResetTestCase)
        self.assertIsInstance(changed, Kind)
        changed.attribute = 1
        self.assertEqual(KindTests.attribute, 1)
        del changed.attribute
        self.assertFalse(hasattr(KindTests, "attribute"))

    def test_pickled(self):
        test = on_foundation(SomeTests, FastResetTestCase)("test")
        test.extra = {"a": [1]}
        other = pickle.loads(pickle.dumps(test))
        self.assertIs(type(other), type(test))
        self.assertEqual(other, test)
        self.assertEqual(other.extra, {"a": [1]})

    def test_which_classes(self):
        class Wanted(TransactionTestCase):
            pass

        fast, plain = TxTestRunner(fast_reset=True), TxTestRunner()
        self.assertIs(fast.foundation_of(Wanted), FastResetTestCase)
        self.assertIsNone(plain.foundation_of(Wanted))
        for unwanted in (SomeTests, FastResetTestCase, unittest.TestCase):
            self.assertIsNone(fast.foundation_of(unwanted))

from __future__ import annotations

import multiprocessing
import unittest
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from unittest import mock

from django_txtest import TxTestCase, explore
from django_txtest.exceptions import ExecutorFailed
from tests.scheduler import calls
from tests.utils import SuitesMixin, explores


@explores
class ResultTests(SuitesMixin, unittest.TestCase):
    def test_results(self):
        self.run_suite(module="suites.spreading.ResultTests")


@explores
class ExecutorTests(SuitesMixin, unittest.TestCase):
    def test_executors(self):
        self.run_suite(module="suites.spreading.ExecutorTests")

    def test_dask(self):
        self.run_suite(module="suites.spreading.DaskTests", count=2)


@explores
class ProblemTests(SuitesMixin, unittest.TestCase):
    def test_problems(self):
        self.run_suite(module="suites.spreading.ProblemTests")


@explores
class DaemonTests(TxTestCase):
    def test_a_parallel_run(self):
        """Its processes can start none."""
        target = partial(calls.lend_f, 1000)
        process = multiprocessing.current_process()
        with (
            # Private: what Django's runner has of its own processes, if it is parallel.
            mock.patch.dict(process._config, daemon=True),
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor,
            self.assertRaisesRegex(ExecutorFailed, "daemonic.*--parallel 1"),
        ):
            explore(target, target, executor=executor)

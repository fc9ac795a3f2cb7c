from __future__ import annotations

from unittest import mock

from django.test import TestCase, TransactionTestCase

from django_txtest import (
    CallError,
    NoAtomicMixin,
    RunsWentWrong,
    run_concurrently,
)
from django_txtest.exceptions import InvalidCall, ResetNotPossible
from tests.concurrency import targets
from tests.concurrency.test_races import lend, lend_with_f
from tests.library.models import Book, Genre


class RepeatMixin:
    using: str

    @classmethod
    def setUpTestData(cls):
        Genre.objects.create(name="of the class")

    def setUp(self):
        self.book = Book.objects.create(title="Emma", copies=0)

    def repeat(self, target, repeat=5, **options):
        calls = [(target, [self.book.pk], {})] * 2
        return run_concurrently(calls, using=self.using, repeat=repeat, **options)

    def no_update_was_lost(self, results):
        self.book.refresh_from_db()
        return self.book.copies == 2

    def test_each_run_begins_with_the_rows_of_the_call(self):
        results = self.repeat(lend_with_f, check=self.no_update_was_lost)
        results.raise_errors()
        self.assertEqual(len(results.runs), 5)
        self.assertEqual(results.report(), "0 of 5 runs went wrong.")
        self.assertTrue(self.no_update_was_lost(results))  # the last run's are left

    def test_runs_that_go_wrong(self):
        results = self.repeat(lend, check=self.no_update_was_lost)
        self.assertTrue(results.went_wrong)
        self.assertIn("5 of 5 runs went wrong.", results.report())
        with self.assertRaisesRegex(RunsWentWrong, "5 x the check returned False"):
            results.raise_errors()

    def test_calls_that_raise(self):
        results = run_concurrently(
            [(targets.create_genre, ["new"], {})] * 2, using=self.using, repeat=3
        )
        self.assertEqual([len(run.errors) for run in results.runs], [1, 1, 1])
        self.assertIsInstance(results.errors[0], CallError)
        self.assertIn("3 of 3 runs went wrong", results.report())

    def test_rows_of_the_class_come_back(self):
        names = ["of the class"]
        delete = Genre.objects.filter(name__in=names).delete
        run_concurrently([delete], using=self.using, repeat=2).raise_errors()
        self.assertFalse(Genre.objects.filter(name__in=names).exists())


class ForkTests(RepeatMixin, NoAtomicMixin, TestCase):
    using = "fork"

    def test_the_workers_stay(self):
        results = run_concurrently([targets.pid] * 2, using="fork", repeat=3)
        self.assertEqual(len({tuple(run) for run in results.runs}), 1)
        with mock.patch.object(targets, "add", return_value="mocked"):
            results = run_concurrently([lambda: targets.add()], using="fork", repeat=2)
        self.assertEqual(results.runs, (["mocked"], ["mocked"]))

    def test_a_worker_that_dies_is_replaced(self):
        results = run_concurrently(
            [targets.kill_itself, targets.pid], using="fork", repeat=3
        )
        self.assertEqual([len(run.errors) for run in results.runs], [1, 1, 1])

    def test_bad_arguments(self):
        for repeat in (0, -1, 1.5):
            with self.assertRaisesRegex(InvalidCall, "repeat"):
                run_concurrently([int], repeat=repeat)


class ThreadTests(RepeatMixin, NoAtomicMixin, TestCase):
    using = "threads"


class InlineTests(NoAtomicMixin, TestCase):
    def test_a_check_of_one_run(self):
        results = run_concurrently([int], using="inline", check=lambda results: False)
        with self.assertRaisesRegex(RunsWentWrong, "1 of 1 runs"):
            results.raise_errors()
        results = run_concurrently(
            [targets.press_ctrl_c], using="threads", check=lambda results: True
        )
        results.raise_errors()  # the check says that it is as it should be


class TransactionTestCaseTests(TransactionTestCase):
    def test_refused(self):
        with self.assertRaisesRegex(ResetNotPossible, "NoAtomicMixin"):
            run_concurrently([int], using="fork", repeat=2)

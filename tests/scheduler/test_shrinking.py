"""Schedules that fail, made shorter."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import groupby
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from django_txtest import RandomScheduler, Schedule, TxTestCase, explore
from django_txtest.scheduler.shrinking import MAX_TRIES, shorter, shrink, switches
from tests.library.models import Book
from tests.properties import at_any_speed
from tests.scheduler import calls
from tests.utils import explores

schedules = st.lists(st.integers(0, 2), max_size=30).map(Schedule)


def is_interrupted(schedule):
    """Tell whether the second session makes a step between two of the first."""
    text = "".join(map(str, schedule.choices)).strip("12")
    return "1" in text


class SwitchesTests(TestCase):
    def test_they_are_counted(self):
        for text, count in [("", 0), ("a4", 0), ("ab", 1), ("a2ba3", 2)]:
            with self.subTest(text):
                self.assertEqual(switches(Schedule.decode(text)), count)

    def test_runs_are_joined(self):
        found = [each.encode() for each in shorter(Schedule.decode("a2ba3c"))]
        self.assertEqual(found, ["a5bc", "ba5c"])

    @at_any_speed
    @given(schedules)
    def test_shorter_ones_have_the_same_steps_and_fewer_switches(self, schedule):
        for each in shorter(schedule):
            self.assertEqual(Counter(each.choices), Counter(schedule.choices))
            self.assertLess(switches(each), switches(schedule))


class ShrinkTests(TestCase):
    def shrink(self, schedule, fails):
        self.tried = []

        def again(candidate):
            self.tried.append(candidate)
            return (candidate, candidate.encode()) if fails(candidate) else None

        return shrink(schedule, schedule.encode(), again)

    @at_any_speed
    @given(schedules.filter(is_interrupted))
    def test_what_it_finds_fails_with_the_fewest_switches(self, schedule):
        found, text = self.shrink(schedule, is_interrupted)
        self.assertTrue(is_interrupted(found))
        self.assertEqual(text, found.encode())
        sessions = len(set(schedule.choices))
        self.assertEqual(switches(found), sessions)

    def test_what_fails_only_so_stays(self):
        schedule = Schedule.decode("abab")
        found, text = self.shrink(schedule, lambda candidate: False)
        self.assertEqual((found, text), (schedule, "abab"))

    def test_an_execution_that_goes_another_way_is_taken_if_it_is_shorter(self):
        schedule = Schedule.decode("abab")
        longer, shorter = Schedule.decode("ababab"), Schedule.decode("a3b")
        found, _ = shrink(schedule, None, lambda candidate: (longer, None))
        self.assertEqual(found, schedule)
        found, _ = shrink(schedule, None, lambda candidate: (shorter, None))
        self.assertEqual(found, shorter)

    def test_it_comes_to_an_end(self):
        self.shrink(Schedule([0, 1] * 500), lambda candidate: False)
        self.assertEqual(len(self.tried), MAX_TRIES)

    def test_the_steps_of_each_session_are_joined(self):
        found, _ = self.shrink(Schedule([0, 1, 2] * 5), lambda candidate: True)
        self.assertEqual(len(list(groupby(found.choices))), 3)


@explores
class ReportedTests(TxTestCase):
    """What a failure reports is short, however it was found."""

    def test_random_schedules(self):
        lend = partial(calls.lend, Book.objects.create(copies=5).pk)
        found = set()
        for seed in range(5):
            exploration = explore(lend, lend, scheduler=RandomScheduler(seed))
            failure = exploration.failure
            self.assertIsNotNone(failure)
            self.assertEqual(switches(failure.schedule), 2, failure)
            self.assertIn("copies is 4; there it is 3", failure.summary)
            found.add(failure.schedule.encode())
        self.assertLessEqual(found, {"ab2a", "ba2b"})

    def test_every_failure_counts_where_all_are_wanted(self):
        lend = partial(calls.lend, Book.objects.create(copies=5).pk)
        exploration = explore(lend, lend, stop_on_first=False)
        schedules = [failure.schedule for failure in exploration.failures]
        self.assertEqual(len(set(schedules)), len(schedules))

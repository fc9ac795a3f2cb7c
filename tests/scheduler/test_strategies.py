from __future__ import annotations

import math
import unittest
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from django_txtest.exceptions import InvalidSchedule, NotDeterministic
from django_txtest.history import History
from django_txtest.scheduler.base import TRIES, Choice
from django_txtest.scheduler.dpor import DporScheduler
from django_txtest.scheduler.schedule import MAX_SESSIONS, Schedule
from django_txtest.scheduler.strategies import (
    DfsScheduler,
    PctScheduler,
    RandomScheduler,
    ReplayScheduler,
)
from tests.properties import at_any_speed

choices = st.lists(st.integers(0, MAX_SESSIONS - 1))
lengths = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def run_all(scheduler, lengths):
    """Return the schedules of sessions with so many steps, none of which waits."""
    schedules = []
    while scheduler.begin():
        left, current, made = list(lengths), None, []
        while any(left):
            runnable = tuple(n for n, steps in enumerate(left) if steps)
            current = scheduler.choose(Choice(runnable, current))
            left[current] -= 1
            made.append(current)
        scheduler.end(History())
        schedules.append(tuple(made))
    return schedules


def preemptions(schedule):
    left = Counter(schedule)
    count = 0
    for before, after in pairwise(schedule):
        left[before] -= 1
        count += before != after and left[before] > 0
    return count


class ScheduleTests(unittest.TestCase):
    @at_any_speed
    @given(choices)
    def test_there_and_back(self, choices):
        schedule = Schedule(choices)
        self.assertEqual(Schedule.decode(schedule.encode()), schedule)
        self.assertTrue(schedule.encode().isalnum() or not choices)
        self.assertLessEqual(len(schedule.encode()), len(choices))

    def test_the_text(self):
        self.assertEqual(Schedule([0, 0, 1, 0, 0, 0]).encode(), "a2ba3")
        self.assertEqual(repr(Schedule([1])), "Schedule.decode('b')")
        self.assertEqual(len(Schedule.decode("a2ba3")), 6)

    @at_any_speed
    @given(st.text())
    def test_other_texts(self, text):
        try:
            schedule = Schedule.decode(text)
        except InvalidSchedule as error:
            self.assertIn("Copy what the failure printed", str(error))
        else:
            self.assertEqual(Schedule.decode(schedule.encode()), schedule)

    def test_no_such_session(self):
        for number in (-1, MAX_SESSIONS):
            with self.assertRaises(InvalidSchedule):
                Schedule([number])


class DporTests(unittest.TestCase):
    @settings(deadline=None, max_examples=30)
    @given(lengths)
    def test_every_schedule_once_where_nothing_is_known(self, lengths):
        scheduler = DporScheduler()
        schedules = run_all(scheduler, lengths)
        self.assertEqual(len(schedules), len(set(schedules)))
        self.assertEqual(set(schedules), set(run_all(DfsScheduler(), lengths)))
        self.assertTrue(scheduler.exhausted)


class DfsTests(unittest.TestCase):
    @at_any_speed
    @given(lengths)
    def test_every_schedule_once(self, lengths):
        scheduler = DfsScheduler()
        schedules = run_all(scheduler, lengths)
        expected = math.factorial(sum(lengths))
        for length in lengths:
            expected //= math.factorial(length)
        self.assertEqual(len(schedules), expected)
        self.assertEqual(len(set(schedules)), expected)
        self.assertTrue(scheduler.exhausted)

    @at_any_speed
    @given(lengths)
    def test_the_fewest_preemptions_first(self, lengths):
        counts = [preemptions(each) for each in run_all(DfsScheduler(), lengths)]
        self.assertEqual(counts, sorted(counts))

    def test_calls_that_take_another_way(self):
        scheduler = DfsScheduler()
        self.assertTrue(scheduler.begin())
        scheduler.choose(Choice((0, 1)))
        for _ in range(TRIES):
            self.assertTrue(scheduler.begin())
            self.assertIsNone(scheduler.lost)
            self.assertEqual(scheduler.choose(Choice((0,))), 0)
            self.assertIsNotNone(scheduler.lost)
        with self.assertRaisesRegex(NotDeterministic, "not beyond step 0"):
            scheduler.begin()

    def test_calls_that_take_another_way_for_once(self):
        scheduler = DfsScheduler()
        self.assertTrue(scheduler.begin())
        scheduler.choose(Choice((0, 1)))
        self.assertTrue(scheduler.begin())
        scheduler.choose(Choice((0,)))
        self.assertTrue(scheduler.begin())
        self.assertEqual(scheduler.choose(Choice((0, 1))), 1)
        self.assertIsNone(scheduler.lost)
        self.assertFalse(scheduler.begin())
        self.assertTrue(scheduler.exhausted)


class SeededTests(unittest.TestCase):
    def test_the_same_seed_gives_the_same(self):
        for make in (
            lambda seed: RandomScheduler(seed, 20),
            lambda seed: PctScheduler(3, seed, 20),
        ):
            schedules = run_all(make(1), [3, 4])
            self.assertEqual(len(schedules), 20)
            self.assertEqual(run_all(make(1), [3, 4]), schedules)
            self.assertNotEqual(run_all(make(2), [3, 4]), schedules)
            self.assertGreater(len(set(schedules)), 3)

    def test_pct_makes_few_preemptions(self):
        for depth in (1, 2, 3):
            for schedule in run_all(PctScheduler(depth, 1, 50), [4, 4, 4]):
                self.assertLess(preemptions(schedule), depth)

    def test_refusals(self):
        for make in (
            lambda: RandomScheduler(executions=0),
            lambda: PctScheduler(executions=-1),
            lambda: PctScheduler(depth=0),
        ):
            with self.assertRaisesRegex(InvalidSchedule, "not a positive number"):
                make()


class ReplayTests(unittest.TestCase):
    @at_any_speed
    @given(lengths, st.randoms(use_true_random=False))
    def test_it_follows(self, lengths, random):
        steps = [n for n, length in enumerate(lengths) for _ in range(length)]
        random.shuffle(steps)
        text = Schedule(steps).encode()
        self.assertEqual(run_all(ReplayScheduler(text), lengths), [tuple(steps)])

    def test_a_beginning(self):
        self.assertEqual(run_all(ReplayScheduler("ba"), [2, 2]), [(1, 0, 0, 1)])

    def test_what_cannot_be_followed(self):
        with self.assertRaisesRegex(InvalidSchedule, "beyond step 1: session a"):
            run_all(ReplayScheduler("a2"), [1, 1])
        with self.assertRaisesRegex(
            InvalidSchedule, "over after 2 steps .* 3 are left"
        ):
            run_all(ReplayScheduler("aba3"), [1, 1])


class RestartTests(unittest.TestCase):
    def test_in_another_exploration_all_is_tried_again(self):
        for scheduler in (
            DfsScheduler(),
            RandomScheduler(1, 5),
            PctScheduler(2, 1, 5),
            ReplayScheduler("ab"),
        ):
            first = run_all(scheduler, [2, 2])
            self.assertTrue(first)
            self.assertEqual(run_all(scheduler, [2, 2]), [])
            scheduler.restart()
            self.assertEqual(run_all(scheduler, [2, 2]), first)

"""What others make ahead changes nothing of what a scheduler does, nor in which order.

Here there are no databases, and no executors: who works when is drawn at random.
"""

from __future__ import annotations

import pickle
import random
import unittest
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from django_txtest import DfsScheduler, DporScheduler, PctScheduler, RandomScheduler
from django_txtest.history import Event, History, Kind
from django_txtest.scheduler.base import Choice, Scheduler
from django_txtest.scheduler.parts import Follower, Record, Records
from django_txtest.scheduler.schedule import Schedule
from django_txtest.scheduler.strategies import ReplayScheduler
from tests.properties import at_any_speed
from tests.scheduler.test_dpor import READ, UNKNOWN, WRITE, WRITE_OTHER, program

SCHEDULERS = {
    "dpor": DporScheduler,
    "dfs": DfsScheduler,
    "random": partial(RandomScheduler, 1, 40),
    "pct": partial(PctScheduler, 3, 1, 40),
}

LOCK = "SELECT copies FROM book WHERE id = 1 FOR UPDATE"
INSERT = "INSERT INTO book (id) VALUES (1)"

statements = st.sampled_from([READ, WRITE, WRITE_OTHER, LOCK, INSERT, UNKNOWN])
sessions = st.lists(
    st.lists(statements, min_size=1, max_size=3), min_size=1, max_size=3
)


def execute(sessions, choose):
    """Make an execution of sessions with these statements; return its record."""
    left, current, made, steps, history = (
        [*map(list, sessions)],
        None,
        [],
        [],
        History(),
    )
    while any(left):
        runnable = tuple(n for n, statements in enumerate(left) if statements)
        steps.append((runnable, len(history)))
        current = choose(Choice(runnable, current, history))
        made.append(current)
        sql = left[current].pop(0)
        history.add(Event(f"s{current}", Kind.STATEMENT, sql=sql, in_transaction=True))
    return record(made, steps, history)


def record(choices, steps, history, has_failed=False):
    return Record(tuple(choices), tuple(steps), tuple(history), has_failed, False)


def alone(scheduler, sessions):
    """Return the schedules in the order in which a scheduler wants them."""
    scheduler.prepare(program(len(sessions)))
    schedules = []
    while scheduler.begin():
        made = execute(sessions, scheduler.choose)
        scheduler.end(History(made.events))
        schedules.append(made.choices)
    return schedules


class Spread:
    """A scheduler, and workers that explore parts ahead of it, whenever chance says."""

    def __init__(self, scheduler, sessions, random):
        self.scheduler, self.sessions, self.random = scheduler, sessions, random
        self.records = Records()
        self.parts = []
        self.made = self.made_ahead = self.used = 0

    def run(self):
        self.scheduler.prepare(program(len(self.sessions)))
        schedules = []
        while self.scheduler.begin():
            follower = Follower(self.scheduler, self.records, self.more)
            made = follower.find()
            if made is None:
                made = execute(self.sessions, follower.choose)
                self.made += 1
            else:
                self.used += 1
            self.scheduler.end(History(made.events))
            assert self.scheduler.lost is None
            schedules.append(made.choices)
            if self.random.random() < 0.5:
                self.parts += self.scheduler.split(self.random.randint(1, 3))
            if self.parts and self.random.random() < 0.5:
                self.work(self.random.choice(self.parts))
        return schedules

    def more(self):
        before = len(self.records)
        for part in self.parts:
            if part.covers(self.scheduler):
                self.work(part)
                break
        return len(self.records) > before

    def work(self, part):
        self.parts.remove(part)
        part = pickle.loads(pickle.dumps(part))
        part.prepare(program(len(self.sessions)))
        for _ in range(self.random.randint(1, 4)):
            if not part.begin():
                return
            made = execute(self.sessions, part.choose)
            part.end(History(made.events))
            self.records.add(made)
            self.made_ahead += 1
        self.parts += [part, *part.split(self.random.randint(0, 2))]


class SpreadTests(unittest.TestCase):
    @settings(at_any_speed, max_examples=60)
    @given(st.sampled_from(sorted(SCHEDULERS)), sessions, st.randoms())
    def test_the_same_in_the_same_order(self, name, sessions, random):
        scheduler = SCHEDULERS[name]()
        spread = Spread(scheduler, sessions, random)
        expected = SCHEDULERS[name]()
        self.assertEqual(spread.run(), alone(expected, sessions))
        self.assertEqual(scheduler.exhausted, expected.exhausted)
        if name in ("dfs", "random"):
            # What is left at the end is what was given away and made here meanwhile.
            self.assertEqual(spread.used + len(spread.records), spread.made_ahead)

    def test_others_make_the_most(self):
        sessions = [[READ, WRITE]] * 3
        for name, make in SCHEDULERS.items():
            with self.subTest(name):
                spread = Spread(make(), sessions, random.Random(1))
                spread.run()
                self.assertGreater(spread.used, 0)
                self.assertGreater(spread.made, 0)

    def test_nothing_is_given_away_twice(self):
        for name, make in SCHEDULERS.items():
            with self.subTest(name):
                scheduler = make()
                scheduler.prepare(program(3))
                scheduler.begin()
                made = execute([[READ, WRITE]] * 3, scheduler.choose)
                scheduler.end(History(made.events))
                part, *others = [*scheduler.split(1), *scheduler.split(5)]
                begun = pickle.loads(pickle.dumps(part))
                self.assertTrue(begun.begin())
                self.assertTrue(part.covers(begun))
                for other in others:
                    self.assertFalse(other.covers(begun))
                self.assertFalse(part.covers(ReplayScheduler("a")))

    def test_schedulers_that_cannot_be_split(self):
        class Own(Scheduler):
            def begin(self):
                return False

            def choose(self, choice):
                return 0

        for scheduler in (Own(), ReplayScheduler(Schedule([0]))):
            self.assertEqual(list(scheduler.split(3)), [])
            self.assertFalse(scheduler.covers(scheduler))


class RecordsTests(unittest.TestCase):
    @at_any_speed
    @given(
        st.lists(st.lists(st.integers(0, 2), max_size=5).map(tuple)),
        st.lists(st.integers(0, 2), max_size=3).map(tuple),
    )
    def test_they_are_found_by_how_they_begin(self, keys, beginning):
        records = Records()
        for key in keys:
            records.add(record(key, (), ()))
        alike = sorted(key for key in keys if key[: len(beginning)] == beginning)
        found = records.find(beginning)
        self.assertEqual(found and found.choices, alike[0] if alike else None)
        records.discard(beginning, most=1)
        self.assertEqual(len(records), len(keys) - bool(alike))
        records.discard(beginning)
        self.assertIsNone(records.find(beginning))
        self.assertEqual(len(records), len(keys) - len(alike))


class FollowerTests(unittest.TestCase):
    """Where what was made elsewhere is not what is made here."""

    SESSIONS = ([WRITE], [WRITE])

    def setUp(self):
        self.records = Records()
        self.scheduler = ReplayScheduler(Schedule([1, 0]))
        self.scheduler.begin()

    def follower(self):
        return Follower(self.scheduler, self.records, lambda: False)

    def other(self, **change):
        made = execute(self.SESSIONS, _follow([1, 0]))
        return record(
            change.get("choices", made.choices),
            change.get("steps", made.steps),
            change.get("events", made.events),
            change.get("has_failed", False),
        )

    def test_a_record_is_used_once(self):
        self.records.add(self.other())
        self.assertIsNotNone(self.follower().find())
        self.assertEqual(len(self.records), 0)

    def test_one_that_failed_is_made_again(self):
        self.records.add(self.other(has_failed=True))
        follower = self.follower()
        self.assertIsNone(follower.find())
        made = execute(self.SESSIONS, follower.choose)
        self.assertEqual(made.choices, (1, 0))
        self.assertIsNone(self.scheduler.lost)

    def test_other_events(self):
        events = (Event("s1", Kind.STATEMENT, sql=READ), *self.other().events[1:])
        self.check_lost(self.other(events=events, has_failed=True))

    def test_other_sessions_that_can_go_on(self):
        first, (_, seen) = self.other().steps
        steps = (first, ((0, 1), seen))
        self.check_lost(self.other(steps=steps, has_failed=True))

    def check_lost(self, wrong):
        self.records.add(wrong)
        self.records.add(self.other(choices=(0, 1)))
        follower = self.follower()
        self.assertIsNone(follower.find())
        execute(self.SESSIONS, follower.choose)
        self.assertIn("could not be made here", self.scheduler.lost)
        # What begins otherwise is still good.
        self.assertEqual(len(self.records), 1)
        self.scheduler.begin()
        follower = self.follower()
        self.assertIsNone(follower.find())
        self.assertEqual(execute(self.SESSIONS, follower.choose).choices, (1, 0))
        self.assertIsNone(self.scheduler.lost)

    def test_records_that_contradict_each_other(self):
        # By the one that is found first, something else was there to choose from.
        self.records.add(self.other(choices=(0, 1), steps=(((0, 1, 2), 0),) * 2))
        self.records.add(self.other())
        follower = self.follower()
        self.assertIsNone(follower.find())
        execute(self.SESSIONS, follower.choose)
        self.assertIsNotNone(self.scheduler.lost)

    def test_a_scheduler_that_loses_its_way(self):
        # A session cannot go on there that should: by the record, and not in truth.
        self.records.add(self.other(steps=(((0,), 0), ((0,), 1))))
        follower = self.follower()
        self.assertIsNone(follower.find())
        self.assertIsNotNone(self.scheduler.lost)
        self.assertEqual(len(self.records), 0)


def _follow(choices):
    left = list(choices)
    return lambda choice: left.pop(0)

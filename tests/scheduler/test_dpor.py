from __future__ import annotations

import math
import random
import unittest
from itertools import count, permutations

from django_txtest.exceptions import NotDeterministic
from django_txtest.history import Event, History, Kind
from django_txtest.scheduler.base import Choice, Program
from django_txtest.scheduler.dpor import RARE, DporScheduler
from django_txtest.scheduler.strategies import DfsScheduler
from django_txtest.scheduler.transactions import Explored
from tests.scheduler.test_statements import catalogue

READ = "SELECT copies FROM book WHERE id = 1"
WRITE = "UPDATE book SET copies = 5 WHERE id = 1"
WRITE_OTHER = "UPDATE book SET copies = 5 WHERE id = 2"
UNKNOWN = "LOCK TABLE book"


def program(sessions, twins=()):
    explored = Explored("main", catalogue(), "READ COMMITTED")
    names = tuple(f"s{n}" for n in range(sessions))
    return Program(names, twins or (None,) * sessions, lambda: {"default": explored})


def run_all(scheduler, sessions, twins=()):
    """Return the schedules of sessions that make these statements, by themselves."""
    scheduler.prepare(program(len(sessions), twins))
    schedules = []
    while scheduler.begin():
        left, current, made, history = [list(s) for s in sessions], None, [], History()
        while any(left):
            runnable = tuple(n for n, statements in enumerate(left) if statements)
            current = scheduler.choose(Choice(runnable, current, history))
            made.append(current)
            sql = left[current].pop(0)
            history.add(Event(f"s{current}", Kind.STATEMENT, sql=sql))
        scheduler.end(history)
        schedules.append(tuple(made))
    assert len(schedules) == len(set(schedules))
    assert scheduler.exhausted
    return schedules


def classes(schedules, sessions, ordered):
    """Return the schedules by the order of the statements whose order matters."""
    found = set()
    for schedule in schedules:
        numbers = [count() for _ in sessions]
        steps = [(n, next(numbers[n])) for n in schedule]
        found.add(
            frozenset(
                (one, other)
                for place, one in enumerate(steps)
                for other in steps[place + 1 :]
                if one[0] != other[0]
                and ordered(sessions[one[0]][one[1]], sessions[other[0]][other[1]])
            )
        )
    return found


def orbits(classes, twins):
    """Return the same, where it makes no difference which twin did what."""
    calls = []
    for number, twin in enumerate(twins):
        calls.append(number if twin is None else calls[twin])
    exchanges = [
        exchange
        for exchange in permutations(range(len(twins)))
        if [calls[n] for n in exchange] == calls
    ]
    return {
        min(
            tuple(
                sorted(
                    ((exchange[a], step), (exchange[b], later))
                    for (a, step), (b, later) in each
                )
            )
            for exchange in exchanges
        )
        for each in classes
    }


def order_matters(one, other):
    """Tell whether two of the statements above, of two sessions, depend."""
    if "SAVEPOINT" in (one[:9], other[:9]):
        return False
    return one[-1] == other[-1] and (one, other) != (READ, READ)


class DporTests(unittest.TestCase):
    def test_what_does_not_depend_is_done_once(self):
        for sessions in (
            [[READ, READ], [READ, READ], [READ]],
            [[WRITE, WRITE], [WRITE_OTHER, WRITE_OTHER]],
            [["SAVEPOINT x", "SET lock_timeout = 1"], [UNKNOWN]],
        ):
            self.assertEqual(len(run_all(DporScheduler(), sessions)), 1, sessions)

    def test_one_of_each_that_can_differ(self):
        for sessions in (
            [[READ, WRITE], [READ, WRITE]],
            [[READ, READ, WRITE], [WRITE, READ]],
            [[READ, WRITE], [WRITE_OTHER, WRITE], [READ, WRITE_OTHER]],
            [[WRITE], [WRITE], [WRITE], [READ]],
        ):
            reduced = run_all(DporScheduler(), sessions)
            every = run_all(DfsScheduler(), sessions)
            expected = classes(every, sessions, order_matters)
            self.assertEqual(classes(reduced, sessions, order_matters), expected)
            self.assertEqual(len(reduced), len(expected), "some were made twice")

    def test_what_is_not_understood_is_made_in_every_order(self):
        schedules = run_all(DporScheduler(), [[UNKNOWN] * 2, [UNKNOWN] * 3])
        self.assertEqual(len(schedules), math.comb(5, 2))

    def test_twins_begin_in_order(self):
        sessions = [[UNKNOWN] * 2] * 3
        every = run_all(DporScheduler(), sessions)
        reduced = run_all(DporScheduler(), sessions, (None, 0, 1))
        self.assertEqual(len(reduced) * 6, len(every))
        for schedule in reduced:
            self.assertEqual(list(dict.fromkeys(schedule)), [0, 1, 2])

    def test_twins_change_places_as_long_as_nothing_tells_them_apart(self):
        sessions = [[READ, WRITE]] * 3
        # In which order they write, and how many have written when each reads.
        self.assertEqual(len(run_all(DporScheduler(), sessions, (None, 0, 1))), 6)
        self.assertEqual(len(run_all(DporScheduler(), sessions)), 36)

    def test_what_twins_can_do_is_done_once_by_any_of_them(self):
        chance = random.Random(1)
        statements = [READ, WRITE, WRITE_OTHER, "SAVEPOINT x"]
        shapes = [(None, 0), (None, 0, 1), (None, 0, None), (None, None, 0)]
        shapes += [(None, 0, 1, 2), (None, None, 0, 1), (None, 0, None, 2)]
        for _ in range(40):
            twins = chance.choice(shapes)
            sessions = []
            for twin in twins:
                own = chance.choices(statements, k=chance.randint(1, 6 // len(twins)))
                sessions.append(own if twin is None else sessions[twin])
            every = run_all(DporScheduler(), sessions)
            reduced = run_all(DporScheduler(), sessions, twins)
            expected = orbits(classes(every, sessions, order_matters), twins)
            found = orbits(classes(reduced, sessions, order_matters), twins)
            self.assertEqual(found, expected, (sessions, twins))
            self.assertEqual(len(reduced), len(expected), "some were made twice")

    def test_no_choice_differs_from_run_to_run(self):
        sessions = [[READ, WRITE], [READ, WRITE], [WRITE]]
        first, second = (run_all(DporScheduler(), sessions) for _ in range(2))
        self.assertEqual(first, second)


class StrayTests(unittest.TestCase):
    """Two sessions wait for a lock, and it is not always the same one that gets it."""

    def execute(self, scheduler, who_goes_on):
        """Have s0 hold the lock, and free it when the others wait for it."""
        history, made = History(), []
        current = None
        left = {0: [WRITE, "COMMIT"], 1: [WRITE], 2: [WRITE]}
        while any(left.values()):
            runnable = tuple(n for n, steps in left.items() if steps)
            current = scheduler.choose(Choice(runnable, current, history))
            made.append(current)
            step = left[current].pop(0)
            name = f"s{current}"
            if step == "COMMIT":
                history.add(Event(name, Kind.COMMIT))
                if not left[1] and not left[2]:
                    history.add(Event(f"s{who_goes_on}", Kind.GOES_ON))
                    left[who_goes_on] = [READ]
                continue
            inside = current == 0
            history.add(Event(name, Kind.STATEMENT, sql=step, in_transaction=inside))
            if current and step == WRITE and left[0] == ["COMMIT"]:
                history.add(Event(name, Kind.WAITS, others=("s0",)))
        scheduler.end(history)
        return tuple(made)

    def test_what_usually_happens_is_gone_on_from(self):
        scheduler = DporScheduler()
        scheduler.prepare(program(3))
        number = 0
        counted = set()
        while scheduler.begin():
            number += 1
            # Once, it is another one.
            schedule = self.execute(scheduler, 2 if number == 3 else 1)
            if scheduler.lost is None:
                counted.add(schedule)
            self.assertLess(number, 200)
        self.assertTrue(scheduler.exhausted)
        usual = DporScheduler()
        usual.prepare(program(3))
        expected = set()
        while usual.begin():
            expected.add(self.execute(usual, 1))
        self.assertLessEqual(expected, counted)

    def test_calls_that_take_another_way(self):
        scheduler = DporScheduler()
        scheduler.prepare(program(2))
        scheduler.begin()
        scheduler.choose(Choice((0, 1)))
        scheduler.end(History([Event("s0", Kind.STATEMENT, sql=UNKNOWN)]))
        with self.assertRaises(NotDeterministic):
            for _ in range(100):
                if not scheduler.begin():
                    raise NotDeterministic
                scheduler.choose(Choice((1,)))
        self.assertGreater(RARE, 1)

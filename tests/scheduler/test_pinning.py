from __future__ import annotations

import datetime
import os
import random
import secrets
import sys
import threading
import time
import unittest
import uuid
from functools import partial
from unittest import mock

from django.db import connection, transaction
from django.utils import timezone
from django.utils.crypto import get_random_string

from django_txtest import DfsScheduler, NotDeterministic, TxTestCase, explore, replay
from django_txtest.exceptions import PinNotPossible
from tests.library.models import Book, Reader
from tests.scheduler import calls
from tests.utils import explores

SOURCES = {
    "time.time": time.time,
    "time.time_ns": time.time_ns,
    "datetime.now": datetime.datetime.now,
    "timezone.now": timezone.now,
    "random.random": random.random,
    "random.choice": partial(random.choice, range(10**9)),
    "random.gauss": partial(random.gauss, 0, 1),
    "random.SystemRandom": random.SystemRandom().random,
    "uuid.uuid4": uuid.uuid4,
    "secrets.token_hex": secrets.token_hex,
    "os.urandom": lambda: os.urandom(8),
    "get_random_string": partial(get_random_string, 20),
}


@explores
class PinTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(pk=1000, title="a", copies=5)

    def query(self, source, lend=calls.lend):
        """Make statements that are others each time."""
        calls.execute(f"SELECT 1 AS {self.name_of(source())}")
        lend(1000)
        calls.execute(f"SELECT 2 AS {self.name_of(source())}")

    def name_of(self, value):
        return "x" + "".join(c for c in str(value) if c.isalnum())

    def test_code_that_is_not_deterministic(self):
        """Without it, the error shows the first difference."""
        for name, source in SOURCES.items():
            with self.subTest(name):
                call = partial(self.query, source)
                message = (
                    r"event 2 was s.: SELECT 1 AS x\w+, and then it was s.: "
                    r"SELECT 1 AS x\w+\. The calls .*pin=True"
                )
                with self.assertRaisesRegex(NotDeterministic, message):
                    explore(call, call)

    def test_races_are_found_and_replayed(self):
        for name, source in SOURCES.items():
            with self.subTest(name):
                call = partial(self.query, source)
                failure = explore(call, call, pin=True).failure
                self.assertIn("copies is 4; there it is 3", str(failure))
                self.assertIn("pin=True", failure.replay)

    def test_cures_are_proved(self):
        for name, source in SOURCES.items():
            with self.subTest(name):
                call = partial(self.query, source, calls.lend_f)
                exploration = explore(call, call, pin=True)
                self.assertTrue(exploration.exhausted, str(exploration))
                self.assertIsNone(exploration.failure, str(exploration))

    def test_values_in_rows_and_results(self):
        def call():
            token = secrets.token_hex(4)
            Reader.objects.create(name=f"{token} {random.random()} {timezone.now()}")
            return token

        with self.assertRaisesRegex(NotDeterministic, "where there is the first time"):
            explore(call, call)
        exploration = explore(call, call, pin=True)
        self.assertTrue(exploration.exhausted, str(exploration))

    def test_sessions_draw_numbers_of_their_own(self):
        """Whoever goes first, each gets the same ones, and others than the other's."""
        seen = {"a": set(), "b": set(), "setup": set(), "invariant": set()}

        def draw():
            return random.random(), uuid.uuid4(), random.gauss(0, 1)

        def call(name):
            numbers = []
            for _ in range(3):
                numbers += draw()
                calls.execute("SELECT 1")
            seen[name].add(tuple(numbers))

        exploration = explore(
            partial(call, "a"),
            partial(call, "b"),
            setup=lambda: seen["setup"].add(draw()),
            invariant=lambda results: seen["invariant"].add(draw()),
            pin=True,
            scheduler=DfsScheduler(),
        )
        self.assertTrue(exploration.exhausted, str(exploration))
        self.assertGreater(exploration.executions, 5)
        self.assertEqual([len(each) for each in seen.values()], [1] * 4)
        self.assertEqual(len(set().union(*seen.values())), 4)

    @unittest.skipUnless(connection.vendor == "postgresql", "SQLite has no such wait")
    def test_who_waited_draws_its_own_numbers_too(self):
        """Where two sessions run on from one COMMIT."""
        seen = set()

        def call():
            with transaction.atomic():
                Book.objects.select_for_update().get(pk=1000)
            numbers = tuple(random.random() for _ in range(100_000))
            seen.add(numbers)

        # Else one is over before the other gets its turn.
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)
        for _ in range(2):
            replay("abab", call, call, pin=True).raise_if_failed()
            replay("baba", call, call, pin=True).raise_if_failed()
        self.assertEqual(len(seen), 2)

    def test_a_time_of_ones_own(self):
        moment = datetime.datetime(2030, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
        naive = timezone.make_naive(moment)
        for pin in (moment, naive):
            seen = set()

            def invariant(results, seen=seen):
                seen.update(results)
                return False

            exploration = explore(
                timezone.now, timezone.now, invariant=invariant, pin=pin
            )
            self.assertEqual(seen, {moment})
            self.assertIn("pin=datetime.datetime(2030, 2, ", exploration.failure.replay)

    def test_time_goes_on_afterwards(self):
        state = random.getstate()
        urandom, tz = os.urandom, time.tzname
        before = time.time()
        for invariant in (None, lambda results: 1 / 0):
            explore(int, int, invariant=invariant, pin=True)
            self.assertEqual(random.getstate(), state)
            self.assertIs(os.urandom, urandom)
            self.assertEqual(time.tzname, tz)
            self.assertGreater(time.time(), before)
        self.assertNotEqual(uuid.uuid4(), uuid.uuid4())

    def test_the_engine_waits_in_real_time(self):
        """Locks, bounds and limits are measured by another clock."""
        lend = partial(calls.lend_locked, 1000)
        if connection.vendor == "postgresql":
            exploration = explore(lend, lend, pin=True)
            self.assertTrue(exploration.exhausted, str(exploration))
            self.assertGreater(exploration.duration, 0)
        exploration = explore(int, max_time=0.0, pin=True)
        self.assertIn("limit of 0 s", str(exploration))

    def test_a_set_has_no_pin(self):
        """What it cannot do: threads of their own run when they like."""
        numbers = iter(range(10**6))

        def call():
            other = threading.Thread(target=lambda: next(numbers))
            other.start()
            other.join()
            calls.execute(f"SELECT {next(numbers)}")
            calls.lend(1000)

        with self.assertRaisesRegex(NotDeterministic, "event 2 was .*SELECT"):
            explore(call, call, pin=True)

    def test_without_the_extra(self):
        with (
            mock.patch.dict(sys.modules, {"time_machine": None}),
            self.assertRaisesRegex(PinNotPossible, r"django-txtest\[pin\]"),
        ):
            explore(int, pin=True)

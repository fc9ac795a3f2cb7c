"""Nothing is left of executions, however many there are."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from functools import partial

from django.db import connection

from django_txtest import RandomScheduler, TxTestCase, explore
from tests.library.models import Book
from tests.scheduler import calls
from tests.utils import explores

EXECUTIONS = 200
#: How long a server gets to notice that a session was closed, in seconds.
PATIENCE = 10.0


@explores
class LeakTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.pk = Book.objects.create(title="a", copies=5).pk

    def explore(self, call, seed, **options):
        """Explore two calls that wait for each other."""
        lend = partial(call, self.pk)
        return explore(
            lend,
            lend,
            scheduler=RandomScheduler(seed, EXECUTIONS),
            stop_on_first=False,
            **options,
        )

    def test_objects_of_executions(self):
        """What is kept of an execution would be there as often as it was made."""
        counts = {}

        def count(found):
            if found.executions in (EXECUTIONS // 2, EXECUTIONS):
                counts[found.executions] = objects()

        found = self.explore(calls.lend_f, seed=1, progress=count)
        self.assertEqual(found.failures, [])
        first, last = counts.values()
        self.assertLess(last - first, EXECUTIONS // 2)

    def test_objects_of_explorations(self):
        def explore_twice(seed):
            self.explore(calls.lend_f, seed)
            # One that fails has errors, with tracebacks and what these refer to.
            self.assertTrue(self.explore(calls.lend_atomic, seed).failures)

        explore_twice(1)
        before = objects()
        explore_twice(2)
        self.assertLess(objects() - before, EXECUTIONS)

    def test_threads_files_and_sessions(self):
        self.explore(calls.lend_f, seed=1)
        threads, files = set(threading.enumerate()), open_files()
        self.explore(calls.lend_atomic, seed=2)
        self.assertEqual(set(threading.enumerate()), threads)
        self.assertEqual(open_files(), files)
        deadline = time.monotonic() + PATIENCE
        while sessions() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(sessions(), 1)


def objects():
    """Return how many there are that the collector knows of.

    But for weak references: those to all classes come and go with Python's own caches.
    """
    gc.collect()
    return sum(type(each) is not weakref.ref for each in gc.get_objects())


def open_files():
    """Return how many files this process has open, where the system tells."""
    folder = "/proc/self/fd"
    return len(os.listdir(folder)) if os.path.isdir(folder) else None


def sessions():
    """Return how many sessions the test's database has; SQLite has none but ours."""
    if connection.vendor != "postgresql":
        return 1
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )
        return cursor.fetchone()[0]

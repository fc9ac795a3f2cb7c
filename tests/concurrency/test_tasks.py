from __future__ import annotations

import os
import tempfile
import threading
import time
import unittest
from pathlib import Path

from django_txtest.concurrency.tasks import (
    busy_time,
    busy_time_of_threads,
    is_at_disk,
    task_of_thread,
)


class BusyTests(unittest.TestCase):
    @unittest.skipUnless(os.path.exists("/proc/self/schedstat"), "needs Linux")
    def test_what_computes_is_busy(self):
        task = task_of_thread(threading.get_native_id())
        before, end = busy_time(task), time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        # The kernel counts by ticks, of 10 ms at most.
        self.assertGreater(busy_time(task) - before, 0.15)

    @unittest.skipUnless(os.path.exists("/proc/self/schedstat"), "needs Linux")
    def test_other_threads_count(self):
        done = threading.Event()

        def compute():
            end = time.thread_time() + 0.2
            while time.thread_time() < end:
                pass
            done.set()
            still_there.wait(60)

        still_there = threading.Event()
        before = busy_time_of_threads()
        thread = threading.Thread(target=compute)
        thread.start()
        try:
            self.assertTrue(done.wait(60))
            self.assertGreater(busy_time_of_threads() - before, 0.15)
        finally:
            still_there.set()
            thread.join()

    def test_where_nothing_is_told(self):
        self.assertEqual(busy_time("/no/such/task"), 0)
        self.assertFalse(is_at_disk("/no/such/task"))


class DiskTests(unittest.TestCase):
    def test_states(self):
        with tempfile.TemporaryDirectory() as task:
            stat = Path(task) / "stat"
            stat.write_text("7 (a name) D) S 1 2 3")
            self.assertFalse(is_at_disk(task))
            stat.write_text("7 (a name) S) D 1 2 3")
            self.assertTrue(is_at_disk(task))

from __future__ import annotations

import os
import threading
import time
import unittest
from types import SimpleNamespace

from django_txtest.concurrency.batch import _Batch, busy_time


class BusyTests(unittest.TestCase):
    @unittest.skipUnless(os.path.exists("/proc/self/schedstat"), "needs Linux")
    def test_what_computes_is_busy(self):
        task = f"/proc/self/task/{threading.get_native_id()}"
        before, end = busy_time(task), time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        # The kernel counts by ticks, of 10 ms at most.
        self.assertGreater(busy_time(task) - before, 0.15)

    def test_where_nothing_is_told(self):
        self.assertEqual(busy_time("/no/such/task"), 0)

    def test_silence_is_for_how_long_a_call_slept(self):
        call = SimpleNamespace(heard=10.0, busy=lambda: busy)
        batch = _Batch([call], "writes", 30)
        busy = 3.0
        self.assertEqual(batch._silence(0, 10.5), 0.5)
        busy = 5.0
        self.assertEqual(batch._silence(0, 13.0), 1.0)
        call.heard = 13.0
        self.assertEqual(batch._silence(0, 13.5), 0.5)
        busy = 6.0
        self.assertEqual(batch._silence(0, 15.0), 1.0)

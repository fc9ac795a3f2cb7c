from __future__ import annotations

import unittest
from types import SimpleNamespace
from unittest import mock

from django_txtest.concurrency.batch import _Batch


class SilenceTests(unittest.TestCase):
    def test_silence_is_for_how_long_a_call_slept(self):
        call = SimpleNamespace(heard=10.0, busy=lambda: busy, task="")
        batch = _Batch([call], "writes", 30)
        busy = 3.0
        self.assertEqual(batch._silence(0, 10.5), 0.5)
        busy = 5.0
        self.assertEqual(batch._silence(0, 13.0), 1.0)
        call.heard = 13.0
        self.assertEqual(batch._silence(0, 13.5), 0.5)
        busy = 6.0
        self.assertEqual(batch._silence(0, 15.0), 1.0)

    def test_what_waits_for_a_disk_is_not_silent(self):
        call = SimpleNamespace(heard=10.0, busy=lambda: 0.0, task="")
        batch = _Batch([call], "writes", 30)
        with mock.patch("django_txtest.concurrency.batch.is_at_disk"):
            self.assertEqual(batch._silence(0, 13.0), 0.0)
        self.assertEqual(batch._silence(0, 13.5), 0.5)

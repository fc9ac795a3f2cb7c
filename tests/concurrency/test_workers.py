from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from django.db import connection, transaction
from django.test import TestCase, override_settings

from django_txtest import (
    CallTimeout,
    ChildCrashed,
    NoAtomicMixin,
    run_concurrently,
    workers,
)
from django_txtest.concurrency import processes
from django_txtest.exceptions import AtomicBlockError, InvalidCall, PicklingError
from tests.concurrency import targets
from tests.concurrency.clock import TIMEOUT, time_passes_when
from tests.concurrency.test_races import lend
from tests.library.models import Book
from tests.utils import SessionsMixin, poll


class WorkersTests(SessionsMixin, NoAtomicMixin, TestCase):
    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_batch_after_batch_in_the_same_processes(self):
        with workers(3, using="fork") as pool:
            pids = pool.call_concurrently(3, targets.pid)
            self.assertEqual(pool.make_concurrent_calls(*[targets.pid] * 3), pids)
            self.assertEqual(pool.run_concurrently([targets.pid] * 2), pids[:2])
        self.assertTrue(all(map(has_ended, pids)))
        if connection.vendor != "sqlite":
            self.assertNoSessions()

    def test_races_are_seen(self):
        with workers(2, using="fork") as pool:
            for _ in range(5):
                book = Book.objects.create(title="Emma", copies=0)
                pool.call_concurrently(2, lend, book.pk).raise_errors()
                book.refresh_from_db()
                self.assertEqual(book.copies, 1)

    def test_those_of_two_pools_end_with_the_parent(self):
        path = self.folder / "pids"

        def kill_parent(*pids):
            path.write_text(" ".join(map(str, (os.getpid(), *pids))))
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)

        def parent():
            with workers(1, using="fork") as one, workers(1, using="fork") as other:
                one.run_concurrently([targets.pid])
                pids = other.run_concurrently([targets.pid])
                # Forked anew, it has what the other pool has of this process.
                one.run_concurrently([partial(os._exit, 3)])
                one.run_concurrently([partial(kill_parent, *pids)])

        [died] = run_concurrently([parent], using="fork")
        self.assertIsInstance(died, ChildCrashed)
        for pid in map(int, path.read_text().split()):
            self.assertTrue(has_ended(pid), pid)

    def test_settings_are_those_of_the_batch(self):
        with workers(1, using="fork") as pool:
            call = (targets.setting, ["SITE_ID"], {})
            before = pool.make_concurrent_calls(call)
            with override_settings(SITE_ID=7):
                self.assertEqual(pool.make_concurrent_calls(call), [7])
            self.assertEqual(pool.make_concurrent_calls(call), before)

    def test_output_of_each_batch(self):
        with workers(1, using="fork") as pool:
            for text in ("one", "two"):
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    results = pool.make_concurrent_calls((targets.chatter, [text], {}))
                [outcome] = results.outcomes
                self.assertIn(f"{text}\n", outcome.stdout)
                self.assertEqual(outcome.stderr, f"{text.upper()}\n")

    def test_workers_that_die_or_hang_are_replaced(self):
        with workers(2, using="fork") as pool:
            killed, added = pool.make_concurrent_calls(targets.kill_itself, targets.add)
            self.assertIsInstance(killed, ChildCrashed)
            self.assertEqual(added, 0)
            hangs = self.folder / "hangs"
            with (
                time_passes_when(hangs.exists),
                mock.patch.object(processes, "STACK_TIMEOUT", TIMEOUT),
            ):
                hung, added = pool.run_concurrently(
                    [(targets.hang_after_a_write, [hangs], {}), targets.add],
                    timeout=TIMEOUT,
                )
            self.assertIsInstance(hung, CallTimeout)
            self.assertIn("hang", hung.stack)
            self.assertEqual(added, 0)
            self.assertEqual(pool.call_concurrently(2, targets.add), [0, 0])

    def test_sessions_that_a_call_has_broken(self):
        def leave_a_transaction():
            transaction.set_autocommit(False)
            Book.objects.create(title="never")

        with workers(1, using="fork") as pool:
            pool.call_concurrently(1, leave_a_transaction).raise_errors()
            self.assertEqual(pool.call_concurrently(1, targets.titles), [[]])
            if connection.vendor == "postgresql":
                [error] = pool.call_concurrently(1, targets.end_own_session)
                self.assertIn("OperationalError", str(error))
            self.assertEqual(pool.call_concurrently(1, targets.titles), [[]])

    def test_a_batch_that_is_interrupted(self):
        def interrupt(*args):
            raise ZeroDivisionError

        def hang():
            os.kill(os.getppid(), signal.SIGALRM)
            targets.hang()

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with workers(2, using="fork") as pool:
            before = resources()
            with self.assertRaises(ZeroDivisionError):
                pool.make_concurrent_calls(hang, targets.hang)
            self.assertLess(resources(), before)
            for number in range(3):
                self.assertEqual(
                    pool.call_concurrently(2, targets.add, number), [number] * 2
                )

    def test_what_is_printed_is_not_in_the_way_of_the_next_batch(self):
        def empty_the_output():
            print("printed")
            os.ftruncate(1, 0)

        with workers(1, using="fork") as pool:
            for _ in range(2):
                [outcome] = pool.call_concurrently(1, empty_the_output).outcomes
                self.assertEqual(outcome.stdout, "")
            with redirect_stdout(StringIO()):
                [outcome] = pool.call_concurrently(1, print, "printed").outcomes
            self.assertEqual(outcome.stdout, "printed\n")

    def test_after_the_block(self):
        with workers(1, using="fork") as pool:
            pass
        with self.assertRaisesRegex(InvalidCall, "have ended"):
            pool.call_concurrently(1, targets.add)

    def test_other_modes(self):
        for using in ("threads", "inline"):
            with workers(2, using=using) as pool:
                pids = pool.call_concurrently(2, targets.pid)
            self.assertEqual(pids, [os.getpid()] * 2)

    def test_bad_arguments(self):
        for n in (0, "2", 1.0):
            with self.assertRaisesRegex(InvalidCall, "number of workers"), workers(n):
                pass
        with workers(1, using="fork") as pool:
            with self.assertRaisesRegex(InvalidCall, r"workers\(2\)"):
                pool.call_concurrently(2, targets.add)
            with self.assertRaisesRegex(PicklingError, "argument 1"):
                pool.call_concurrently(1, targets.echo, threading.Lock())
            with transaction.atomic(), self.assertRaises(AtomicBlockError):
                pool.call_concurrently(1, targets.add)
            self.assertEqual(pool.call_concurrently(1, targets.add), [0])

    def test_nothing_is_left_when_the_block_raises(self):
        with self.assertRaises(ZeroDivisionError), workers(2, using="fork") as pool:
            pids = pool.call_concurrently(2, targets.pid)
            raise ZeroDivisionError
        self.assertTrue(all(map(has_ended, pids)))

    def test_a_thousand_batches_leak_nothing(self):
        with workers(2, using="fork") as pool:
            pool.call_concurrently(2, targets.titles)
            before = resources()
            for _ in range(1000):
                self.assertEqual(pool.call_concurrently(2, targets.titles), [[], []])
            self.assertEqual(resources(), before)


def resources() -> tuple[int, int]:
    return len(os.listdir("/dev/fd")), threading.active_count()


def has_ended(pid: int) -> bool:
    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return poll(is_gone)

"""Processes of calls that are killed, at any moment."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.test import TestCase

from django_txtest import ChildCrashed, NoAtomicMixin, run_concurrently, workers
from django_txtest.concurrency import locks
from tests.concurrency import targets
from tests.library.models import Book
from tests.utils import SessionsMixin


def kill_itself(*args: object, **kwargs: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_transaction() -> None:
    with transaction.atomic():
        Book.objects.create(title="Emma")
        Book.objects.update(copies=7)
        kill_itself()


def in_a_long_statement(written: Path, writes: Path) -> None:
    """Be killed once another one is about to wait for the rows that this one wrote."""

    def wait_and_die() -> None:
        targets.wait_for(writes)
        kill_itself()

    threading.Thread(target=wait_and_die).start()
    with transaction.atomic():
        Book.objects.update(copies=7)
        targets.tell(written)
        if connection.vendor == "sqlite":
            time.sleep(600)
        targets.hang_in_the_database()


def write_what_it_wrote(written: Path, writes: Path) -> int:
    targets.wait_for(written)
    targets.tell(writes)
    return Book.objects.update(copies=2)


def after_a_commit() -> None:
    Book.objects.create(title="committed")
    kill_itself()


class Result:
    """Kills the process that pickles it."""

    __reduce__ = kill_itself


def while_its_result_is_sent() -> Result:
    return Result()


def while_a_write_is_held(path: Path) -> None:
    """Hold a lock on the file as well, which lasts as long as the process."""
    with path.with_suffix(".new").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        path.with_suffix(".new").rename(path)
        threading.Timer(0.2, kill_itself).start()
        Book.objects.create(title="never")


def write_after_it(path: Path) -> int:
    targets.wait_for(path)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    return Book.objects.update(copies=2)


def write_late() -> int:
    time.sleep(0.5)
    return Book.objects.update(copies=2)


class KilledMixin(SessionsMixin):
    using: str

    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        Book.objects.create(title="of the test", copies=1)

    def assertOthersAreUnharmed(self, target, write=write_late):
        died, added, written = self.run_calls([target, targets.add, write])
        self.assertIsInstance(died, ChildCrashed)
        self.assertEqual(died.exitcode, -signal.SIGKILL)
        self.assertEqual(added, 0)
        self.assertGreaterEqual(written, 1)
        if connection.vendor != "sqlite":
            self.assertNoSessions()
        with transaction.atomic():  # no lock is left
            Book.objects.update(copies=3)

    def run_calls(self, calls):
        return run_concurrently(calls, using=self.using, timeout=60)

    def test_in_a_call(self):
        self.assertOthersAreUnharmed(kill_itself)

    def test_in_a_transaction(self):
        self.assertOthersAreUnharmed(in_a_transaction)
        self.assertFalse(Book.objects.filter(copies=7).exists())

    # Else the write would be held for a second, as the other one waits for it.
    @patch.multiple(locks, SILENCE=0, SILENCE_WITHOUT_PROOF=0)
    def test_in_a_long_statement(self):
        paths = self.folder / "written", self.folder / "writes"
        self.assertOthersAreUnharmed(
            partial(in_a_long_statement, *paths), partial(write_what_it_wrote, *paths)
        )
        self.assertFalse(Book.objects.filter(copies=7).exists())

    def test_after_a_commit(self):
        self.assertOthersAreUnharmed(after_a_commit)
        self.assertTrue(Book.objects.filter(title="committed").exists())

    def test_while_its_result_is_sent(self):
        self.assertOthersAreUnharmed(while_its_result_is_sent)

    # Else the other, which is silent, is taken for waiting, and the write is made.
    @patch.multiple(locks, SILENCE=60, SILENCE_WITHOUT_PROOF=60)
    def test_while_a_write_is_held(self):
        path = self.folder / "lock"
        self.assertOthersAreUnharmed(
            partial(while_a_write_is_held, path), partial(write_after_it, path)
        )
        self.assertFalse(Book.objects.filter(title="never").exists())


class ForkTests(KilledMixin, NoAtomicMixin, TestCase):
    using = "fork"

    def test_before_the_call(self):
        """All while they connect; the others of a batch see no more of it than this."""

        def kill_children(**kwargs):
            if os.getpid() != parent:
                kill_itself()

        parent = os.getpid()
        connection_created.connect(kill_children)
        try:
            results = self.run_calls([targets.add] * 3)
        finally:
            connection_created.disconnect(kill_children)
        for error in results:
            self.assertIsInstance(error, ChildCrashed)
        self.assertEqual(self.run_calls([targets.add]), [0])


class SpawnTests(KilledMixin, NoAtomicMixin, TestCase):
    using = "spawn"


class WorkersTests(KilledMixin, NoAtomicMixin, TestCase):
    def run_calls(self, calls):
        with workers(3, using="fork") as pool:
            return pool.run_concurrently(calls, timeout=60)

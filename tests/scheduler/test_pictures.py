from __future__ import annotations

import os
import stat
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from django.db import connection, transaction
from django.test import SimpleTestCase, override_settings

from django_txtest import (
    DfsScheduler,
    History,
    InterleavingFailed,
    TxTestCase,
    conf,
    explore,
    replay,
)
from django_txtest.history import Kind
from django_txtest.scheduler import pictures
from django_txtest.scheduler.pictures import SUFFIX, write_picture
from django_txtest.timeline.spans import transactions
from tests.library.models import Book
from tests.scheduler import calls
from tests.utils import explores


class FolderMixin:
    def setUp(self):
        super().setUp()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "made" / "here"
        settings = override_settings(TXTEST_REPORT_DIR=self.folder)
        settings.enable()
        self.addCleanup(settings.disable)

    def names(self):
        return sorted(file.name for file in self.folder.iterdir())


@explores
class FailureTests(FolderMixin, TxTestCase):
    lend = staticmethod(partial(calls.lend, 1000))

    @classmethod
    def setUpTestData(cls):
        Book.objects.create(pk=1000, title="<b>a</b>", copies=5)

    def explore_all(self):
        scheduler = DfsScheduler()  # which makes four executions that fail
        return explore(self.lend, self.lend, scheduler=scheduler, stop_on_first=False)

    def test_each_failure_has_a_picture(self):
        found = self.explore_all()
        self.assertEqual(len(found.failures), 4)
        for failure in found.failures:
            self.assertEqual(
                failure.picture,
                self.folder / f"{self.id()}.{failure.schedule}{SUFFIX}",
            )
            text = failure.picture.read_text("utf-8")
            self.assertIn(failure.summary, text)
            self.assertIn(f"replay('{failure.schedule}', ", text)
            self.assertIn(f"txtest_replay {failure.schedule} {self.id()}", text)
        self.assertEqual(len(self.names()), 4)

    def test_it_is_named_last(self):
        with self.assertRaises(InterleavingFailed) as caught:
            self.assertSerializable(self.lend, self.lend)
        *_, replay, command, last = str(caught.exception).splitlines()
        [name] = self.names()
        self.assertEqual(last, f"Picture: {self.folder / name}")
        self.assertRegex(replay, r"^  replay\('\w+', ")
        schedule = replay.split("'")[1]
        self.assertEqual(
            command, f"In a shell: manage.py txtest_replay {schedule} {self.id()}"
        )

    def test_no_test_is_known(self):
        with mock.patch.object(type(self), "_running_test", None):
            failure = explore(self.lend, self.lend).failure
        self.assertEqual(failure.command, "")
        self.assertNotIn("txtest_replay", str(failure))
        self.assertNotIn("txtest_replay", failure.picture.read_text("utf-8"))

    def test_the_same_failure_replaces_it(self):
        schedule = explore(self.lend, self.lend).failure.schedule
        [name] = self.names()
        (self.folder / name).write_text("old")
        replay(schedule, self.lend, self.lend)
        self.assertEqual(self.names(), [name])
        self.assertNotEqual((self.folder / name).read_text(), "old")

    def test_only_the_first_ones_of_many(self):
        with mock.patch("django_txtest.scheduler.explorer.MAX_PICTURES", 3):
            found = self.explore_all()
        have = [failure.picture is not None for failure in found.failures]
        self.assertEqual(have, [True, True, True, False])

    def test_a_folder_that_cannot_be_written_to(self):
        self.folder.parent.mkdir()
        self.folder.write_text("a file")
        with self.assertWarnsRegex(RuntimeWarning, "TXTEST_REPORT_DIR name a folder"):
            failure = explore(self.lend, self.lend).failure
        self.assertIsNone(failure.picture)
        self.assertNotIn("Picture", str(failure))

    @override_settings(TXTEST_REPORT_DIR=None)
    def test_none_is_wanted(self):
        self.assertIsNone(explore(self.lend, self.lend).failure.picture)

    def test_the_history_of_the_last_execution(self):
        found = replay("a2b2", self.lend, self.lend)
        self.assertIsNone(found.failure)
        self.assertEqual(found.history.sessions, ["s1", "s2"])

    def test_brackets_are_those_of_the_database(self):
        def call():
            Book.objects.get(pk=1000)
            with transaction.atomic():
                Book.objects.filter(pk=1000).update(copies=3)
                with transaction.atomic():
                    Book.objects.get(pk=1000)
            Book.objects.get(pk=1000)

        history = replay("a", call, invariant=lambda results: True).history
        [found] = transactions(history)
        self.assertIs(found.ending, Kind.COMMIT)
        self.assertEqual(str(history[found.last]), "COMMIT")
        inside = [str(event).split()[0] for event in history[found.first : found.last]]
        wanted = ["UPDATE", "SAVEPOINT", "SELECT", "RELEASE"]
        if connection.vendor == "sqlite":
            wanted.insert(0, "BEGIN")
        self.assertEqual(inside, wanted)


class FileTests(FolderMixin, SimpleTestCase):
    def write(self, name):
        return write_picture(name, "A title", History(), {})

    def test_names_that_are_no_names_of_files(self):
        path = self.write("a/../b c<é>.ab2")
        self.assertEqual(path, self.folder / f"a_.._b_c_.ab2{SUFFIX}")
        self.assertEqual(self.names(), [path.name])

    def test_long_names(self):
        one, other = self.write("x" * 1000 + ".a"), self.write("x" * 1000 + ".b")
        self.assertNotEqual(one, other)
        self.assertLess(len(one.name), 200)

    def test_the_oldest_go(self):
        with mock.patch.object(pictures, "MAX_FILES", 3):
            for number in range(5):
                path = self.write(f"test{number}.a")
                os.utime(path, (number, number))
            (self.folder / "other.html").write_text("not ours")
            self.write("test5.a")
        wanted = [f"test{number}.a{SUFFIX}" for number in (3, 4, 5)]
        self.assertEqual(self.names(), ["other.html", *wanted])

    def test_several_at_once(self):
        with (
            mock.patch.object(pictures, "MAX_FILES", 3),
            ThreadPoolExecutor(4) as pool,
        ):
            list(pool.map(self.write, [f"test{n}.a" for n in range(40)]))
        self.assertGreaterEqual(len(self.names()), 1)
        for name in self.names():
            self.assertTrue(name.endswith(SUFFIX) and name.startswith("test"), name)

    @unittest.skipUnless(hasattr(os, "getuid"), "folders have owners on Unix")
    def test_the_folder_of_this_user(self):
        temporary = self.folder.parents[1]
        with (
            override_settings(),
            mock.patch.object(conf.tempfile, "gettempdir", return_value=str(temporary)),
        ):
            del conf.django_settings.TXTEST_REPORT_DIR
            path = self.write("test.a")
            self.assertEqual(path.parent.parent, temporary)
            self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)
            path.unlink()
            path.parent.rmdir()
            # Somebody else's trap.
            path.parent.symlink_to(temporary, target_is_directory=True)
            with self.assertWarnsRegex(RuntimeWarning, "not a folder of this user"):
                self.assertIsNone(self.write("test.a"))

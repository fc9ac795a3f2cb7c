"""Explorations with executors; run by tests/scheduler/test_spreading.py.

In processes of their own, as those of a parallel run can start none.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from django.core import mail
from django.db import connection
from django.test import override_settings
from django.utils import timezone, translation
from hypothesis import HealthCheck, assume, given, settings

from django_txtest import (
    DfsScheduler,
    DporScheduler,
    NotDeterministic,
    PctScheduler,
    RandomScheduler,
    Session,
    TxTestCase,
    explore,
    replay,
)
from django_txtest.exceptions import (
    DatabaseNotSupported,
    ExecutorFailed,
    InvalidCall,
    PicklingError,
    SessionStuck,
)
from django_txtest.scheduler import ahead
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.scheduler.programs import programs
from tests.suites.left import left_behind
from tests.utils import on_postgresql

SCHEDULERS = {
    "dpor": lambda: None,
    "dfs": DfsScheduler,
    "random": partial(RandomScheduler, 1, 12),
    "pct": partial(PctScheduler, 3, 1, 12),
}


def lend_twice(pk, number):
    """Differ in an argument, so that the calls are not interchangeable."""
    calls.lend_f(pk)
    calls.lend_f(pk)


def lend_by(pk, number):
    calls.lend(pk)


def die_elsewhere(pid):
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)


def wait_elsewhere(pid):
    """Do not come back from a step, but in the process that began."""
    Book.objects.count()
    if os.getpid() != pid:
        threading.Event().wait(0.8)


def tell(reader):
    """Keep what holds here: none of it may differ in another process."""
    name = f"{reader} {translation.get_language()} {timezone.get_current_timezone()}"
    Reader.objects.create(name=f"{name} {settings_told()} {timezone.now()}")
    mail.send_mail("hello", "", "from@example.org", ["to@example.org"])
    return len(mail.outbox) <= 2


def settings_told():
    from django.conf import settings

    return settings.OF_THE_TEST


def pool(method="forkserver"):
    """Return an executor of processes that have nothing of this one."""
    return ProcessPoolExecutor(2, multiprocessing.get_context(method))


def check_settings():
    from django.conf import settings

    assert settings.USE_TZ
    assert not hasattr(settings, "OF_THE_TEST")


class SpreadTestCase(TxTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.executor = pool()
        cls.addClassCleanup(cls.executor.shutdown)

    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(pk=1000, title="a", copies=5)
        cls.second = Book.objects.create(pk=1001, title="b", copies=5)

    @contextmanager
    def watched(self):
        """Yield what was asked of executors; see that nothing is left."""
        seen = []
        close = ahead.Ahead.close

        def note(self):
            seen.append(self)
            close(self)

        with mock.patch.object(ahead.Ahead, "close", note):
            yield seen
        self.assertEqual(clones(), [])

    def assertSame(self, executor, *targets, scheduler=lambda: None, **options):
        """Explore alone and with the executor; return what it did."""
        with self.watched() as seen:
            found = explore(
                *targets, scheduler=scheduler(), executor=executor, **options
            )
        alone = explore(*targets, scheduler=scheduler(), **options)
        self.assertEqual(told(found), told(alone))
        return seen[0]


def told(exploration):
    failures = [(str(each.schedule), str(each)) for each in exploration.failures]
    pictures = [str(each.picture) for each in exploration.failures]
    for number, picture in enumerate(pictures):
        schedule, text = failures[number]
        failures[number] = schedule, text.replace(picture, "")
    return (
        exploration.executions,
        exploration.exhausted,
        exploration.limit,
        exploration.depth,
        failures,
    )


def clones():
    """Return the clones that there are of the test's databases."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        folder = Path(name).parent
        prefix = f"{Path(name).stem}_txtest_"
        return [each.name for each in folder.iterdir() if each.name.startswith(prefix)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return [n for (n,) in cursor.fetchall() if n.startswith(f"{name}_txtest_")]


class ResultTests(SpreadTestCase):
    """It is the same as without an executor."""

    def test_proofs(self):
        targets = [partial(lend_twice, 1000, number) for number in range(2)]
        for name, scheduler in SCHEDULERS.items():
            with self.subTest(name):
                self.assertSame(self.executor, *targets, scheduler=scheduler)

    def test_races(self):
        targets = [partial(lend_by, 1000, number) for number in range(2)]
        for name, scheduler in SCHEDULERS.items():
            with self.subTest(name):
                self.assertSame(self.executor, *targets, scheduler=scheduler)

    def test_most_is_made_elsewhere(self):
        targets = [partial(lend_twice, 1000, number) for number in range(3)]
        did = self.assertSame(self.executor, *targets, max_time=600.0)
        self.assertGreater(did.used, 10)
        self.assertNotIn(ahead.this_process(), did.processes)

    def test_every_failure(self):
        def is_right(results):
            return Book.objects.get(pk=1000).copies == 2

        targets = [partial(lend_by, 1000, number) for number in range(3)]
        self.assertSame(
            self.executor,
            *targets,
            invariant=is_right,
            stop_on_first=False,
            preemption_bound=1,
            max_time=600.0,
        )

    def test_limits(self):
        targets = [partial(lend_twice, 1000, number) for number in range(3)]
        self.assertSame(self.executor, *targets, max_executions=20)

    def test_deadlocks(self):
        self.assertSame(
            self.executor,
            partial(calls.lend_both, 1000, 1001),
            partial(calls.lend_both, 1001, 1000),
        )

    def test_what_holds_for_the_caller(self):
        with (
            override_settings(OF_THE_TEST="of the test"),
            translation.override("fr"),
            timezone.override("Asia/Tokyo"),
        ):
            self.assertSame(
                self.executor,
                Session("ann", tell, "ann"),
                Session("bob", tell, "bob"),
                setup=lambda: Reader.objects.create(name="setup"),
                invariant=lambda results: (
                    results == [True, True] and Reader.objects.count() == 3
                ),
                pin=True,
                scheduler=DfsScheduler,
            )
        self.assertEqual(mail.outbox, [])

    def test_what_the_test_did_before(self):
        Book.objects.filter(pk=1000).update(copies=1)
        Genre.objects.create(name="new")
        self.assertSame(
            self.executor,
            partial(lend_twice, 1000, 0),
            partial(calls.create_genre, "new"),
            invariant=lambda results: (
                results[1] == "there was one" and Book.objects.get(pk=1000).copies == -1
            ),
            scheduler=DfsScheduler,
        )

    def test_a_replay_needs_nobody(self):
        target = partial(calls.lend, 1000)
        with self.watched() as seen:
            found = replay("ab2a", target, target, executor=self.executor)
        self.assertEqual(len(found.failures), 1)
        self.assertEqual(seen, [])

    def test_random_programs(self):
        used = []
        several = settings(
            max_examples=3,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

        @several
        @given(programs(with_locks=connection.vendor == "postgresql"))
        def try_one(targets):
            for scheduler in (DporScheduler, DfsScheduler):
                self.check_program(scheduler, targets, used)

        try_one()
        self.assertGreater(sum(used), 0)

    def check_program(self, scheduler, targets, used):
        def try_it(executor):
            return told(
                explore(
                    *targets,
                    scheduler=scheduler(),
                    invariant=bool,
                    allow=(Exception,),
                    max_executions=40,
                    stop_on_first=False,
                    executor=executor,
                )
            )

        try:
            expected = try_it(None)
        except NotDeterministic:
            assume(False)
        with self.watched() as seen:
            found = try_it(self.executor)
        if found != expected:  # it may be up to the server who gets a lock
            assume(try_it(None) == expected)
        self.assertEqual(found, expected)
        used.append(seen[0].used)


class ExecutorTests(SpreadTestCase):
    """Any executor will do."""

    def check(self, executor):
        targets = [partial(lend_twice, 1000, number) for number in range(2)]
        did = self.assertSame(executor, *targets, scheduler=DfsScheduler)
        self.assertGreater(did.used, 0)
        return did

    def check_processes(self, executor):
        did = self.check(executor)
        self.assertNotIn(ahead.this_process(), did.processes)
        found = executor.submit(left_behind).result(60)
        self.assertEqual(found, (0, [], False, []))

    def test_processes(self):
        self.check_processes(self.executor)
        with pool("spawn") as executor:
            self.check_processes(executor)

    def test_forked_processes(self):
        with pool("fork") as executor:
            with override_settings(OF_THE_TEST=1, USE_TZ=False):
                executor.submit(abs, -1).result(60)
            did = self.check(executor)
            self.assertNotIn(ahead.this_process(), did.processes)
            # Nothing holds there that held when they were forked.
            self.assertSame(
                executor,
                partial(lend_twice, 1000, 1),
                partial(lend_twice, 1000, 2),
                scheduler=DfsScheduler,
                setup=check_settings,
            )

    def test_threads(self):
        with ThreadPoolExecutor(2) as executor:
            did = self.check(executor)
        self.assertEqual(did.processes, {ahead.this_process()})
        self.assertEqual(mail.outbox, [])

    def test_one_that_does_it_at_once(self):
        class AtOnce(Executor):
            def submit(self, function, *args, **kwargs):
                future = Future()
                future.set_result(function(*args, **kwargs))
                return future

        with mock.patch.object(os, "cpu_count", return_value=1):
            self.check(AtOnce())


class DaskTests(SpreadTestCase):
    """In yet another process: a cluster leaves threads."""

    @classmethod
    def setUpClass(cls):
        from dask.distributed import Client, LocalCluster

        super().setUpClass()
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0"
        )
        cls.addClassCleanup(cluster.close)
        client = Client(cluster)
        cls.addClassCleanup(client.close)
        cls.executor = client.get_executor()

    def test_the_same_result(self):
        for target in (lend_twice, lend_by):
            with self.subTest(target):
                targets = [partial(target, 1000, number) for number in range(2)]
                did = self.assertSame(self.executor, *targets, scheduler=DfsScheduler)
        self.assertNotIn(ahead.this_process(), did.processes)

    def test_the_workers(self):
        self.assertEqual(ahead.worker_count(self.executor), 2)
        targets = [partial(lend_twice, 1000, number) for number in range(2)]
        did = self.assertSame(self.executor, *targets, scheduler=DfsScheduler)
        self.assertGreater(did.used, 0)
        found = self.executor.submit(left_behind).result(60)
        self.assertEqual(found, (0, [], False, []))


class ProblemTests(SpreadTestCase):
    def check_refused(self, error, message, *targets, executor, **options):
        with self.watched() as seen, self.assertRaisesRegex(error, message):
            explore(*targets, executor=executor, **options)
        # It is fit for more, and so is the database.
        self.assertEqual(self.book.copies, Book.objects.get(pk=1000).copies)
        return seen

    def test_no_executor(self):
        for wrong in (2, ProcessPoolExecutor):
            self.check_refused(InvalidCall, "Pass a ProcessPool", int, executor=wrong)

    def test_calls_that_cannot_be_sent(self):
        lock = threading.Lock()
        for options, message in (
            ({}, "The call of session s2 cannot be pickled.* leave executor= out"),
            ({"invariant": lambda results: lock}, "The option invariant cannot"),
            ({"setup": partial(print, lock)}, "The option setup cannot"),
        ):
            target = partial(print, lock) if not options else int
            self.check_refused(
                PicklingError, message, int, target, executor=self.executor, **options
            )

    def test_a_worker_that_is_killed(self):
        executor = pool()
        self.addCleanup(executor.shutdown)
        self.check_refused(
            ExecutorFailed,
            "Was one of its processes killed",
            *(partial(lend_twice, 1000, number) for number in range(2)),
            executor=executor,
            setup=partial(die_elsewhere, os.getpid()),
            scheduler=DfsScheduler(),
        )

    def test_an_executor_that_was_shut_down(self):
        executor = pool()
        executor.shutdown()
        self.check_refused(
            ExecutorFailed, "was it shut down", int, int, executor=executor
        )

    def test_processes_with_other_settings(self):
        with mock.patch.object(ahead, "settings_module", return_value="other.settings"):
            self.check_refused(
                ExecutorFailed, "has the settings of", int, int, executor=self.executor
            )

    def test_what_goes_wrong_elsewhere_only(self):
        """The caller makes it itself: nothing is wrong there."""
        targets = [partial(lend_twice, 1000, n) for n in range(2)]
        with (
            override_settings(TXTEST_STEP_TIMEOUT=0.5),
            self.assertWarnsRegex(RuntimeWarning, "explored here instead"),
        ):
            self.assertSame(
                self.executor,
                *targets,
                partial(wait_elsewhere, os.getpid()),
                scheduler=DfsScheduler,
                preemption_bound=0,
            )

    def test_what_goes_wrong_everywhere(self):
        def stuck():
            Book.objects.count()
            threading.Event().wait(0.5)

        with override_settings(TXTEST_STEP_TIMEOUT=0.1):
            self.check_refused(SessionStuck, "s1", stuck, executor=self.executor)

    def test_ctrl_c(self):
        targets = [partial(lend_twice, 1000, n) for n in range(3)]

        def interrupt(found):
            if found.executions == 5:
                raise KeyboardInterrupt

        self.check_refused(
            KeyboardInterrupt, "", *targets, executor=self.executor, progress=interrupt
        )
        found = self.executor.submit(left_behind).result(60)
        self.assertEqual(found, (0, [], False, []))

    def test_clones_of_a_run_that_was_killed(self):
        get = ahead.get_clones(connection)
        self.addCleanup(get.drop)
        get.make(3)
        self.assertEqual(len(clones()), 3 + (connection.vendor == "sqlite"))
        self.assertSame(
            self.executor, *[partial(lend_twice, 1000, n) for n in range(2)]
        )

    @on_postgresql
    def test_a_database_that_others_use(self):
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("SELECT 'of another one'")
        self.addCleanup(other.close)
        self.check_refused(
            DatabaseNotSupported,
            "while others use it: pid .*of another one.*Close these",
            int,
            executor=self.executor,
        )

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from django.conf import settings
from django.db import connection, connections, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.testcases import DatabaseOperationForbidden
from django.utils import timezone, translation

from django_txtest import (
    CallError,
    CallTimeout,
    ChildCrashed,
    NoAtomicMixin,
    Results,
    call_concurrently,
    make_concurrent_calls,
    run_concurrently,
)
from django_txtest.concurrency import batch, child, processes
from django_txtest.concurrency.forking import ForkedProcess
from django_txtest.exceptions import (
    AtomicBlockError,
    DatabaseNotAllowed,
    InvalidCall,
    PicklingError,
    RemoteError,
    TxTestError,
)
from tests.concurrency import targets
from tests.concurrency.clock import TIMEOUT, time_passes_when
from tests.library.models import Book
from tests.utils import ROOT, SessionsMixin, other_sessions, poll

MODULE = "tests.concurrency.targets"


class EveryModeMixin:
    """What calls do however they are made."""

    using: str

    def run_calls(self, *calls, **options) -> Results:
        # What the calls print is theirs to test: it would clutter the report.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return run_concurrently(calls, using=self.using, **options)

    def test_results_are_in_the_order_of_the_calls(self):
        calls = [(targets.add, (i,), {"to": 10}) for i in range(3)]
        results = self.run_calls(*calls)
        self.assertEqual(results, [10, 11, 12])
        self.assertEqual(results.values, [10, 11, 12])
        self.assertEqual(results.errors, [])
        results.raise_errors()

    def test_forms_of_a_call(self):
        results = self.run_calls(
            targets.add,
            f"{MODULE}:add",
            (targets.add, {"number": 1}),
            (f"{MODULE}:add", [1, 2], {"n": 3, "target": 4, "function": 5, "self": 6}),
            partial(targets.add, 7),
        )
        self.assertEqual(results, [0, 0, 1, 21, 7])

    def test_the_rows_of_the_test_are_seen_and_theirs_are_kept(self):
        Book.objects.create(title="Emma")
        results = self.run_calls(
            targets.titles, (targets.create, {"title": "Persuasion"})
        )
        results.raise_errors()
        self.assertIn("Emma", results[0])
        self.assertEqual(Book.objects.get(pk=results[1]).title, "Persuasion")

    def test_coroutine_functions(self):
        Book.objects.create(title="Emma")
        self.assertEqual(self.run_calls(targets.count_async), [1])

    def test_nested_functions(self):
        def double(x):
            return 2 * x

        self.assertEqual(self.run_calls((double, [21], {}), lambda: 1), [42, 1])

    def test_exceptions(self):
        results = self.run_calls(
            (targets.refuse, {"book": "Emma"}), targets.add, targets.leave
        )
        refused, added, left = results
        self.assertEqual(added, 0)
        self.assertEqual(results.errors, [refused, left])
        self.assertIsInstance(refused, CallError)
        self.assertIn("call 1 (tests.concurrency.targets:refuse)", str(refused))
        self.assertIn("Refused: no copies of Emma", str(refused))
        original = refused.original
        self.assertIsInstance(original, targets.Refused)
        self.assertEqual((original.book, original.copies), ("Emma", 0))
        self.assertIsInstance(original.__cause__, KeyError)
        if hasattr(original, "add_note"):
            self.assertEqual(original.__notes__, ["try the other library"])
        traceback = original.__traceback__
        while traceback.tb_next:
            traceback = traceback.tb_next
        self.assertEqual(traceback.tb_frame.f_code.co_name, "refuse")
        with self.assertRaises(targets.Refused) as caught:
            refused.reraise()
        self.assertIs(caught.exception, original)
        self.assertIsInstance(left.original, SystemExit)
        self.assertEqual(left.original.code, 3)
        with self.assertRaises(CallError) as caught:
            results.raise_errors()
        self.assertIs(caught.exception.__cause__, original)
        self.assertIn("also: call 3", str(caught.exception))

    def test_exceptions_without_a_hash(self):
        [error] = self.run_calls(targets.raise_without_hash)
        self.assertIsInstance(error.original, targets.WithoutHash)
        self.assertEqual(error.original.number, 3)

    def test_what_a_call_only_promised_is_done(self):
        Book.objects.create(title="Emma")
        called, error, books = self.run_calls(
            targets.AsyncCallable(), targets.generate, targets.queryset
        )
        self.assertEqual(called, "called")
        self.assertIn("generator", str(error))
        with self.assertNumQueries(0):
            self.assertEqual([book.title for book in books], ["Emma"])

    def test_overridden_settings(self):
        with override_settings(SITE_ID=7, COLOUR={"b": lambda: 3}):
            del settings.ROOT_URLCONF
            site, colour, urlconf = self.run_calls(
                (targets.setting, {"name": "SITE_ID"}),
                (targets.setting, {"name": "COLOUR"}),
                (targets.setting, {"name": "ROOT_URLCONF"}),
            )
        self.assertEqual((site, colour["b"](), urlconf), (7, 3, "deleted"))

    def test_assigned_settings(self):
        before = settings.SITE_ID
        settings.SITE_ID = 9
        self.addCleanup(setattr, settings, "SITE_ID", before)
        results = self.run_calls((targets.setting, {"name": "SITE_ID"}))
        self.assertEqual(results, [9])

    def test_databases_of_the_test(self):
        names = targets.database_names()
        [result] = self.run_calls(targets.database_names)
        self.assertEqual(result["default"], names["default"])
        self.assertEqual(result["replica"], names["replica"])

    def test_a_database_that_the_test_may_not_use(self):
        [error] = self.run_calls((targets.titles, {"using": "other"}))
        self.assertIsInstance(error, CallError)
        self.assertIn("other", str(error))
        self.assertIn("databases", str(error))

    def test_no_mail_is_sent(self):
        self.assertEqual(self.run_calls(targets.send_mail), [1])

    def test_a_transaction_that_a_call_leaves_open(self):
        if self.using == "inline":
            self.skipTest("it is the test's own connection then")
        self.run_calls((targets.leave_a_transaction_open, ["Emma"], {})).raise_errors()
        self.assertEqual(targets.titles(), [])

    def test_large_arguments_and_results(self):
        text = "x" * 10_000_000
        [(args, kwargs)] = self.run_calls((targets.echo, [text], {"text": text}))
        self.assertEqual(args, (text,))
        self.assertEqual(kwargs, {"text": text})

    def test_what_is_not_a_call(self):
        for wrong in (
            None,
            3,
            (),
            (targets.add,),
            (targets.add, 1),
            "no target",
            f"{MODULE}:nothing",
            "no.such:thing",
            f"{MODULE}:MODULE",
            (targets.add, "text", {}),
            (targets.add, [], {}, {}),
        ):
            with self.subTest(wrong=wrong), self.assertRaises(InvalidCall):
                self.run_calls(targets.add, wrong)

    def test_a_call_in_place_of_a_list(self):
        with self.assertRaisesRegex(InvalidCall, "not a list of calls"):
            run_concurrently(targets.add)

    def test_no_calls(self):
        with self.assertRaisesRegex(InvalidCall, "no calls"):
            self.run_calls()

    def test_language_and_time_zone(self):
        with translation.override("fr"), timezone.override("Asia/Tokyo"):
            results = self.run_calls(targets.locale)
        self.assertEqual(results, [("fr", "Asia/Tokyo")])

    def test_outcomes(self):
        results = self.run_calls(targets.add, targets.leave)
        for outcome, result in zip(results.outcomes, results, strict=True):
            self.assertIs(outcome.result, result)
            self.assertGreaterEqual(outcome.duration, 0)
        self.assertGreaterEqual(results.skew, 0)


class InlineTests(EveryModeMixin, NoAtomicMixin, TestCase):
    databases = ("default", "replica")
    using = "inline"

    def test_in_this_thread_one_after_the_other(self):
        threads = []
        self.run_calls(*[lambda: threads.append(threading.current_thread())] * 3)
        self.assertEqual(threads, [threading.current_thread()] * 3)


class ConcurrentMixin(SessionsMixin, EveryModeMixin):
    """What calls do that are made at the same time."""

    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        #: Is there when a call hangs.
        self.hangs = self.folder / "hangs"

    def tearDown(self):
        targets.released.set()
        self.assertTrue(poll(lambda: not call_threads()))
        targets.released.clear()

    def run_until(self, condition, *calls) -> Results:
        """Make the calls; their time is up when the condition holds."""
        with time_passes_when(condition):
            return self.run_calls(*calls, timeout=TIMEOUT)

    def test_a_lost_update_is_seen(self):
        book = Book.objects.create(title="Emma", copies=10)
        self.run_calls(*[(targets.borrow, [book.pk], {})] * 5)
        book.refresh_from_db()
        self.assertGreater(book.copies, 5)

    def test_a_lock_prevents_it(self):
        if not connection.features.has_select_for_update:
            self.skipTest("SQLite has no row locks")
        book = Book.objects.create(title="Emma", copies=10)
        results = self.run_calls(*[(targets.borrow_locked, [book.pk], {})] * 5)
        self.assertEqual(sorted(results), [5, 6, 7, 8, 9])

    def test_they_overlap(self):
        paths = [self.folder / str(number) for number in range(3)]

        def gather(path):
            targets.tell(path)
            targets.wait_for(*paths)

        results = self.run_calls(*[partial(gather, path) for path in paths])
        results.raise_errors()
        starts = [outcome.started for outcome in results.outcomes]
        self.assertEqual(results.skew, max(starts) - min(starts))
        ends = [outcome.started + outcome.duration for outcome in results.outcomes]
        self.assertLess(max(starts), min(ends))

    def test_connections_are_closed(self):
        self.run_calls(*[targets.titles] * 3)
        if connection.vendor != "sqlite":
            self.assertNoSessions()

    def test_a_timeout(self):
        hang = partial(targets.hang_after_a_write, self.hangs)
        with mock.patch.object(processes, "STACK_TIMEOUT", TIMEOUT):
            hung, added = self.run_until(self.hangs.exists, hang, targets.add)
        self.assertEqual(added, 0)
        self.assertIsInstance(hung, CallTimeout)
        self.assertIn("timeout of 120 s", str(hung))
        first, *_ = hung.stack.splitlines()
        self.assertIn("targets.py", first)
        self.assertIn("in hang_after_a_write", first)
        self.assertIn(hung.stack.splitlines()[-1].strip(), str(hung))

    def test_a_timeout_in_the_database(self):
        if connection.vendor == "sqlite":
            self.skipTest("nothing of SQLite waits for longer than its own limit")
        book = Book.objects.create(title="Emma")
        call = (targets.hold_a_lock_and_hang, [book.pk], {})
        [hung] = self.run_until(one_sleeps, call)
        self.assertIsInstance(hung, CallTimeout)
        self.assertNoSessions()
        with transaction.atomic():
            Book.objects.select_for_update(nowait=True).get(pk=book.pk)

    def test_connections_that_a_call_makes_itself(self):
        if connection.vendor == "sqlite":
            self.skipTest("SQLite has no sessions to count")
        book = Book.objects.create(title="Emma")
        call = (targets.connect_again_and_hang, [book.pk], {})
        [hung] = self.run_until(one_sleeps, call)
        self.assertIsInstance(hung, CallTimeout)
        self.assertNoSessions()

    def test_a_late_call_writes_no_more(self):
        hang = partial(targets.hang_and_create, self.hangs)
        [hung] = self.run_until(self.hangs.exists, hang)
        targets.released.set()
        self.assertIsInstance(hung, CallTimeout)
        self.assertEqual(hung.goes_on, self.using == "threads")
        self.assertEqual("cannot be ended and goes on" in str(hung), hung.goes_on)
        self.assertTrue(poll(lambda: not call_threads()))
        self.assertEqual(targets.titles(), [])

    def test_ctrl_c(self):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        paths = [self.folder / name for name in ("one", "two")]

        def interrupt():
            targets.wait_for(*paths)
            os.kill(os.getpid(), signal.SIGINT)

        hang = targets.hang
        if connection.vendor != "sqlite":
            hang = targets.hang_in_the_database
        thread = threading.Thread(target=interrupt, daemon=True)
        with self.assertRaises(KeyboardInterrupt):
            thread.start()
            self.run_calls(*[(hang, [path], {}) for path in paths])
        thread.join()
        if connection.vendor != "sqlite":
            self.assertTrue(poll(lambda: not call_threads("hang_in_the_database")))
            self.assertNoSessions()

    def test_atomic_blocks_are_refused(self):
        message = "NoAtomicMixin"
        with (
            transaction.atomic(),
            self.assertRaisesRegex(AtomicBlockError, message),
        ):
            self.run_calls(targets.add)
        transaction.set_autocommit(False)
        self.addCleanup(transaction.set_autocommit, True)
        with self.assertRaisesRegex(AtomicBlockError, message):
            self.run_calls(targets.add)

    def test_calls_that_meddle_with_their_connections(self):
        def forget_wrappers():
            connection.execute_wrappers.clear()
            return 1

        def break_close():
            connections["default"].close = None
            return 2

        def leave_autocommit():
            transaction.set_autocommit(False)
            Book.objects.create(title="never")
            return 3

        calls = [forget_wrappers, break_close, leave_autocommit]
        self.assertEqual(self.run_calls(*calls), [1, 2, 3])
        self.assertFalse(Book.objects.exists())

    def test_a_call_that_is_held_does_not_pay_for_one_that_hangs(self):
        def wait_for_it():
            targets.tell(self.hangs)
            while not Book.objects.exists():
                time.sleep(0.01)

        with time_passes_when(self.hangs.exists, TIMEOUT / 3):
            results = self.run_calls(
                wait_for_it, (targets.create, ["Emma"], {}), timeout=TIMEOUT
            )
        results.raise_errors()

    def test_keyboard_interrupt_is_an_error_of_the_call(self):
        [error] = self.run_calls(targets.press_ctrl_c)
        self.assertIsInstance(error.original, KeyboardInterrupt)

    def test_progress_on_a_terminal(self):
        shown = self.folder / "shown"

        class Terminal(StringIO):
            def isatty(self):
                return True

            def flush(self):
                if "s: waiting for call 1 (" in self.getvalue():
                    targets.tell(shown)

        hangs = self.hangs

        def go_on():
            targets.tell(hangs)
            time.sleep(0.5)

        with redirect_stderr(Terminal()) as stream, redirect_stdout(StringIO()):
            call = (targets.wait_for, [shown], {})
            run_concurrently([call], using=self.using).raise_errors()
        self.assertTrue(stream.getvalue().endswith("\r\x1b[K"))
        with (
            redirect_stderr(StringIO()) as stream,
            redirect_stdout(StringIO()),
            time_passes_when(self.hangs.exists, TIMEOUT / 2),
        ):
            run_concurrently([go_on], using=self.using, timeout=TIMEOUT)
        self.assertEqual(stream.getvalue(), "")

    def test_a_database_that_cannot_be_reached(self):
        wrong = {**connection.settings_dict, "NAME": "/no/such/database"}
        before = dict(connection.settings_dict)
        connection.settings_dict.update(wrong)
        try:
            results = self.run_calls(targets.titles, targets.titles)
        finally:
            connection.settings_dict.update(before)
        for error in results:
            self.assertIsInstance(error, CallError)
            self.assertIn("OperationalError", str(error))


class ThreadTests(ConcurrentMixin, NoAtomicMixin, TestCase):
    databases = ("default", "replica")
    using = "threads"

    def test_no_thread_is_left(self):
        self.run_calls(*[targets.add] * 3)
        self.assertEqual(call_threads("add"), [])

    def test_what_was_done_in_time_counts_though_it_is_heard_too_late(self):
        end = self.folder / "end"

        def call():
            targets.tell(self.hangs)
            targets.wait_for(end)

        def is_done():
            """Let the call go on and finish while its batch does something else."""
            if not self.hangs.exists():
                return False
            targets.tell(end)
            return poll(lambda: not call_threads())

        self.run_until(is_done, call).raise_errors()

    def test_results_that_cannot_be_pickled(self):
        [lock] = self.run_calls(targets.return_unpicklable)
        self.assertTrue(hasattr(lock, "acquire"))


class ProcessMixin(ConcurrentMixin):
    """What calls do that have a process each."""

    def test_each_in_a_process_of_its_own(self):
        results = self.run_calls(*[targets.pid] * 3)
        self.assertEqual(len({os.getpid(), *results}), 4)
        self.assertEqual([outcome.pid for outcome in results.outcomes], results)
        self.assertEqual([outcome.exitcode for outcome in results.outcomes], [0, 0, 0])

    def test_what_they_print_is_shown_and_kept(self):
        stdout, stderr = StringIO(), StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            results = run_concurrently(
                [(targets.chatter, {"text": "hello"})], using=self.using
            )
        self.assertEqual(results, ["hello"])
        self.assertEqual(
            sorted(stdout.getvalue().splitlines()), ["hello", "straight to the file"]
        )
        self.assertEqual(stderr.getvalue(), "HELLO\n")
        self.assertEqual(results.outcomes[0].stdout, stdout.getvalue())
        self.assertEqual(results.outcomes[0].stderr, "HELLO\n")

    def test_children_that_die(self):
        died, added, killed = self.run_calls(
            (targets.die, {"status": 5}), targets.add, targets.kill_itself
        )
        self.assertEqual(added, 0)
        self.assertIsInstance(died, ChildCrashed)
        self.assertEqual(died.exitcode, 5)
        self.assertIn("last words", died.stderr)
        self.assertIn("last words", str(died))
        self.assertIn("status 5", str(died))
        with self.assertRaises(ChildCrashed):
            died.reraise()
        self.assertIsInstance(killed, ChildCrashed)
        self.assertEqual(killed.exitcode, -9)
        self.assertIn("SIGKILL", str(killed))

    def test_a_child_that_dies_and_leaves_a_process(self):
        [died] = self.run_calls(targets.leave_a_forked_process_and_die)
        self.assertIsInstance(died, ChildCrashed)
        self.assertEqual(died.exitcode, 3)

    def test_a_thread_that_a_child_leaves_in_the_database(self):
        if connection.vendor == "sqlite":
            self.skipTest("SQLite has no sessions to count")
        self.run_calls(targets.leave_a_thread_in_the_database).raise_errors()
        self.assertNoSessions()

    def test_output_that_the_terminal_cannot_show(self):
        stream = TextIOWrapper(BytesIO(), encoding="ascii")
        with redirect_stdout(stream), redirect_stderr(StringIO()):
            results = run_concurrently(
                [(targets.chatter, {"text": "caf\u00e9"})], using=self.using
            )
        self.assertEqual(results, ["caf\u00e9"])
        self.assertIn("caf\u00e9", results.outcomes[0].stdout)
        stream.seek(0)
        self.assertIn("caf\\xe9", stream.read())

    def test_a_child_that_ignores_sigterm(self):
        hang = partial(targets.hang_stubbornly, self.hangs)
        results = self.run_until(self.hangs.exists, hang)
        self.assertIsInstance(results[0], CallTimeout)
        self.assertEqual(results.outcomes[0].exitcode, -signal.SIGKILL)

    def test_processes_of_a_call_end_with_it(self):
        with TemporaryDirectory() as folder:
            path = Path(folder, "pid")
            self.run_calls((targets.start_a_process, {"path": path}))
            pid = int(path.read_text())
        self.assertTrue(poll(lambda: has_ended(pid)))

    def test_lambdas_that_use_connections_and_settings(self):
        def use():
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            return settings.SITE_ID, connections["default"].vendor

        self.assertEqual(self.run_calls(use), [(settings.SITE_ID, connection.vendor)])

    def test_results_and_exceptions_that_cannot_be_pickled(self):
        returned, raised = self.run_calls(
            targets.return_unpicklable, targets.raise_unpicklable
        )
        self.assertIsInstance(returned.original, PicklingError)
        self.assertRegex(str(returned), "call 1.*lock")
        self.assertIsInstance(raised.original, RemoteError)
        self.assertIn("Unpicklable: no way to travel", str(raised))
        self.assertIn("in raise_unpicklable", str(raised))

    def test_other_databases_are_refused_in_threads_of_the_call_too(self):
        def use_other():
            errors = []

            def use():
                try:
                    targets.titles(using="other")
                except (DatabaseNotAllowed, DatabaseOperationForbidden) as error:
                    errors.append(error)  # the second in a copy of the test's process

            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            return len(errors)

        self.assertEqual(self.run_calls(use_other), [1])

    def test_no_file_is_left(self):
        descriptors = set(os.listdir("/dev/fd"))
        self.run_calls(targets.add)
        self.assertEqual(set(os.listdir("/dev/fd")), descriptors)

    def test_they_end_with_the_parent(self):
        using, path = self.using, self.hangs

        def hang_two_levels_down():
            call = (targets.hang, {"path": path})
            return run_concurrently([call], using=using).outcomes

        [hung] = self.run_until(path.exists, hang_two_levels_down)
        self.assertIsInstance(hung, CallTimeout, hung)
        pid = int(path.read_text())
        self.assertTrue(poll(lambda: has_ended(pid)))


class SpawnTests(ProcessMixin, NoAtomicMixin, TestCase):
    databases = ("default", "replica")
    using = "spawn"

    def test_what_cannot_be_pickled_is_named(self):
        lock = threading.Lock()
        for name, call in {
            "argument 2": (targets.echo, [1, lock], {}),
            "argument 'key'": (targets.echo, {"key": lock}),
            "target": partial(targets.echo, lock),
        }.items():
            with self.assertRaisesRegex(PicklingError, f"{name} of call 2.*lock"):
                self.run_calls(targets.add, call)
        with (
            override_settings(LOCK=lock),
            self.assertRaisesRegex(PicklingError, "setting LOCK.*lock"),
        ):
            self.run_calls(targets.add)

    def test_without_the_app(self):
        apps = [app for app in settings.INSTALLED_APPS if app != "django_txtest"]
        with (
            override_settings(INSTALLED_APPS=apps),
            self.assertRaisesRegex(TxTestError, "INSTALLED_APPS"),
        ):
            self.run_calls(targets.add)

    def test_warning_filters_and_levels_of_loggers(self):
        with warnings.catch_warnings(), self.assertLogs("tests.level", "DEBUG") as logs:
            warnings.simplefilter("error", UserWarning)
            logs.records.append(None)  # assertLogs wants one; the call has its own
            warned, level = self.run_calls(targets.warn, targets.logging_level)
        self.assertIsInstance(warned.original, UserWarning)
        self.assertEqual(level, logging.DEBUG)


class ForkTests(ProcessMixin, NoAtomicMixin, TestCase):
    databases = ("default", "replica")
    using = "fork"

    def test_mocks_and_closures_are_there(self):
        lock = threading.Lock()
        with mock.patch.object(targets, "add", return_value="mocked"):
            results = self.run_calls((targets.echo, [lock], {}), lambda: targets.add())
        self.assertIsInstance(results[0], CallError)  # the result cannot be pickled
        self.assertEqual(results[1], "mocked")

    def test_connections_of_the_parent_stay_as_they_are(self):
        connection.ensure_connection()
        handle = connection.connection
        self.run_calls(targets.titles, targets.collect_garbage)
        self.assertIs(connection.connection, handle)
        self.assertEqual(targets.titles(), [])

    def test_output_of_a_call_that_is_killed(self):
        def talk_and_die():
            print("out", end="")
            print("err", end="", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGKILL)

        [outcome] = self.run_calls(talk_and_die).outcomes
        self.assertEqual((outcome.stdout, outcome.stderr), ("out", "err"))

    def test_a_call_that_forks_and_writes(self):
        def fork_and_write():
            if (pid := os.fork()) == 0:
                connection.close()
                Book.objects.create(title="of the fork")
                connection.close()
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        self.assertEqual(self.run_calls(fork_and_write), [0])
        self.assertEqual(targets.titles(), ["of the fork"])

    def test_a_call_has_no_thread_but_its_own(self):
        if sys.platform != "linux":
            self.skipTest("elsewhere a thread ends the process with its parent")

        def fork():
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Python 3.12 warns where there are more
                if (pid := os.fork()) == 0:
                    os._exit(0)
            os.waitpid(pid, 0)
            return threading.active_count()

        self.assertEqual(self.run_calls(fork), [1])

    def test_the_end_of_a_call_is_heard_of_while_others_go_on(self):
        heard = self.folder / "heard"

        def clear_up(process):
            heard.touch()

        with (
            mock.patch.object(batch, "TICK", 3600.0),  # it is not looked for
            mock.patch.object(ForkedProcess, "clear_up", clear_up),
        ):
            calls = [(poll, [heard.exists], {}), (os._exit, [3], {})]
            seen, died = self.run_calls(*calls)
        self.assertIs(seen, True)
        self.assertIsInstance(died, ChildCrashed)

    def test_a_process_that_cannot_be_forked(self):
        descriptors, made = set(os.listdir("/dev/fd")), self.folder / "made"
        forks = [os.fork, mock.Mock(side_effect=BlockingIOError)]
        pids = []

        def fork():
            pids.append(forks.pop(0)())
            return pids[-1]

        with mock.patch("os.fork", fork), self.assertRaises(BlockingIOError):
            self.run_calls((made.touch, {}), (made.touch, {}))
        self.assertEqual(set(os.listdir("/dev/fd")), descriptors)
        [pid] = pids
        self.assertTrue(has_ended(pid))
        self.assertFalse(made.exists())

    def test_they_end_with_the_parent_where_a_thread_has_to_see_to_it(self):
        with mock.patch.object(child, "_is_killed_at_end", return_value=False):
            self.test_they_end_with_the_parent()

    def test_children_that_a_handler_reaps(self):
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGCHLD, before)
        self.assertEqual(self.run_calls(targets.add, targets.add), [0, 0])

    def test_calls_within_a_call_are_forked_too(self):
        def nested():
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return run_concurrently([targets.pid] * 2)

        [pids] = self.run_calls(nested)
        self.assertEqual(len({os.getpid(), *pids}), 3)

    def test_connection_pools_of_the_parent_stay_as_they_are(self):
        has_pools = importlib.util.find_spec("psycopg_pool") is not None
        if connection.vendor != "postgresql" or not has_pools:
            self.skipTest("pools are of psycopg 3, and a package of their own")
        pool = {"min_size": 1, "max_size": 4}
        options = {**connection.settings_dict["OPTIONS"], "pool": pool}
        connection.close()
        with mock.patch.dict(connection.settings_dict, OPTIONS=options):
            before = connection.pool
            try:
                Book.objects.create(title="Emma")
                with (
                    warnings.catch_warnings()
                ):  # the threads of the pool are no obstacle
                    warnings.simplefilter("error")
                    results = run_concurrently([targets.titles] * 3)
                self.assertEqual(results, [["Emma"]] * 3)
                self.assertNotIn(os.getpid(), [each.pid for each in results.outcomes])
                # More than the pool has: all connect before any begins.
                calls = [targets.titles] * 5
                results = run_concurrently(calls, using="threads")
                self.assertEqual(results, [["Emma"]] * 5)
                self.assertIs(connection.pool, before)
                self.assertEqual(targets.titles(), ["Emma"])
            finally:
                connection.close()
                connection.close_pool()

    def test_output_of_the_parent_is_written_once(self):
        program = (
            "import sys; sys.stdout.write('once '); "
            "import os; from django_txtest import run_concurrently; "
            "run_concurrently([int], using='fork')"
        )
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup(); {program}"],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.suites.bare_settings",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(done.stdout, "once ")

    def test_what_handlers_of_logging_write_is_kept(self):
        handler = logging.StreamHandler(stderr := StringIO())
        logger = logging.getLogger("tests.handler")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        with redirect_stderr(stderr):
            results = run_concurrently([(logger.error, ["told"], {})], using="fork")
        self.assertEqual(results.outcomes[0].stderr, "told\n")


class HelperTests(NoAtomicMixin, TestCase):
    @override_settings(TXTEST_CALL_USING="threads")
    def test_call_concurrently(self):
        results = call_concurrently(3, targets.add, 1, n=1, target=1, timeout=1)
        self.assertEqual(results, [4, 4, 4])
        self.assertEqual(call_concurrently(1, f"{MODULE}:add"), [0])

    @override_settings(TXTEST_CALL_USING="threads")
    def test_make_concurrent_calls(self):
        results = make_concurrent_calls(
            (targets.add, {"a": 1}), f"{MODULE}:add", (targets.add, [1], {"a": 1})
        )
        self.assertEqual(results, [1, 0, 2])

    def test_the_default(self):
        [pid] = run_concurrently([targets.pid])
        is_forked = sys.platform == "linux"
        self.assertEqual(pid != os.getpid(), is_forked)

    def test_threads_where_forking_is_not_safe(self):
        end = threading.Event()
        thread = threading.Thread(target=end.wait, name="in the way")
        thread.start()
        try:
            message = "not safe to fork this process: other threads.*: in the way"
            with self.assertWarnsRegex(RuntimeWarning, message) as warning:
                self.assertEqual(run_concurrently([targets.pid]), [os.getpid()])
            self.assertEqual(warning.filename, __file__)
            with self.assertWarnsRegex(RuntimeWarning, message):
                self.assertEqual(call_concurrently(1, targets.pid), [os.getpid()])
            [pid] = run_concurrently([targets.pid], using="fork")  # who asks gets it
            self.assertNotEqual(pid, os.getpid())
        finally:
            end.set()
            thread.join()

    def test_bad_arguments(self):
        with self.assertRaisesRegex(InvalidCall, "0 times"):
            call_concurrently(0, targets.add)
        with self.assertRaisesRegex(InvalidCall, "number of calls"):
            call_concurrently(targets.add, 2)
        with self.assertRaisesRegex(InvalidCall, "called already"):
            call_concurrently(2, targets.add(1))
        with self.assertRaisesRegex(InvalidCall, "keyword arguments .* not a dict"):
            run_concurrently([(targets.add, [1])])
        with self.assertRaisesRegex(InvalidCall, "timeout"):
            run_concurrently([targets.add], timeout="3")
        with self.assertRaisesRegex(InvalidCall, "telepathy"):
            run_concurrently([targets.add], using="telepathy")
        with self.assertRaisesRegex(InvalidCall, "timeout"):
            run_concurrently([targets.add], timeout=0)

    @override_settings(TXTEST_CALL_TIMEOUT=1, TXTEST_CALL_USING="threads")
    def test_the_timeout_of_the_settings(self):
        [hung] = call_concurrently(1, targets.hang)
        targets.released.set()
        self.assertEqual(hung.timeout, 1.0)
        self.assertTrue(poll(lambda: not call_threads()))
        targets.released.clear()


class AsyncTests(NoAtomicMixin, TestCase):
    """The test runs in another thread than its set-up, and in an event loop."""

    async def test_every_mode(self):
        await Book.objects.acreate(title="Emma")
        for using in ("fork", "spawn", "threads", "inline", None):
            results = run_concurrently([targets.titles, targets.leave], using=using)
            self.assertEqual(results[0], ["Emma"], using)
            self.assertIsInstance(results[1].original, SystemExit)

    async def test_databases_that_the_test_may_not_use(self):
        for using in ("fork", "spawn", "threads"):
            call = (targets.titles, {"using": "other"})
            [error] = run_concurrently([call], using=using)
            self.assertIn("databases", str(error))

    async def test_a_timeout(self):
        with redirect_stderr(StringIO()):
            [hung] = run_concurrently([targets.hang], using="spawn", timeout=0.5)
        self.assertIsInstance(hung, CallTimeout)


class AtomicTestCaseTests(TestCase):
    async def test_refused_in_an_async_test(self):
        with self.assertRaisesRegex(AtomicBlockError, "NoAtomicMixin"):
            run_concurrently([targets.add])

    def test_refused_in_a_thread(self):
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(run_concurrently, [targets.add])
        self.assertIsInstance(future.exception(), AtomicBlockError)

    def test_refused_at_once(self):
        for using in ("spawn", "threads", "inline"):
            with self.assertRaisesRegex(AtomicBlockError, "NoAtomicMixin"):
                run_concurrently([targets.add], using=using)


class TransactionTestCaseTests(TransactionTestCase):
    def test_works(self):
        Book.objects.create(title="Emma")
        results = call_concurrently(2, targets.titles)
        self.assertEqual(results, [["Emma"], ["Emma"]])


def call_threads(name: str = "") -> list[threading.Thread]:
    """Return the threads that make calls, or those of the target with this name."""
    end = f":{name})" if name else ""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("txtest call") and thread.name.endswith(end)
    ]


def one_sleeps() -> bool:
    """Tell whether a call hangs in the database."""
    return any("sleep(600)" in str(each).lower() for each in other_sessions())


def has_ended(pid: int) -> bool:
    """Tell whether the process is gone, or dead and waits for its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"

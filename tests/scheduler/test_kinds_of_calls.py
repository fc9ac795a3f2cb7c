"""What calls may be and do: each with a race that is found, and with its cure."""

from __future__ import annotations

import io
import itertools
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async
from django.core import mail
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import F
from django.db.models.signals import post_save
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from django_txtest import (
    DfsScheduler,
    InterleavingFailed,
    NotDeterministic,
    RandomScheduler,
    TxTestCase,
    explore,
    replay,
    sessions,
)
from django_txtest.exceptions import (
    InvalidCall,
    SchemaChanged,
    SessionStuck,
    TooManySteps,
)
from django_txtest.history import Kind
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.scheduler.searches import SearchMixin
from tests.utils import SessionsMixin, explores, on_postgresql, poll


def racy_view(request):
    calls.lend(1000)
    return HttpResponse("lent")


def fixed_view(request):
    calls.lend_f(1000)
    return HttpResponse("lent")


def locked_view(request):
    book = Book.objects.select_for_update().only("copies").get(pk=1000)
    book.copies -= 1
    book.save(update_fields=["copies"])
    return HttpResponse("lent")


def failing_view(request):
    calls.lend_f(1000)
    raise ValueError("after the write")


async def racy_async_view(request):
    book = await Book.objects.only("copies").aget(pk=1000)
    book.copies -= 1
    await book.asave(update_fields=["copies"])
    return HttpResponse("lent")


async def fixed_async_view(request):
    await Book.objects.filter(pk=1000).aupdate(copies=F("copies") - 1)
    return HttpResponse("lent")


urlpatterns = [
    path("racy", racy_view),
    path("fixed", fixed_view),
    path("locked", locked_view),
    path("failing", failing_view),
    path("racy-async", racy_async_view),
    path("fixed-async", fixed_async_view),
]


def copy_into(table, name):
    """Copy a row into a table, as one does it with the driver that there is."""
    sql = f"COPY {table} (name) FROM STDIN"
    with connection.cursor() as cursor:
        if hasattr(cursor, "copy_expert"):
            cursor.copy_expert(sql, io.StringIO(f"{name}\n"))
        else:
            with cursor.copy(sql) as into:
                into.write(f"{name}\n")


@explores
class CallsTestCase(SearchMixin, SessionsMixin, TxTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(pk=1000, title="a", copies=5)
        cls.other = Book.objects.create(pk=1001, title="b", copies=5)

    def tearDown(self):
        if connection.vendor == "postgresql":
            self.assertNoSessions()

    def assertFound(self, *targets, **options):
        """Find a failure, and find it again by its schedule."""
        failure = explore(*targets, **options).failure
        self.assertIsNotNone(failure)
        again = replay(failure.schedule, *targets, **options)
        if self.victims_are_known or "deadlock" not in str(failure):
            self.assertEqual(str(again.failure), str(failure))
        return failure


@override_settings(ROOT_URLCONF=__name__)
class ViewTests(CallsTestCase):
    def get(self, url):
        response = Client(raise_request_exception=False).get(url)
        return response.status_code

    async def get_async(self, url):
        response = await AsyncClient().get(url)
        return response.status_code

    @contextmanager
    def atomic_requests(self):
        # What handlers look at, in every thread.
        with mock.patch.dict(connections.settings["default"], ATOMIC_REQUESTS=True):
            yield

    def test_sync(self):
        racy, fixed = partial(self.get, "/racy"), partial(self.get, "/fixed")
        self.assertIn("in lend", str(self.assertFound(racy, racy)))
        self.assertProved(fixed, fixed)

    def test_async(self):
        for client in (self.get, self.get_async):
            racy = partial(client, "/racy-async")
            failure = self.assertFound(racy, racy)
            self.assertIn("in racy_async_view", str(failure))
            fixed = partial(client, "/fixed-async")
            self.assertProved(fixed, fixed)

    def test_sync_views_by_the_async_client(self):
        racy, fixed = (partial(self.get_async, url) for url in ("/racy", "/fixed"))
        self.assertFound(racy, racy)
        self.assertProved(fixed, fixed)

    def test_atomic_requests(self):
        with self.atomic_requests():
            racy = partial(self.get, "/racy")
            failure = self.assertFound(racy, racy)
            kinds = [event.kind for event in failure.history]
            if connection.vendor == "postgresql":
                self.assertEqual(kinds.count(Kind.COMMIT), 2)
                locked = partial(self.get, "/locked")
                exploration = self.assertProved(locked, locked)
                self.assertGreater(exploration.executions, 1)
            fixed = partial(self.get, "/fixed")
            self.assertProved(fixed, fixed)

    def test_a_view_that_fails_is_rolled_back(self):
        failing, fixed = partial(self.get, "/failing"), partial(self.get, "/fixed")

        def copies_are(copies, results):
            return (
                sorted(results) == [200, 500]
                and Book.objects.get(pk=1000).copies == copies
            )

        with self.atomic_requests():
            self.assertProved(failing, fixed, invariant=partial(copies_are, 4))
        self.assertProved(failing, fixed, invariant=partial(copies_are, 3))


class AsyncTests(CallsTestCase):
    def test_the_async_orm(self):
        async def racy(pk):
            book = await Book.objects.only("copies").aget(pk=pk)
            book.copies -= 1
            await book.asave(update_fields=["copies"])

        async def fixed(pk):
            await Book.objects.filter(pk=pk).aupdate(copies=F("copies") - 1)

        self.assertFound(partial(racy, 1000), partial(racy, 1000))
        self.assertProved(partial(fixed, 1000), partial(fixed, 1000))

    def test_iteration(self):
        async def count():
            return [book.copies async for book in Book.objects.order_by("pk")]

        def move():
            Book.objects.filter(pk=1000).update(copies=4)
            Book.objects.filter(pk=1001).update(copies=6)

        found = self.assertFound(count, move)
        self.assertIn("returns [4, 5]", str(found))
        self.assertProved(count, transaction.atomic(move))

    def test_transactions(self):
        async def lend(function):
            return await sync_to_async(function)(1000)

        racy = partial(lend, calls.lend_atomic)
        self.assertFound(racy, racy)
        fixed = partial(lend, calls.lend_f)
        self.assertProved(fixed, fixed)

    def test_get_or_create(self):
        async def racy():
            await Reader.objects.aget_or_create(name="x")

        async def fixed():
            genre, _ = await Genre.objects.aget_or_create(name="x")
            return genre

        self.assertFound(racy, racy)
        self.assertProved(fixed, fixed)


class StepTests(CallsTestCase):
    def move(self):
        with transaction.atomic():
            Book.objects.filter(pk=1001).update(copies=4)
            Book.objects.filter(pk=1000).update(copies=6)

    def test_server_side_cursors(self):
        """Of PostgreSQL's; the rows come from one snapshot, other than two queries'."""

        @transaction.atomic
        def total():
            return sum(book.copies for book in Book.objects.iterator(chunk_size=1))

        @transaction.atomic
        def total_of_two():
            return sum(Book.objects.get(pk=pk).copies for pk in (1000, 1001))

        exploration = self.assertProved(total, self.move)
        self.assertGreater(exploration.executions, 1)
        if connection.vendor == "postgresql":
            self.assertFound(total_of_two, self.move)
        steps = replay("a", total).failure
        self.assertIsNone(steps)
        with sessions(ann=total) as (ann,):
            ann.run_until("SELECT")
            self.assertIn("stands before COMMIT", repr(ann))
            text = str(ann.history)
            self.assertIn("SELECT library_book.id", text)
            ann.finish()

    def test_many_at_once(self):
        def insert(names):
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO library_genre (name) VALUES (%s)",
                    [[name] for name in names],
                )

        # Each waits for what the other one has of the same names, in another order.
        if connection.vendor == "postgresql":
            there, back = (
                transaction.atomic(partial(insert, names))
                for names in (["x", "y"], ["z", "w"])
            )
            self.assertProved(there, back)
        same = partial(insert, ["x", "y"])
        self.assertProved(same, same)
        self.assertIn("VALUES ('x') (and 1 more)", self.told(same))

    @on_postgresql
    def test_arrays_are_not_many_at_once(self):
        """The one statement with two arrays that Django makes of bulk_create()."""

        def insert():
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO library_genre (name) "
                    "SELECT name FROM unnest(%s::text[], %s::text[]) AS a (name, y) "
                    "WHERE false",
                    [["x", "y"], ["z", "w"]],
                )

        self.assertIn("unnest(['x', 'y']::text[], ['z', 'w']::", self.told(insert))

    def told(self, call):
        """Return the transcript of the call alone."""
        return str(replay("a", call).history)

    def test_a_result_whose_text_is_of_a_row_that_is_gone(self):
        class Loan:
            def __repr__(self):
                return str(Book.objects.get(title="gone"))

        def lend():
            calls.lend(1000)
            return Loan()

        failure = self.assertFound(lend, lend)
        self.assertIn("returns <Loan, whose repr() raises DoesNotExist>", str(failure))

    @on_postgresql
    def test_copy(self):
        """It goes past Django's wrappers, and is a step all the same."""

        def copy(name):
            with transaction.atomic():
                copy_into("library_genre", name)

        exploration = self.assertProved(partial(copy, "x"), partial(copy, "y"))
        self.assertGreater(exploration.executions, 2)
        self.assertFalse(Genre.objects.filter(name="x").exists())
        # Who copies the same has to wait, and is refused, in each order.
        same = partial(copy, "x")
        self.assertFound(same, same, invariant=lambda results: False)
        refusals = (IntegrityError, connection.Database.IntegrityError)
        exploration = self.assertProved(
            same,
            same,
            allow=refusals,
            invariant=lambda results: Genre.objects.filter(name="x").count() == 1,
        )
        execution = replay(
            "abab",
            same,
            same,
            allow=refusals,
            invariant=lambda results: False,
        )
        self.assertIn("<waiting for s1>", str(execution))
        self.assertIn("COPY library_genre (name) FROM STDIN", str(execution))

    @on_postgresql
    def test_a_race_of_copies(self):
        @transaction.atomic
        def racy():
            if not Reader.objects.exists():
                copy_into("library_reader", "Ann")

        @transaction.atomic
        def fixed():
            calls.execute("SELECT pg_advisory_xact_lock(7)")
            racy()

        self.assertFound(racy, racy)
        self.assertProved(fixed, fixed)

    @on_postgresql
    def test_copy_as_a_statement(self):
        def copy():
            calls.execute("COPY (SELECT pg_advisory_xact_lock(7)) TO PROGRAM 'cat'")

        with connection.cursor() as cursor:
            cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            if not cursor.fetchone()[0]:
                self.skipTest("the role may not COPY to a program")
        exploration = self.assertProved(copy, copy, scheduler=DfsScheduler())
        self.assertEqual(exploration.executions, 2)

    def test_durable(self):
        def lend(lend_one):
            with transaction.atomic(durable=True):
                lend_one(1000)

        racy, fixed = partial(lend, calls.lend), partial(lend, calls.lend_f)
        self.assertFound(racy, racy)
        self.assertProved(fixed, fixed)

        @transaction.atomic
        def nested():
            lend(calls.lend_f)

        with self.assertRaisesRegex(InterleavingFailed, "durable"):
            self.assertInvariant(lambda results: True, nested)

    def test_savepoint_false(self):
        def create(savepoint):
            with transaction.atomic():
                calls.lend_f(1001)
                try:
                    with transaction.atomic(savepoint=savepoint):
                        Genre.objects.create(name="x")
                except IntegrityError:
                    return "there was one"
                return "created"

        # With a savepoint, what was done before it stays.
        fixed = partial(create, True)
        self.assertProved(
            fixed,
            fixed,
            invariant=lambda results: (
                sorted(results) == ["created", "there was one"]
                and Book.objects.get(pk=1001).copies == 3
            ),
        )
        racy = partial(create, False)
        self.assertFound(
            racy,
            racy,
            invariant=lambda results: Book.objects.get(pk=1001).copies == 3,
        )

    def test_savepoints_are_steps(self):
        @transaction.atomic
        def nested():
            with transaction.atomic():
                calls.lend(1000)

        failure = self.assertFound(nested, nested)
        for step in ("SAVEPOINT", "RELEASE SAVEPOINT"):
            self.assertIn(step, str(failure))


class CallbackTests(CallsTestCase):
    def announce(self, is_first):
        with transaction.atomic():
            if is_first():
                transaction.on_commit(self.send)

    def send(self):
        mail.send_mail("The first", "m", "a@b.c", ["d@e.f"])

    def looks(self):
        if Book.objects.get(pk=1000).available:
            Book.objects.filter(pk=1000).update(available=False)
            return True
        return False

    def takes(self):
        return Book.objects.filter(pk=1000, available=True).update(available=False)

    def one_mail(self, results):
        return len(mail.outbox) == 1

    def test_a_mail_that_is_sent_twice(self):
        racy, fixed = (
            partial(self.announce, self.looks),
            partial(self.announce, self.takes),
        )
        options = {"invariant": self.one_mail, "allow": (OperationalError,)}
        if connection.vendor == "postgresql":
            failure = self.assertFound(racy, racy, **options)
            self.assertIn("differs is not in the databases", str(failure))
        self.assertProved(fixed, fixed, **options)
        self.assertEqual(mail.outbox, [])

    def test_a_callback_that_raises(self):
        """The row stays, the error reaches the caller, and others go on."""

        def call():
            with transaction.atomic():
                calls.lend_f(1000)
                transaction.on_commit(partial(int, "x"))

        def both_raise(results):
            for result in results:
                self.assertIsInstance(result.original, ValueError)
            self.assertEqual(Book.objects.get(pk=1000).copies, 3)

        self.assertProved(call, call, invariant=both_raise, allow=(ValueError,))
        failure = self.assertFound(call, call, invariant=lambda results: True)
        self.assertIn("ValueError: invalid literal", str(failure))

    def test_a_robust_callback_that_raises(self):
        sent = []

        def fail():
            raise ValueError

        def call():
            with transaction.atomic():
                calls.lend_f(1000)
                transaction.on_commit(fail, robust=True)
                transaction.on_commit(lambda: sent.append(1))

        with self.assertLogs("django.db.backends.base", "ERROR"):
            self.assertProved(
                call,
                call,
                setup=sent.clear,
                invariant=lambda results: len(sent) == 2,
            )

    def test_a_callback_with_sql(self):
        """It runs after the COMMIT, so others come in between."""

        def call():
            with transaction.atomic():
                calls.lend_f(1001)
                transaction.on_commit(partial(calls.lend, 1000))

        failure = self.assertFound(call, call)
        self.assertIn("library_book id=1000: copies is 4", str(failure))

    def test_a_handler_that_counts(self):
        def count(sender, instance, **kwargs):
            Book.objects.filter(pk=1000).update(copies=Reader.objects.count())

        def count_with_f(sender, instance, **kwargs):
            Book.objects.filter(pk=1000).update(copies=F("copies") + 1)

        Book.objects.filter(pk=1000).update(copies=0)
        create = transaction.atomic(partial(Reader.objects.create, name="x"))
        # SQLite lets only one of two write that have both read.
        on_sqlite = connection.vendor == "sqlite"
        options = {
            "invariant": self.is_counted,
            "allow": (OperationalError,) if on_sqlite else (),
        }
        for handler in (count, count_with_f):
            post_save.connect(handler, sender=Reader)
            try:
                if handler is count and not on_sqlite:
                    self.assertFound(create, create, **options)
                else:
                    self.assertProved(create, create, **options)
            finally:
                post_save.disconnect(handler, sender=Reader)

    def is_counted(self, results):
        return Book.objects.get(pk=1000).copies == Reader.objects.count()


class SeveralDatabasesTests(CallsTestCase):
    databases = ("default", "other")

    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        Book.objects.using("other").create(pk=1000, title="a", copies=5)

    def racy(self):
        copies = Book.objects.using("other").get(pk=1000).copies
        calls.lend_f(1000)
        Book.objects.using("other").filter(pk=1000).update(copies=copies - 1)

    def fixed(self):
        calls.lend_f(1000)
        Book.objects.using("other").filter(pk=1000).update(copies=F("copies") - 1)

    def test_each_has_steps(self):
        failure = self.assertFound(self.racy, self.racy)
        self.assertIn("[other] UPDATE", str(failure))
        self.assertIn("[default] UPDATE", str(failure))
        self.assertIn("[other] library_book id=1000: copies is 4; ", str(failure))
        self.assertProved(self.fixed, self.fixed)

    def test_transactions_on_both(self):
        def both():
            with transaction.atomic(), transaction.atomic("other"):
                self.fixed()

        self.assertProved(both, both)

    @on_postgresql
    def test_a_circle_through_two_databases(self):
        """No server sees it, so a bound of ours ends it."""

        def there():
            with transaction.atomic(), transaction.atomic("other"):
                calls.lend_f(1000)
                Book.objects.using("other").filter(pk=1000).update(copies=1)

        def back():
            with transaction.atomic("other"), transaction.atomic():
                Book.objects.using("other").filter(pk=1000).update(copies=1)
                calls.lend_f(1000)

        with (
            override_settings(TXTEST_STEP_TIMEOUT=1),
            self.assertRaisesRegex(SessionStuck, "waits for s"),
        ):
            explore(there, back)
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 5)


@on_postgresql
class WaitTests(CallsTestCase):
    def test_a_lock_timeout(self):
        """Of the code under test: it raises there if nobody lets go."""

        def call():
            with transaction.atomic():
                calls.execute("SET LOCAL lock_timeout = '30s'")
                calls.lend_f(1000)
                calls.execute("SELECT 1")

        self.assertProved(call, call)

        def impatient():
            try:
                with transaction.atomic():
                    calls.execute("SET LOCAL lock_timeout = '2s'")
                    calls.lend_f(1000)
            except OperationalError as error:
                return str(error)
            return "lent"

        with sessions(ann=call, bob=impatient) as (ann, bob):
            ann.run_until("UPDATE")
            bob.run_until("SET")
            bob.step()
            self.assertTrue(bob.waiting)
            self.assertTrue(poll(lambda: not self.sessions_that_wait()))
            ann.finish()
            bob.finish()
            self.assertIn("lock timeout", bob.result)
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 4)

    def sessions_that_wait(self):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return cursor.fetchone()[0]

    def test_a_statement_timeout(self):
        def call():
            try:
                with transaction.atomic():
                    calls.lend_f(1000)
                    calls.execute("SET LOCAL statement_timeout = '20ms'")
                    calls.execute("SELECT pg_sleep(60)")
            except OperationalError:
                pass
            calls.execute("SELECT 1")

        def untouched(results):
            return Book.objects.get(pk=1000).copies == 5

        self.assertProved(call, call, invariant=untouched)

    def test_foreign_keys(self):
        """Who refers to a row that another one deletes has to wait, and is refused."""
        genre = Genre.objects.create(name="doomed")

        def refer():
            with transaction.atomic():
                Book.objects.filter(pk=1000).update(genre_id=genre.pk)
                calls.execute("SELECT 1")

        @transaction.atomic
        def delete():
            calls.execute("DELETE FROM library_genre WHERE id = %s", [genre.pk])
            calls.execute("SELECT 1")

        @transaction.atomic
        def delete_if_unused():
            Genre.objects.select_for_update().get(pk=genre.pk)
            if Book.objects.filter(genre=genre).exists():
                return "used"
            calls.execute("DELETE FROM library_genre WHERE id = %s", [genre.pk])
            return "deleted"

        @transaction.atomic
        def refer_if_there():
            if Genre.objects.select_for_update().filter(pk=genre.pk).first():
                refer()
                return "refers"
            return "gone"

        failure = self.assertFound(refer, delete, invariant=lambda results: True)
        self.assertIn("IntegrityError", str(failure))
        self.assertProved(refer_if_there, delete_if_unused)
        execution = replay("baba", refer, delete, invariant=lambda results: False)
        self.assertIn("<waiting for s2>", str(execution))

    def test_unique_indexes(self):
        def racy(name):
            if not Genre.objects.filter(name=name).exists():
                Genre.objects.create(name=name)

        def fixed(name):
            if not Genre.objects.filter(name=name).exists():
                return calls.create_genre(name)
            return "there was one"

        target = transaction.atomic(partial(racy, "x"))
        failure = self.assertFound(target, target)
        self.assertIn("IntegrityError", str(failure))
        target = transaction.atomic(partial(fixed, "x"))
        exploration = self.assertProved(target, target)
        self.assertGreater(exploration.executions, 2)

    def test_advisory_and_table_locks(self):
        racy = partial(self.number, "SELECT 1")
        self.assertFound(racy, racy)
        for lock in (
            "SELECT pg_advisory_xact_lock(7)",
            "LOCK TABLE library_book IN EXCLUSIVE MODE",
        ):
            fixed = partial(self.number, lock)
            exploration = self.assertProved(fixed, fixed)
            self.assertGreater(exploration.executions, 1)

    def number(self, lock):
        with transaction.atomic():
            calls.execute(lock)
            return calls.number_by_max()

    def test_locks_of_the_session(self):
        """They outlast a COMMIT, but not a call."""

        def call():
            calls.execute("SELECT pg_advisory_lock(7)")
            calls.lend(1000)

        def call_and_unlock():
            call()
            calls.execute("SELECT pg_advisory_unlock(7)")

        self.assertProved(call_and_unlock, call_and_unlock)

    def test_a_deadlock_that_is_tried_again(self):
        there, back = (1000, 1001), (1001, 1000)
        for lend, check in (
            (calls.lend_both, self.assertFound),
            (calls.lend_both_with_retry, self.assertProved),
        ):
            check(partial(lend, *there), partial(lend, *back))
        ordered = partial(calls.lend_both, *there)
        self.assertProved(ordered, ordered)


class EndTests(CallsTestCase):
    """Whatever ends an exploration, everything is put back."""

    def tearDown(self):
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 5)
        self.assertEqual(Book.objects.count(), 2)
        # The test's own connection is as good as new.
        calls.lend_f(1000)
        super().tearDown()

    @transaction.atomic
    def lend_and(self, then):
        calls.lend_f(1000)
        then()

    def test_ctrl_c(self):
        def interrupt(exploration):
            raise KeyboardInterrupt

        lend = partial(self.lend_and, int)
        with self.assertRaises(KeyboardInterrupt):
            explore(lend, lend, progress=interrupt)

    def test_ctrl_c_in_an_invariant(self):
        def interrupt(results):
            raise KeyboardInterrupt

        lend = partial(self.lend_and, int)
        with self.assertRaises(KeyboardInterrupt):
            explore(lend, lend, invariant=interrupt)

    def test_ctrl_c_in_the_middle(self):
        """Where one session waits for another that is within a transaction."""

        class Interrupting(DfsScheduler):
            steps = 0

            def choose(self, choice):
                self.steps += 1
                if self.steps == 5:
                    raise KeyboardInterrupt
                return choice.runnable[-1]

        lend = partial(self.lend_and, partial(calls.lend_f, 1001))
        with self.assertRaises(KeyboardInterrupt):
            explore(
                lend, lend, invariant=lambda results: True, scheduler=Interrupting()
            )

    @override_settings(TXTEST_STEP_TIMEOUT=0.3)
    def test_a_loop_without_sql(self):
        def loop():
            while True:
                pass

        lend = partial(self.lend_and, loop)
        with self.assertRaisesRegex(SessionStuck, r"(?s)did not come back.*in loop"):
            explore(lend, lend)

    def test_a_loop_with_sql(self):
        def loop():
            while True:
                Book.objects.count()

        lend = partial(self.lend_and, loop)
        with self.assertRaisesRegex(TooManySteps, "raise max_steps"):
            explore(lend, lend, max_steps=100)

    @override_settings(TXTEST_STEP_TIMEOUT=0.3)
    def test_a_lock_of_python(self):
        lock = threading.Lock()

        def lend():
            with lock:
                self.lend_and(int)

        with self.assertRaisesRegex(SessionStuck, r"(?s)a lock, a queue.*with lock:"):
            explore(lend, lend)

    def test_an_error_of_the_database(self):
        def fail():
            calls.execute("SELECT nonsense FROM nowhere")

        lend = partial(self.lend_and, fail)
        with self.assertRaisesRegex(InterleavingFailed, "nowhere"):
            self.assertInvariant(lambda results: True, lend, lend)
        with self.assertWarnsRegex(RuntimeWarning, "nowhere"):
            self.assertSerializable(lend, lend)  # in no order is it otherwise
        self.assertSerializable(lend, lend, allow=(DatabaseError,))


class OtherThreadsTests(CallsTestCase):
    """What they do is no step, and not known to be harmless."""

    def test_a_thread_of_a_call(self):
        def call():
            with ThreadPoolExecutor(1) as executor:
                executor.submit(self.lend_and_close).result()

        with self.assertWarnsRegex(RuntimeWarning, "other threads .*ThreadPoolExec"):
            exploration = explore(call, call)
        self.assertFalse(exploration.exhausted)
        self.assertIn("what threads of their own did", str(exploration))

    @on_postgresql
    def test_a_thread_that_was_connected_before(self):
        with ThreadPoolExecutor(1) as executor:

            def call():
                executor.submit(calls.lend_f, 1000).result()

            call()
            for _ in range(2):
                with self.assertWarnsRegex(RuntimeWarning, "session with pid"):
                    exploration = explore(call, call)
                self.assertFalse(exploration.exhausted)
            executor.submit(lambda: connection.close()).result()

    def test_a_test_that_is_a_coroutine(self):
        async def test():
            self.assertProved(partial(calls.lend_f, 1000))

        with self.assertRaisesRegex(InvalidCall, "sync_to_async"):
            async_to_sync(test)()

    def test_coroutines(self):
        async def call():
            await Book.objects.filter(pk=1000).aupdate(copies=F("copies") - 1)

        async_to_sync_call = async_to_sync(call)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.assertProved(call, call)
            self.assertProved(async_to_sync_call, async_to_sync_call)

    def lend_and_close(self):
        calls.lend_f(1000)
        connection.close()


class RefusedTests(CallsTestCase):
    def test_a_table_that_a_call_alters(self):
        alter = partial(calls.execute, "ALTER TABLE library_book ADD COLUMN room int")
        racy = partial(calls.lend, 1000), partial(calls.lend, 1000)
        for targets in ([alter], racy):
            with self.assertRaises(SchemaChanged):
                explore(*targets)
        calls.execute("ALTER TABLE library_book DROP COLUMN room")
        self.assertFound(*racy)


class AlteredTests(CallsTestCase):
    """A class may alter tables, if it undoes that at its end."""

    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        calls.execute("ALTER TABLE library_book ADD COLUMN shelf integer")
        calls.execute("ALTER TABLE library_loan RENAME COLUMN reader TO who")

    @classmethod
    def tearDownClass(cls):
        calls.execute("ALTER TABLE library_loan RENAME COLUMN who TO reader")
        calls.execute("ALTER TABLE library_book DROP COLUMN shelf")
        super().tearDownClass()

    def test_a_column_that_is_new(self):
        self.assertFound(partial(calls.lend, 1000), partial(calls.lend, 1000))
        self.assertProved(partial(calls.lend_f, 1000), partial(calls.lend_f, 1000))

    def test_a_column_that_was_renamed(self):
        def lend(pk):
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM library_loan")
                (count,) = cursor.fetchone()
                insert = "INSERT INTO library_loan (id, who) VALUES (%s, %s)"
                cursor.execute(insert, [pk, str(count)])

        failure = self.assertFound(partial(lend, 1), partial(lend, 2))
        self.assertRegex(str(failure), "who is '?[01]'?; there it is '?[01]'?")


class OrderTests(CallsTestCase):
    """What makes code of a user not deterministic, but for time and random numbers."""

    def test_rows_without_an_order(self):
        def lend_all():
            with transaction.atomic():
                books = list(Book.objects.filter(copies=5))
                for book in reversed(books):
                    Book.objects.filter(pk=book.pk).update(copies=4)
            return [book.title for book in books]

        def lend_one():
            with transaction.atomic():
                free = Book.objects.filter(copies=5)
                book = free.select_for_update(skip_locked=can_skip)[:1].get()
                Book.objects.filter(pk=book.pk).update(copies=4)
            return book.title

        Book.objects.create(pk=1002, title="c", copies=5)
        can_skip = connection.features.has_select_for_update_skip_locked
        for _ in range(2):
            self.assertProved(lend_all)
            self.assertProved(lend_one)
            if can_skip:
                self.assertProved(lend_one, lend_one)
            Book.objects.filter(pk=1000).update(copies=5)

    def test_rows_without_an_order_that_are_new(self):
        def add(name):
            with transaction.atomic():
                Book.objects.filter(pk=1000).update(copies=F("copies") - 1)
                Book.objects.create(title=name, copies=5)
                Book.objects.filter(pk=1001).update(copies=F("copies") - 1)
                return [book.title for book in Book.objects.all()]

        targets = partial(add, "x"), partial(add, "y")
        for seed in range(4):
            scheduler = RandomScheduler(seed, 30)
            with suppress(NotDeterministic):
                failure = explore(*targets, scheduler=scheduler).failure
                if failure is not None:
                    self.assertIn("only the order differs", str(failure))

    @on_postgresql
    def test_how_far_the_values_of_a_sequence_are_apart(self):
        def draw():
            with connection.cursor() as cursor:
                values = []
                for _ in range(2):
                    cursor.execute("SELECT nextval('library_book_id_seq')")
                    values.extend(cursor.fetchone())
            Reader.objects.create(name=str(values[1] - values[0]))

        self.assertFound(draw, draw)

    def test_the_order_of_a_dict_in_memory(self):
        order = {1000: None, 1001: None}

        def call():
            first = next(iter(order))
            order[first] = order.pop(first)
            calls.execute(f"SELECT {first}")

        message = r"event \d+ was .*, and then it was .*\. The calls are not"
        with self.assertRaisesRegex(NotDeterministic, message):
            explore(call, invariant=lambda results: False)

        def put_back():
            order.clear()
            order.update({1000: None, 1001: None})

        failure = explore(call, setup=put_back, invariant=lambda results: False).failure
        self.assertIn("SELECT 1000", str(failure))

    def test_the_order_of_a_set(self):
        """Of what has another hash in each execution, as objects have."""
        executions = itertools.count()

        class Thing(int):
            hashes = {}

            def __hash__(self):
                return self.hashes[int(self)]

        def call():
            number = next(executions) % 2
            Thing.hashes = {1000: number, 1001: 1 - number}
            for thing in {Thing(1000), Thing(1001)}:
                calls.execute(f"SELECT {int(thing)}")

        with self.assertRaisesRegex(NotDeterministic, "SELECT 100.*and then it was"):
            explore(call, invariant=lambda results: False)

from __future__ import annotations

from functools import partial

from django.db import OperationalError, connection, transaction

from django_txtest import explore, replay
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.scheduler.searches import TwoBooksTestCase
from tests.utils import explores, on_postgresql


@explores
class RaceTests(TwoBooksTestCase):
    """Everyday races: each is found, and each cure is proved."""

    def assertFound(self, *targets, **options):
        exploration = explore(*targets, **options)
        self.assertIsNotNone(exploration.failure, str(exploration))
        if options.get("scheduler") is None:
            options["scheduler"] = None
        again = replay(
            exploration.failure.schedule.encode(),
            *targets,
            **{name: value for name, value in options.items() if name != "scheduler"},
        )
        self.assertIsNotNone(again.failure)
        if self.victims_are_known:
            first, second = exploration.failure.history, again.failure.history
            self.assertIsNone(first.first_difference(second))
        return exploration

    def test_lost_update(self):
        for racy in (calls.lend, calls.lend_atomic):
            lend = partial(racy, self.pk)
            exploration = self.assertFound(lend, lend)
            self.assertLessEqual(exploration.executions, 6)
        lend = partial(calls.lend_f, self.pk)
        self.assertProved(lend, lend)
        self.assertProved(lend, lend, lend)

    def test_select_for_update(self):
        lend = partial(calls.lend_locked, self.pk)
        if connection.vendor == "sqlite":  # where it locks nothing
            exploration = self.assertFound(lend, lend)
            self.assertIn("database is locked", str(exploration))
        else:
            self.assertProved(lend, lend)
            self.assertProved(lend, lend, lend)

    @on_postgresql
    def test_lost_update_by_isolation_level(self):
        lend = partial(calls.lend_atomic, self.pk)
        for level in ("REPEATABLE READ", "SERIALIZABLE"):
            exploration = self.assertFound(lend, lend, isolation_level=level)
            self.assertIn("could not serialize", str(exploration))
            self.assertProved(
                lend, lend, isolation_level=level, allow=(OperationalError,)
            )

    @on_postgresql
    def test_write_skew(self):
        leave = [partial(calls.leave_shelf, pk) for pk in (self.pk, self.other_pk)]
        retry = [
            partial(calls.leave_shelf_with_retry, pk) for pk in (self.pk, self.other_pk)
        ]
        for level in ("READ COMMITTED", "REPEATABLE READ"):
            for targets in (leave, retry):
                self.assertFound(*targets, isolation_level=level)
        self.assertFound(*leave, isolation_level="SERIALIZABLE")
        self.assertProved(*retry, isolation_level="SERIALIZABLE")

        def some_are_left(results):
            return Book.objects.filter(available=True).exists()

        self.assertFound(*leave, invariant=some_are_left)
        self.assertProved(
            *leave,
            invariant=some_are_left,
            isolation_level="SERIALIZABLE",
            allow=(OperationalError,),
        )

    @on_postgresql
    def test_deadlock(self):
        there, back = (self.pk, self.other_pk), (self.other_pk, self.pk)
        both = calls.lend_both
        exploration = self.assertFound(partial(both, *there), partial(both, *back))
        self.assertIn("deadlock detected", str(exploration))
        self.assertProved(partial(both, *there), partial(both, *there))
        retry = calls.lend_both_with_retry
        self.assertProved(partial(retry, *there), partial(retry, *back))

    def test_get_or_create(self):
        def there_is_one(results):
            return Reader.objects.filter(name="x").count() == 1

        target = partial(calls.get_or_create_reader, "x")
        self.assertFound(target, target)
        self.assertFound(target, target, invariant=there_is_one)
        target = partial(calls.get_or_create_genre, "x")
        self.assertProved(target, target)
        if connection.vendor != "sqlite":  # where who reads first may not write
            self.assertProved(*[transaction.atomic(target)] * 2)
        target = partial(calls.create_genre, "x")
        self.assertProved(target, target)

    @on_postgresql
    def test_get_or_create_within_a_transaction(self):
        """Savepoints have the same names in each execution."""
        target = partial(calls.get_or_create_reader_in_atomic, "x")
        self.assertFound(target, target)

    def test_keys_may_differ(self):
        def create(name):
            Reader.objects.create(name=name)
            return Reader.objects.create(name=name).pk

        self.assertProved(partial(create, "x"), partial(create, "y"))

    @on_postgresql
    def test_locks_that_are_refused(self):
        lend = partial(calls.lend_nowait, self.pk)
        self.assertFound(lend, lend)
        self.assertProved(lend, lend, invariant=lambda results: "lent" in results)
        take = calls.lend_skip_locked
        self.assertProved(take, take)
        self.assertFound(take, take, take, invariant=self.two_are_taken)

    def two_are_taken(self, results):
        taken = Book.objects.filter(available=False).count()
        assert taken == results.count("taken")
        return results.count("taken") == 2 and results[2] != "none"

    def test_check_then_act(self):
        Book.objects.filter(pk=self.pk).update(copies=1)
        lend = partial(calls.lend_by_check, self.pk)
        self.assertFound(lend, lend)
        lend = partial(calls.lend_by_condition, self.pk)
        self.assertProved(lend, lend)

    def test_optimistic_versions(self):
        lend = partial(calls.lend_by_version, self.pk)
        self.assertProved(lend, lend)

    @on_postgresql
    def test_numbers(self):
        self.assertFound(calls.number_by_max, calls.number_by_max)
        number = partial(calls.number_by_lock, self.pk)
        self.assertProved(number, number)

    @on_postgresql
    def test_a_lock_on_what_is_referred_to(self):
        self.assertProved(
            partial(calls.add_sequel, self.pk),
            partial(calls.rename_locked, self.pk, "new"),
        )

    def test_the_same_each_time(self):
        for call in (calls.lend_atomic, calls.lend_locked):
            lend = partial(call, self.pk)
            first, second = (explore(lend, lend, stop_on_first=False) for _ in range(2))
            self.assertEqual(first.executions, second.executions)
            for one, other in zip(first.failures, second.failures, strict=True):
                self.assertEqual(one.schedule, other.schedule)
                self.assertIsNone(one.history.first_difference(other.history))

    def test_callbacks(self):
        told = []
        tell = partial(calls.tell_about, self.pk, told)
        exploration = self.assertFound(
            tell, tell, setup=told.clear, invariant=lambda results: len(told) == 1
        )
        self.assertIn("invariant", str(exploration))

    def test_rows_and_sequences_are_put_back(self):
        before = Genre.objects.create(name="before").pk
        self.assertProved(partial(calls.get_or_create_genre, "x"))
        self.assertEqual(Genre.objects.get(name="before").pk, before)
        self.assertFalse(Genre.objects.filter(name="x").exists())
        self.assertEqual(Genre.objects.create(name="after").pk, before + 1)

"""What reduction leaves out makes no difference: no outcome is found only there.

With TXTEST_REDUCTION set to a number, so many random programs are tried at each
isolation level, others each time; else a few, always the same ones.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

from django.db import connection
from hypothesis import HealthCheck, assume, given, settings

from django_txtest import DfsScheduler, DporScheduler, TxTestCase, explore
from django_txtest.exceptions import NotDeterministic
from tests.library.models import Book, Genre
from tests.scheduler.programs import Program, final_rows, programs
from tests.utils import explores

MANY = int(os.environ.get("TXTEST_REDUCTION", 0))
#: Programs with more schedules than that take too long.
MOST = 1500 if MANY else 120

several = settings(
    max_examples=MANY or 6,
    derandomize=not MANY,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@explores
class ReductionTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        Genre.objects.all().delete()
        for pk, name in ((1, "Crime"), (2, "Poetry")):
            Genre.objects.create(pk=pk, name=name)
        for pk in (1, 2):
            Book.objects.create(pk=pk, title=f"book {pk}", copies=pk, genre_id=pk)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT setval('library_book_id_seq', 10)")
                cursor.execute("SELECT setval('library_genre_id_seq', 10)")

    def outcomes(self, scheduler, calls, level):
        found = Counter()

        def note(results):
            found[repr((list(results), final_rows()))] += 1

        exploration = explore(
            *calls,
            scheduler=scheduler,
            invariant=note,
            isolation_level=level,
            allow=(Exception,),
            max_executions=MOST,
            max_time=600.0,
        )
        return found, exploration

    def assertSameOutcomes(self, calls, level=None):
        try:
            expected, every = self.outcomes(DfsScheduler(), calls, level)
            assume(every.exhausted)
        except NotDeterministic:
            assume(False)
        found, reduced = self.outcomes(DporScheduler(), calls, level)
        self.assertTrue(reduced.exhausted, reduced)
        self.counts["programs"] += 1
        self.counts["executions"] += every.executions
        self.counts["of the reduced search"] += reduced.executions
        message = (
            f"{calls} at {level}: {len(expected)} outcomes in {every.executions} "
            f"executions, {len(found)} in {reduced.executions}"
        )
        if set(found) != set(expected):
            # Whether PostgreSQL finds that what it watches could be a cycle depends on
            # more than the schedule: what counts is what it does again.
            again, _ = self.outcomes(DfsScheduler(), calls, level)
            found_again, _ = self.outcomes(DporScheduler(), calls, level)
            found += found_again
            missed = expected.keys() & again.keys() - found.keys()
            self.assertFalse(missed, message)
            self.assertFalse(found.keys() - expected.keys() - again.keys(), message)
            return
        # It begins again where it turns out only late that rows are made.
        self.assertLessEqual(reduced.executions, every.executions + 2, message)

    def check(self, level, programs):
        """Try programs; a function of Django's TestCase cannot be given any."""
        self.counts = Counter()

        @several
        @given(programs)
        def try_one(calls):
            self.assertSameOutcomes(calls, level)
            if MANY and self.counts["programs"] % 10 == 0:
                print(level, dict(self.counts), file=sys.stderr, flush=True)

        try_one()

    def test_a_write_before_a_transaction_that_reads(self):
        """On SQLite, its COMMIT has to wait for who reads, unless it comes first."""
        for mode in ("atomic", "autocommit"):
            write = Program((("add", 1),), mode)
            for read in (Program((("read", 1),)), Program((("read", 1), ("read", 1)))):
                for calls in ([read, write], [write, read]):
                    expected, _ = self.outcomes(DfsScheduler(), calls, None)
                    found, _ = self.outcomes(DporScheduler(), calls, None)
                    self.assertEqual(set(found), set(expected), calls)

    if connection.vendor == "sqlite":

        def test_on_sqlite(self):
            self.check(None, programs(with_locks=False))

    else:

        def test_read_committed(self):
            self.check("READ COMMITTED", programs())

        def test_repeatable_read(self):
            self.check("REPEATABLE READ", programs())

        def test_serializable(self):
            self.check("SERIALIZABLE", programs())

"""Calls, sessions and threads have the scopes of the code that makes them."""

from __future__ import annotations

import threading
import unittest

from django.db import connection, connections
from django.test import TestCase

from django_txtest import (
    NoAtomicMixin,
    ReadOnlyViolation,
    allow_writes,
    explore,
    run_concurrently,
    sessions,
    workers,
)
from tests.readonly.support import at_level
from tests.vault.models import Entry, Foreign


def write_entry(text):
    return Entry.objects.create(text=text).text


def write_by_sql(text):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO vault_entry (text) VALUES (%s)", [text])
    return text


def write_foreign(text):
    """Read what is read-only, write to what is not."""
    assert Entry.objects.count() >= 1
    return Foreign.objects.create(text=text).text


@unittest.skipIf(connection.vendor == "mysql", "The levels are for other vendors.")
class CallsTests(NoAtomicMixin, TestCase):
    databases = ("default", "other")

    def check(self, using, run=run_concurrently):
        calls = [
            (write, [f"{write.__name__} {n}"], {})
            for n in range(2)
            for write in (write_entry, write_by_sql)
        ]
        with at_level("sql"):
            results = run(calls, **using)
            for error in results:
                self.assertIsInstance(error.original, ReadOnlyViolation)
                self.assertIs(error.original.model, Entry)
            with allow_writes(Entry):
                results = run(calls, **using)
            results.raise_errors()
            self.assertEqual(len(results.values), 4)
        self.assertEqual(Entry.objects.exclude(text="from a migration").count(), 4)

    def test_fork(self):
        self.check({"using": "fork"})

    def test_threads(self):
        self.check({"using": "threads"})

    def test_spawn(self):
        self.check({"using": "spawn"})

    def test_inline(self):
        self.check({"using": "inline"})

    def test_workers_made_before_the_scope(self):
        with workers(4) as pool:
            self.check({}, pool.run_concurrently)

    def test_workers_made_within_a_scope(self):
        with allow_writes():
            pool = workers(2)
            made = pool.__enter__()
        try:
            results = made.run_concurrently([(write_entry, ["x"], {})] * 2)
        finally:
            pool.__exit__(None, None, None)
        for error in results:
            self.assertIsInstance(error.original, ReadOnlyViolation)

    def test_what_may_be_written_to(self):
        for level in ("sql", "db"):
            for using in ("threads", "fork"):
                with self.subTest(level, using=using), at_level(level):
                    calls = [(write_foreign, [str(n)], {}) for n in range(2)]
                    run_concurrently(calls, using=using).raise_errors()

    def test_a_thread_of_the_users(self):
        """It has connections of its own, which are guarded like all."""
        caught = []

        def target():
            try:
                write_by_sql("x")
            except ReadOnlyViolation as error:
                caught.append(error)
            finally:
                connections.close_all()

        with at_level("sql"), allow_writes():
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        self.assertEqual(len(caught), 1)


@unittest.skipIf(connection.vendor == "mysql", "Nothing is explored there.")
class ExplorationTests(NoAtomicMixin, TestCase):
    def test_sessions_are_guarded(self):
        for level in ("orm", "sql", "db"):
            with self.subTest(level), at_level(level):
                found = explore(
                    lambda: write_foreign("a"),
                    lambda: write_foreign("b"),
                    invariant=lambda results: sorted(results.values) == ["a", "b"],
                )
                found.raise_if_failed()
                self.assertTrue(found.exhausted)
                refused = explore(
                    lambda: write_entry("a"),
                    lambda: write_foreign("b"),
                    invariant=lambda results: len(results.errors) == 1,
                    allow=(ReadOnlyViolation,),
                )
                refused.raise_if_failed()

    def test_the_scope_around_holds(self):
        with at_level("sql"), allow_writes(Entry):
            found = explore(
                lambda: write_by_sql("a"),
                lambda: write_entry("b"),
                setup=lambda: write_entry("c"),
                invariant=lambda results: Entry.objects.count() == 4,
            )
        found.raise_if_failed()
        self.assertEqual(Entry.objects.count(), 1)

    def test_scripted(self):
        with at_level("sql"):
            with (
                self.assertRaises(ReadOnlyViolation),
                sessions(alice=lambda: write_entry("a")) as (alice,),
            ):
                alice.finish()
                raise alice.result.error.original
            with (
                allow_writes(),
                sessions(alice=lambda: write_by_sql("a")) as (alice,),
            ):
                alice.finish()
        self.assertTrue(Entry.objects.filter(text="a").exists())

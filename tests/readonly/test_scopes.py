from __future__ import annotations

import asyncio
import pickle
import threading
import unittest

from asgiref.sync import async_to_sync, sync_to_async
from django.test import SimpleTestCase, TestCase, override_settings

from django_txtest import ReadOnlyViolation, allow_writes, forbid_writes
from django_txtest.readonly import protection_of
from django_txtest.readonly.levels import Level
from django_txtest.readonly.scopes import active_scopes, entered
from tests.utils import run_tests
from tests.vault.models import Account, Entry, EntryProxy, Foreign, Review


def is_readonly(model):
    return protection_of(model, "default") is not None


class ScopesTests(SimpleTestCase):
    def test_all_models_or_some(self):
        self.assertEqual([is_readonly(m) for m in (Entry, Review)], [True, True])
        for models, expected in (
            ((), [False, False]),
            ((Entry,), [False, True]),
            (("vault.Review",), [True, False]),
            (("vault.entry", Review), [False, False]),
            (("vault",), [False, False]),
            (("library",), [True, True]),
            ((EntryProxy,), [True, True]),
        ):
            with self.subTest(models), allow_writes(*models):
                self.assertEqual([is_readonly(m) for m in (Entry, Review)], expected)

    def test_forbidden(self):
        self.assertFalse(is_readonly(Foreign))
        with forbid_writes(Foreign):
            self.assertTrue(is_readonly(Foreign))
            self.assertFalse(is_readonly(Account))
            self.assertEqual(
                protection_of(Foreign, "default").setting, "forbid_writes()"
            )
        with forbid_writes():
            self.assertTrue(is_readonly(Account))

    def test_the_innermost_decides_and_gives_back(self):
        with allow_writes(Entry):
            with forbid_writes(Entry):
                self.assertTrue(is_readonly(Entry))
                with allow_writes():
                    self.assertFalse(is_readonly(Entry))
                self.assertTrue(is_readonly(Entry))
            self.assertFalse(is_readonly(Entry))
        self.assertTrue(is_readonly(Entry))

    def test_given_back_after_an_error(self):
        with self.assertRaises(ZeroDivisionError), allow_writes():
            _ = 1 / 0
        self.assertEqual(active_scopes(), ())

    def test_one_object_may_be_entered_again(self):
        scope = allow_writes(Entry)
        with scope:
            with scope:
                self.assertFalse(is_readonly(Entry))
            self.assertFalse(is_readonly(Entry))
        self.assertTrue(is_readonly(Entry))

    def test_it_beats_every_setting(self):
        for value in (True, {"models": ["vault.Entry"]}, {"databases": ["default"]}):
            with override_settings(TXTEST_READONLY=value), allow_writes():
                self.assertFalse(is_readonly(Entry))
        with override_settings(TXTEST_READONLY=False), forbid_writes():
            self.assertTrue(is_readonly(Entry))

    def test_levels(self):
        with forbid_writes(Foreign, level="sql"):
            self.assertIs(protection_of(Foreign, "default").level, Level.SQL)
        with self.assertRaisesMessage(ValueError, "one of orm, sql, db, not 'deep'"):
            forbid_writes(level="deep")

    def test_names_that_do_not_exist(self):
        for name in ("vault.Nothing", "nothing.Entry", "nothing"):
            with self.subTest(name), self.assertRaises(LookupError):
                allow_writes(name).__enter__()
            self.assertEqual(active_scopes(), ())

    def test_they_travel(self):
        with allow_writes(Entry), forbid_writes(level="db"):
            packed = pickle.dumps(active_scopes())
        with entered(pickle.loads(packed)):
            self.assertEqual(len(active_scopes()), 2)
            self.assertTrue(is_readonly(Entry))


class DecoratorTests(SimpleTestCase):
    def test_function(self):
        @allow_writes(Entry)
        def decorated(value, *, more):
            """Say whether it is read-only."""
            return is_readonly(Entry), value, more

        self.assertEqual(decorated(1, more=2), (False, 1, 2))
        self.assertEqual(decorated.__doc__, "Say whether it is read-only.")
        self.assertTrue(is_readonly(Entry))

    def test_recursive_function(self):
        @allow_writes()
        def decorated(depth):
            return decorated(depth - 1) if depth else is_readonly(Entry)

        self.assertFalse(decorated(3))
        self.assertTrue(is_readonly(Entry))

    def test_coroutine_function(self):
        @allow_writes(Entry)
        async def decorated():
            await asyncio.sleep(0)
            return is_readonly(Entry)

        async def main():
            async def undecorated():
                await asyncio.sleep(0)
                return is_readonly(Entry)

            return await asyncio.gather(decorated(), undecorated(), decorated())

        self.assertEqual(asyncio.run(main()), [False, True, False])

    def test_generators(self):
        @allow_writes(Entry)
        def fixture():
            yield is_readonly(Entry)

        @allow_writes(Entry)
        async def asynchronous():
            yield is_readonly(Entry)

        generator = fixture()
        self.assertFalse(next(generator))
        self.assertFalse(is_readonly(Entry))  # as with a fixture, for the test
        self.assertEqual(list(generator), [])
        self.assertTrue(is_readonly(Entry))

        async def collect():
            return [value async for value in asynchronous()]

        self.assertEqual(asyncio.run(collect()), [False])

    def test_without_parentheses(self):
        with self.assertRaisesMessage(TypeError, "write @allow_writes()"):

            @allow_writes
            def decorated():
                pass

    def test_classes_of_tests(self):
        seen = []

        class Base:
            def test_inherited(self):
                seen.append(("inherited", is_readonly(Entry)))

        @allow_writes(Entry)
        class Inner(Base, TestCase):
            databases = ("default",)

            @classmethod
            def setUpTestData(cls):
                cls.entry = Entry.objects.create(text="x")

            def setUp(self):
                seen.append(("setUp", is_readonly(Entry)))

            def test(self):
                seen.append(("test", is_readonly(Entry)))
                self.entry.save()

            async def test_async(self):
                seen.append(("async", await sync_to_async(is_readonly)(Entry)))

            @staticmethod
            def helper():
                return is_readonly(Entry)

        @allow_writes(Entry)
        class Isolated(unittest.IsolatedAsyncioTestCase):
            async def asyncSetUp(self):
                seen.append(("asyncSetUp", is_readonly(Entry)))

            async def test(self):
                seen.append(("isolated", is_readonly(Entry)))

        self.ended = run_tests(Inner, Isolated)
        self.assertEqual(
            [*self.ended.errors, *self.ended.failures], [], self.ended.errors
        )
        self.assertEqual(
            {name for name, _ in seen},
            {"inherited", "setUp", "test", "async", "asyncSetUp", "isolated"},
        )
        self.assertFalse(any(readonly for _, readonly in seen), seen)
        self.assertTrue(is_readonly(Entry))
        self.assertTrue(Inner.helper())

    databases = ("default",)


class ContextsTests(SimpleTestCase):
    def test_a_thread_has_a_context_of_its_own(self):
        seen = []
        with allow_writes():
            thread = threading.Thread(target=lambda: seen.append(is_readonly(Entry)))
            thread.start()
            thread.join()
        self.assertEqual(seen, [True])

    def test_it_goes_between_sync_and_async(self):
        async def check():
            return await sync_to_async(is_readonly)(Entry)

        with allow_writes():
            self.assertFalse(async_to_sync(check)())
        self.assertTrue(async_to_sync(check)())

    def test_tasks(self):
        async def main():
            async def allowed(entered, leave):
                with allow_writes():
                    entered.set()
                    await leave.wait()
                    return is_readonly(Entry)

            entered, leave = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(allowed(entered, leave))
            await entered.wait()
            outside = is_readonly(Entry)
            leave.set()
            return outside, await task

        self.assertEqual(asyncio.run(main()), (True, False))


class ViolationTests(SimpleTestCase):
    def test_it_can_be_pickled(self):
        error = ReadOnlyViolation(Entry, "update", "default", "VAULT_READONLY")
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual(str(again), str(error))
        self.assertEqual(
            (again.model, again.operation, again.alias, again.setting),
            (Entry, "update", "default", "VAULT_READONLY"),
        )

    def test_messages_say_what_to_change(self):
        for setting, remedy in (
            ("MY_FLAG", "Set MY_FLAG = False, or write within allow_writes(Entry)."),
            (
                'TXTEST_READONLY["apps"]',
                'Add {"vault.Entry": False} to TXTEST_READONLY["models"], or write',
            ),
            (
                'TXTEST_READONLY["models"]',
                'Take vault.Entry out of TXTEST_READONLY["models"], or write within ',
            ),
            ("forbid_writes()", "Write outside of that, or write within allow_writes("),
        ):
            message = str(ReadOnlyViolation(Entry, "save", "default", setting))
            self.assertIn(remedy, message)
            what = "save: vault.Entry is read-only on the database 'default', by "
            self.assertIn(what + setting, message)
        through = Entry.tags.through
        message = str(
            ReadOnlyViolation(through, "add", "default", 'TXTEST_READONLY["apps"]')
        )
        self.assertIn("add: vault.Entry_tags is read-only", message)
        self.assertIn('Add {"vault.Entry": False} to TXTEST_READONLY', message)
        self.assertIn("or write within allow_writes(Entry).", message)
        message = str(ReadOnlyViolation("some_table", "DELETE", "other", "X"))
        self.assertIn("some_table is read-only on the database 'other'", message)

from __future__ import annotations

import threading
from functools import partial

from django.db import IntegrityError, connection, transaction

from django_txtest import Session, TxTestCase, checkpoint, sessions
from django_txtest.exceptions import InvalidCall, ScriptError
from tests.library.models import Book, Genre
from tests.scheduler import calls
from tests.utils import SessionsMixin, explores, on_postgresql


@explores
class ScriptTests(SessionsMixin, TxTestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(title="a", copies=5)

    def tearDown(self):
        names = [thread.name for thread in threading.enumerate()]
        self.assertFalse([name for name in names if "txtest session" in name])
        if connection.vendor == "postgresql":
            self.assertNoSessions()

    def test_a_lost_update(self):
        lend = partial(calls.lend, self.book.pk)
        with sessions(alice=lend, bob=lend) as (alice, bob):
            alice.run_until("SELECT")
            bob.finish()
            self.assertIsNone(bob.result)
            self.assertIn("stands before UPDATE", repr(alice))
            alice.finish()
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 4)
        self.assertIn("bob    UPDATE", str(alice.history))

    def test_the_name_of_a_call_is_no_statement(self):
        def update_book(field):
            Book.objects.filter(pk=self.book.pk).update(**{field: 1})

        with sessions(partial(update_book, "copies")) as (s1,):
            s1.run_until("update")
            self.book.refresh_from_db()
            self.assertEqual(self.book.copies, 1)
            with self.assertRaisesRegex(ScriptError, "has finished"):
                s1.run_until("begins")

    @on_postgresql
    def test_who_waits_goes_on_by_itself(self):
        lend = partial(calls.lend_locked, self.book.pk)
        with sessions(alice=lend, bob=lend) as (alice, bob):
            alice.run_until("for update")
            bob.finish()
            self.assertTrue(bob.waiting)
            self.assertFalse(bob.finished)
            for forbidden in (bob.step, partial(bob.run_until, "x"), bob.finish):
                with self.assertRaisesRegex(ScriptError, "waits for alice in SELECT"):
                    forbidden()
            with self.assertRaisesRegex(ScriptError, "no result of bob yet"):
                _ = bob.result
            alice.finish()
            self.assertTrue(bob.finished)
            bob.finish()
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 3)

    def test_steps(self):
        @transaction.atomic
        def call():
            checkpoint("here")
            calls.lend_f(self.book.pk)
            return 7

        with sessions(Session("ann", call)) as (ann,):
            self.assertIn("has not begun", repr(ann))
            ann.step()
            if connection.vendor == "sqlite":
                ann.run_until("BEGIN")
            self.assertIn("stands before checkpoint 'here'", repr(ann))
            ann.run_until("here")
            ann.step()
            self.assertIn("stands before COMMIT", repr(ann))
            ann.run_until("commit")
            self.assertEqual(ann.result, 7)
            with self.assertRaisesRegex(ScriptError, "ann cannot make a step: it has"):
                ann.step()

    def test_what_a_call_raises(self):
        Genre.objects.create(name="x")
        with sessions(ann=partial(Genre.objects.create, name="x")) as (ann,):
            ann.finish()
            with self.assertRaises(IntegrityError):
                _ = ann.result

    def test_a_statement_that_does_not_come(self):
        message = "s1 was to run until 'DELETE', and has finished without"
        lend = partial(calls.lend_f, self.book.pk)
        with sessions(lend) as (s1,), self.assertRaisesRegex(ScriptError, message):
            s1.run_until("DELETE")

    def test_what_is_not_over_is_rolled_back(self):
        lend = partial(calls.lend_both, self.book.pk, self.book.pk)
        with sessions(alice=lend, bob=lend) as (alice, _):
            alice.run_until("UPDATE")
        with self.assertRaises(ZeroDivisionError), sessions(alice=lend) as (alice,):
            alice.run_until("UPDATE")
            raise ZeroDivisionError
        self.book.refresh_from_db()
        self.assertEqual(self.book.copies, 5)

    @on_postgresql
    def test_who_still_waits_at_the_end(self):
        lend = partial(calls.lend_locked, self.book.pk)
        message = "bob, which was to finish, waits for alice"
        script = sessions(alice=lend, bob=lend)
        with self.assertRaisesRegex(ScriptError, message), script as (alice, bob):
            alice.run_until("UPDATE")
            bob.finish()

    def test_refusals(self):
        for arguments in ({}, {"alice": 1}):
            with self.assertRaises(InvalidCall), sessions(**arguments):
                pass
        script = sessions(a=int, databases=["other"])
        with self.assertRaisesRegex(InvalidCall, "may not use"), script:
            pass

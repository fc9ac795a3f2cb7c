from __future__ import annotations

import threading
import unittest
from functools import partial

from django.db import IntegrityError, connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from django_txtest.databases import get_database
from django_txtest.reset import Layers, Leftovers
from tests.library.models import Book, Genre, Loan, Reader

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
numbers = st.integers(0, 5)


def insert_book(text, number):
    Book.objects.create(title=text, copies=number, details={"n": [number, text]})


def insert_genre(text, number):
    Genre.objects.get_or_create(name=text or "none")


def update_books(text, number):
    Book.objects.filter(copies__gte=number).update(title=text)


def change_keys(text, number):
    Loan.objects.filter(id=number).update(id=number + 100)


def delete_genres(text, number):
    Genre.objects.filter(pk__gte=number).delete()


def borrow(text, number):
    reader = Reader.objects.create(name=text)
    reader.borrowed.set(Book.objects.all()[:number])


def empty_loans(text, number):
    statement = "TRUNCATE" if connection.vendor == "postgresql" else "DELETE FROM"
    with connection.cursor() as cursor:
        cursor.execute(f"{statement} library_loan")


def insert_loans(text, number):
    Loan.objects.bulk_create(
        [Loan(pk=200 + number, reader=text)], ignore_conflicts=True
    )


def raw(text, number):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE library_book SET cover = %s", [text.encode()])


WRITES = (
    insert_book,
    insert_genre,
    update_books,
    change_keys,
    delete_genres,
    borrow,
    empty_loans,
    insert_loans,
    raw,
)


def here(write):
    write()


def in_a_thread(write):
    def run():
        try:
            write()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def rolled_back(write):
    with transaction.atomic():
        write()
        transaction.set_rollback(True)


def left_open(write):
    transaction.atomic().__enter__()
    write()


operations = st.tuples(
    st.sampled_from([here, here, here, in_a_thread, rolled_back]),
    st.builds(partial, st.sampled_from(WRITES), texts, numbers),
)


class LayersTests(unittest.TestCase):
    """Whatever a test does, the rows are as they were before it, to the value."""

    databases = ("default",)

    @classmethod
    def setUpClass(cls):
        leftovers = Leftovers()
        leftovers.watch()
        cls.addClassCleanup(leftovers.close_all)
        cls.layers = Layers(["default"], leftovers)
        cls.layers.begin_class()
        cls.migrated = dump()
        # The class's own data; Genre keeps what migrations left.
        first = Book.objects.create(title="Emma", copies=3, cover=bytes(range(256)))
        Book.objects.create(title="", sequel_to=first, details=[None, 1.5, "\u00e9"])
        Reader.objects.create(name="Ann").borrowed.add(first)
        Loan.objects.create(pk=3, reader="Ann")
        cls.layers.begin_test()
        cls.before = dump()

    @classmethod
    def tearDownClass(cls):
        cls.layers.end_class()
        if dump() != cls.migrated:
            raise AssertionError("the database is not as migrations left it")

    @settings(max_examples=60, deadline=None)
    @given(st.lists(operations, max_size=6), st.booleans())
    def test_rows_come_back(self, operations, leaves_a_transaction):
        self.layers.begin_test()
        for how, write in operations:
            how(write)
        if leaves_a_transaction:
            left_open(partial(insert_book, "left", 1))
        self.layers.end_test()
        self.assertEqual(dump(), self.before)

    def test_an_error_in_the_middle(self):
        self.layers.begin_test()
        with self.assertRaises(IntegrityError), transaction.atomic():
            Genre.objects.create(name="new")
            Genre.objects.create(name="new")
        self.layers.end_test()
        self.assertEqual(dump(), self.before)


def dump():
    database = get_database(connection)
    return {
        table.name: sorted(map(repr, database.read(table)))
        for table in database.tables()
    }

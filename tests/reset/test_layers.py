from __future__ import annotations

import unittest
from functools import partial

from django.db import IntegrityError, connection, transaction
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.library.models import Book, Genre, Loan, Reader
from tests.properties import at_any_speed
from tests.reset.support import (
    assert_same,
    begin_class,
    check_taking_back,
    dump,
    execute,
    read_values,
)
from tests.reset.writers import (
    OtherProcess,
    Statement,
    another_process,
    here,
    in_a_thread,
    left_open,
    rolled_back,
)

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
    statement = "DELETE FROM" if connection.vendor == "sqlite" else "TRUNCATE"
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


# Tables that no model could have.
_TABLES = """
    CREATE TABLE shelf (id integer PRIMARY KEY, label varchar(20) UNIQUE);
    CREATE TABLE copy (id integer PRIMARY KEY,
        shelf integer REFERENCES shelf (id) ON DELETE CASCADE ON UPDATE CASCADE,
        next_to integer REFERENCES copy (id) ON DELETE SET NULL);
    CREATE TABLE visit (day integer, visitor varchar(20));
    CREATE TABLE history (what varchar(20));
    INSERT INTO shelf VALUES (1, 'a'), (2, 'b'), (3, 'c');
    INSERT INTO copy VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 3);
    INSERT INTO visit VALUES (1, 'Ann'), (1, 'Ann'), (2, NULL);
    """
_POSTGRESQL_TABLES = """
    CREATE TABLE loans (year int, n int, PRIMARY KEY (year, n))
        PARTITION BY LIST (year);
    CREATE TABLE loans_1 PARTITION OF loans FOR VALUES IN (1);
    CREATE TABLE loans_other PARTITION OF loans DEFAULT;
    INSERT INTO loans VALUES (1, 1), (1, 2), (3, 1);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO history VALUES (TG_OP); RETURN NULL; END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON copy
        FOR EACH ROW EXECUTE FUNCTION note();
    """
_SQLITE_TABLES = """
    CREATE TRIGGER note_i AFTER INSERT ON copy
        BEGIN INSERT INTO history VALUES ('INSERT'); END;
    CREATE TRIGGER note_d AFTER DELETE ON copy
        BEGIN INSERT INTO history VALUES ('DELETE'); END;
    """
_MYSQL_TABLES = """
    CREATE TRIGGER note_i AFTER INSERT ON copy
        FOR EACH ROW INSERT INTO history VALUES ('INSERT');
    CREATE TRIGGER note_u BEFORE UPDATE ON copy
        FOR EACH ROW INSERT INTO history VALUES ('UPDATE');
    CREATE TRIGGER note_d AFTER DELETE ON copy
        FOR EACH ROW INSERT INTO history VALUES ('DELETE');
    """
_MORE_TABLES = {
    "mysql": _MYSQL_TABLES,
    "postgresql": _POSTGRESQL_TABLES,
    "sqlite": _SQLITE_TABLES,
}
STATEMENTS = (
    "DELETE FROM shelf WHERE id = {0}",
    "UPDATE shelf SET id = id + 10 WHERE id >= {0}",
    "UPDATE shelf SET label = 'x{0}' WHERE id = 1",
    "UPDATE copy SET next_to = 4 - id",
    "INSERT INTO copy VALUES ({0} + 2, 1, {0})",
    "DELETE FROM copy WHERE id = {0}",
    "INSERT INTO visit SELECT * FROM visit WHERE day = {0}",
    "DELETE FROM visit",
)
# Of whoever executes them: the other process is a superuser, this one may not be.
OWNERS_STATEMENTS = (
    "CREATE TABLE made_{0} AS SELECT * FROM visit",
    "INSERT INTO made_{0} SELECT * FROM visit",
)
MYSQL_STATEMENTS = (
    "TRUNCATE visit",
    "REPLACE INTO shelf VALUES ({0}, 'r{0}')",
    "INSERT INTO shelf VALUES ({0}, 'a') ON DUPLICATE KEY UPDATE label = 'd{0}'",
    "DELETE shelf, visit FROM shelf JOIN visit WHERE shelf.id = {0}",
)
POSTGRESQL_STATEMENTS = (
    "TRUNCATE shelf CASCADE",
    "TRUNCATE copy RESTART IDENTITY",
    "TRUNCATE loans_1",
    "UPDATE loans SET year = 4 - year WHERE n = {0}",
    "INSERT INTO loans_1 VALUES (1, {0})",
    "DELETE FROM loans WHERE year = {0}",
    "SET session_replication_role = replica; DELETE FROM shelf; "
    "RESET session_replication_role",
)


def may_do_anything():
    if connection.vendor != "postgresql":
        return True
    return execute("SHOW is_superuser") == [("on",)]


def statements():
    choices = STATEMENTS
    if connection.vendor == "postgresql":
        choices += POSTGRESQL_STATEMENTS
    elif connection.vendor == "mysql":
        choices += MYSQL_STATEMENTS
    if may_do_anything():
        choices += OWNERS_STATEMENTS
    return st.builds(
        lambda sql, number: Statement(sql.format(number)),
        st.sampled_from(choices),
        numbers,
    )


operations = st.tuples(
    st.sampled_from([here, here, in_a_thread, another_process, rolled_back]),
    st.one_of(
        st.builds(partial, st.sampled_from(WRITES), texts, numbers),
        st.deferred(statements),
    ),
)


class LayersTests(unittest.TestCase):
    """Whatever a test does, the rows are as they were before it, to the value."""

    databases = ("default",)

    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(connection.close)
        cls.layers = begin_class(cls)
        cls.migrated = dump()
        # The class's own data; Genre keeps what migrations left.
        first = Book.objects.create(title="Emma", copies=3, cover=bytes(range(256)))
        Book.objects.create(title="", sequel_to=first, details=[None, 1.5, "\u00e9"])
        Reader.objects.create(name="Ann").borrowed.add(first)
        Loan.objects.create(pk=3, reader="Ann")
        execute(_TABLES + _MORE_TABLES[connection.vendor])
        OtherProcess(cls)
        cls.layers.begin_test()
        cls.before = dump()

    @classmethod
    def tearDownClass(cls):
        cls.layers.end_class()
        if connection.vendor == "postgresql":
            execute("DROP FUNCTION note")
        assert_same(dump(), cls.migrated)

    @settings(at_any_speed, max_examples=100)
    @given(st.lists(operations, max_size=6), st.booleans())
    def test_rows_come_back(self, operations, leaves_a_transaction):
        self.layers.begin_test()
        _run(operations)
        if leaves_a_transaction:
            left_open(partial(insert_book, "left", 1))
        self.layers.end_test()
        assert_same(dump(), self.before)

    @settings(at_any_speed, max_examples=60)
    @given(*[st.lists(operations, max_size=4)] * 4, st.booleans())
    def test_a_checkpoint(self, first, second, third, last, leaves_a_transaction):
        # Rows that break a foreign key are only for a superuser to put back.
        assume("replica" not in repr((first, third)) or may_do_anything())
        self.layers.begin_test()
        try:
            _run(first)
            if leaves_a_transaction:
                left_open(partial(insert_book, "left", 1))
            with self.layers.checkpoint() as put_back:
                at_checkpoint = dump()
                values = read_values()
                for operations in (second, third, second):
                    _run(operations)
                    if leaves_a_transaction:
                        left_open(partial(insert_book, "left", 1))
                    put_back()
                    assert_same(dump(), at_checkpoint)
                _run(third)
                check_taking_back(self.layers, values)
                assert_same(dump(), at_checkpoint)
                self.assertEqual(read_values(), values)
                _run(third)
                at_the_end = dump()
            assert_same(dump(), at_the_end)
            with self.layers.checkpoint() as put_back:
                _run(last)
                put_back()
                assert_same(dump(), at_the_end)
            _run(last)
        finally:
            self.layers.end_test()
        assert_same(dump(), self.before)

    def test_an_error_in_the_middle(self):
        self.layers.begin_test()
        with self.assertRaises(IntegrityError), transaction.atomic():
            Genre.objects.create(name="new")
            Genre.objects.create(name="new")
        self.layers.end_test()
        assert_same(dump(), self.before)


def _run(operations):
    for how, write in operations:
        how(write)

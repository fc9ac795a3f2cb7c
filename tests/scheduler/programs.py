"""Small random programs: what some sessions do to a few rows.

A program is data, so that Hypothesis can make it smaller, and print it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction
from hypothesis import strategies as st

from tests.library.models import Book, Genre


class RolledBack(Exception):
    """Ends a transaction that is to be rolled back."""


@dataclass(frozen=True)
class Program:
    """What one session does.

    `steps` are names of functions below, with what they take. `mode` says whether it is
    one transaction, and how that ends.
    """

    steps: tuple[tuple, ...]
    mode: str = "atomic"

    def __call__(self):
        seen = []
        try:
            with ExitStack() as stack:
                if self.mode != "autocommit":
                    stack.enter_context(transaction.atomic())
                seen.extend(map(make, self.steps))
                if self.mode == "rolled back":
                    raise RolledBack
        except RolledBack:
            pass
        except DatabaseError as error:
            seen.append(type(error).__name__)
        return seen


def make(step):
    name, *arguments = step
    return globals()[name](*arguments)


def ask(sql, *params):
    """Return what a statement returns, in an order that does not matter."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return sorted(cursor.fetchall(), key=repr) if cursor.description else None


def read(pk):
    return ask("SELECT copies, title FROM library_book WHERE id = %s", pk)


def read_copies(pk):
    return ask("SELECT copies FROM library_book WHERE id = %s", pk)


def find(copies):
    return ask("SELECT id < 5, title FROM library_book WHERE copies = %s", copies)


def count_from(copies):
    return ask("SELECT COUNT(*) FROM library_book WHERE copies >= %s", copies)


def total():
    return Book.objects.values_list("copies").order_by("copies").count()


def titles():
    return ask("SELECT MAX(title) FROM library_book")


def books_of(genre):
    return ask(
        "SELECT b.copies FROM library_book b JOIN library_genre g ON g.id = b.genre_id "
        "WHERE g.name = %s",
        genre,
    )


def lock(pk, how):
    return ask(f"SELECT copies FROM library_book WHERE id = %s {how}", pk)


def lock_copies(copies, how):
    return ask(f"SELECT title FROM library_book WHERE copies = %s {how}", copies)


def lock_first(how):
    return ask(
        "SELECT id, copies FROM library_book WHERE available AND id < 5 "
        f"ORDER BY id LIMIT 1 {how}"
    )


def lock_genre(pk, how):
    return ask(f"SELECT name FROM library_genre WHERE id = %s {how}", pk)


def take(pk):
    ask("UPDATE library_book SET available = false WHERE id = %s AND available", pk)


def write(pk, copies):
    ask("UPDATE library_book SET copies = %s WHERE id = %s", copies, pk)


def add(pk):
    ask("UPDATE library_book SET copies = copies + 1 WHERE id = %s", pk)


def name(pk, title):
    ask("UPDATE library_book SET title = %s WHERE id = %s", title, pk)


def change(before, after):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE library_book SET copies = %s WHERE copies = %s", [after, before]
        )
        return cursor.rowcount


def add_from(copies):
    ask("UPDATE library_book SET copies = copies + 1 WHERE copies >= %s", copies)


def read_and_add(pk):
    book = Book.objects.only("copies").filter(pk=pk).first()
    if book is not None:
        Book.objects.filter(pk=pk).update(copies=book.copies + 1)


def sort(pk, genre):
    ask("UPDATE library_book SET genre_id = %s WHERE id = %s", genre, pk)


def copy_total(pk):
    ask(
        "UPDATE library_book SET copies = (SELECT SUM(copies) FROM library_book) "
        "WHERE id = %s",
        pk,
    )


def insert(pk, copies):
    Book.objects.create(pk=pk, copies=copies, title="inserted")


def insert_new(copies):
    Book.objects.create(copies=copies, title="new")


def insert_of(genre):
    Book.objects.create(genre_id=genre, title="of a genre")


def insert_if_none(copies):
    if not Book.objects.filter(copies=copies).exists():
        Book.objects.create(copies=copies, title="new")


def delete(pk):
    ask("DELETE FROM library_book WHERE id = %s", pk)


def delete_copies(copies):
    ask("DELETE FROM library_book WHERE copies = %s", copies)


def insert_genre(genre):
    Genre.objects.create(name=genre)


def get_genre(genre):
    return Genre.objects.get_or_create(name=genre)[1]


def ignore_genre(genre):
    ask(
        "INSERT INTO library_genre (name) VALUES (%s) ON CONFLICT (name) DO NOTHING",
        genre,
    )


def rename_genre(pk, genre):
    ask("UPDATE library_genre SET name = %s WHERE id = %s", genre, pk)


def delete_genre(pk):
    ask("DELETE FROM library_genre WHERE id = %s", pk)


def delete_genre_named(genre):
    ask("DELETE FROM library_genre WHERE name = %s", genre)


def genres():
    return ask("SELECT name FROM library_genre")


def savepoint(step, is_undone):
    """Make a step within a savepoint, which errors do not leave."""
    try:
        with transaction.atomic():
            seen = make(step)
            if is_undone:
                raise RolledBack
            return seen
    except RolledBack:
        return "undone"
    except DatabaseError as error:
        return type(error).__name__


books = st.integers(1, 3)
numbers = st.integers(0, 2)
parents = st.integers(1, 2)
names = st.sampled_from(["Crime", "Poetry", "x", "y"])
strengths = st.sampled_from(
    ["FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE", "FOR KEY SHARE"]
)
patience = st.sampled_from(["", "", " NOWAIT", " SKIP LOCKED"])
hows = st.builds(lambda strength, wait: strength + wait, strengths, patience)

READS = [
    st.tuples(st.just("read"), books),
    st.tuples(st.just("read_copies"), books),
    st.tuples(st.just("find"), numbers),
    st.tuples(st.just("count_from"), numbers),
    st.tuples(st.just("total")),
    st.tuples(st.just("titles")),
    st.tuples(st.just("books_of"), names),
    st.tuples(st.just("genres")),
]
LOCKS = [
    st.tuples(st.just("lock"), books, hows),
    st.tuples(st.just("lock_copies"), numbers, hows),
    st.tuples(st.just("lock_first"), hows),
    st.tuples(st.just("lock_genre"), parents, hows),
]
WRITES = [
    st.tuples(st.just("take"), books),
    st.tuples(st.just("write"), books, numbers),
    st.tuples(st.just("add"), books),
    st.tuples(st.just("name"), books, names),
    st.tuples(st.just("change"), numbers, numbers),
    st.tuples(st.just("add_from"), numbers),
    st.tuples(st.just("read_and_add"), books),
    st.tuples(st.just("sort"), books, parents),
    st.tuples(st.just("copy_total"), books),
    st.tuples(st.just("insert"), books, numbers),
    st.tuples(st.just("insert_new"), numbers),
    st.tuples(st.just("insert_of"), parents),
    st.tuples(st.just("insert_if_none"), numbers),
    st.tuples(st.just("delete"), books),
    st.tuples(st.just("delete_copies"), numbers),
    st.tuples(st.just("insert_genre"), names),
    st.tuples(st.just("get_genre"), names),
    st.tuples(st.just("ignore_genre"), names),
    st.tuples(st.just("rename_genre"), parents, names),
    st.tuples(st.just("delete_genre"), parents),
    st.tuples(st.just("delete_genre_named"), names),
]


def steps(*, with_locks=True):
    plain = st.one_of(READS + (LOCKS if with_locks else []) + WRITES)
    return st.one_of(
        plain,
        plain,
        plain,
        st.tuples(st.just("savepoint"), plain, st.booleans()),
    )


@st.composite
def programs(draw, *, with_locks=True):
    """Return two sessions, or three shorter ones; some make the same call."""
    count = draw(st.sampled_from([2, 2, 2, 3]))
    longest = 3 if count == 2 else 1
    made = []
    for _ in range(count):
        if made and draw(st.integers(0, 3)) == 0:
            made.append(made[-1])
            continue
        body = draw(
            st.lists(steps(with_locks=with_locks), min_size=1, max_size=longest)
        )
        mode = draw(
            st.sampled_from(["atomic", "atomic", "atomic", "autocommit", "rolled back"])
        )
        made.append(Program(tuple(body), mode))
    return made


def final_rows():
    """Return the rows that are left, where no key says when it was made."""
    rows = Book.objects.values_list("pk", "copies", "title", "available", "genre_id")
    books = [(pk if pk < 5 else "new", *rest) for pk, *rest in rows]
    return (
        tuple(sorted(books, key=repr)),
        tuple(sorted(Genre.objects.values_list("name", flat=True))),
    )

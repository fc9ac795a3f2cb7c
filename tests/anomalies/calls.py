"""Transactions that come to an anomaly, where an isolation level permits it.

There are two books, x with 10 copies and y with 20.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from tests.library.models import Book

X, Y, Z = 1, 2, 3


class Abort(Exception):
    """Ends a transaction that is to be rolled back."""


def write(pk, copies):
    Book.objects.filter(pk=pk).update(copies=copies)


def read(pk):
    return Book.objects.values_list("copies", flat=True).get(pk=pk)


def count(copies):
    return Book.objects.filter(copies=copies).count()


def insert(pk, copies):
    Book.objects.create(pk=pk, title="z", copies=copies)


@transaction.atomic
def write_both(x, y):
    write(X, x)
    write(Y, y)


@transaction.atomic
def write_and_abort(x):
    write(X, x)
    raise Abort


@transaction.atomic
def write_twice(first, second):
    write(X, first)
    write(X, second)


@transaction.atomic
def read_both():
    return read(X), read(Y)


@transaction.atomic
def read_twice():
    return read(X), read(X)


@transaction.atomic
def write_and_read(written, copies, other):
    write(written, copies)
    return read(other)


@transaction.atomic
def increment():
    write(X, read(X) + 1)
    return "done"


@transaction.atomic
def insert_30():
    insert(Z, 30)


@transaction.atomic
def count_twice():
    return count(30), count(30)


@transaction.atomic
def add_10_to_all():
    Book.objects.update(copies=F("copies") + 10)


@transaction.atomic
def delete_and_count():
    """Delete what has 20 copies, and say whether there is such a one afterwards."""
    Book.objects.filter(copies=20)._raw_delete("default")
    return count(20)


@transaction.atomic
def empty(pk):
    """Take all copies of a book, unless that of the other one were taken."""
    if read(X) + read(Y) == 30:
        write(pk, 0)
    return "done"


@transaction.atomic
def insert_the_first(pk):
    """Put in a book of 30 copies, unless there is one."""
    if not count(30):
        insert(pk, 30)
    return "done"


@transaction.atomic
def charge():
    """Take 15 of x, and one more if x and y have none left for that together."""
    x, y = read(X), read(Y)
    write(X, x - 15 if x + y >= 15 else x - 16)
    return "done"


@transaction.atomic
def refill():
    write(Y, read(Y) + 20)
    return "done"

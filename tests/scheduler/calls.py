"""Calls whose interleavings the tests explore: everyday races, and their cures."""

from __future__ import annotations

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F, Max

from tests.library.models import Book, Genre, Reader


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def lend(pk):
    """Lose an update, in autocommit mode."""
    book = Book.objects.only("copies").get(pk=pk)
    book.copies -= 1
    book.save(update_fields=["copies"])


def lend_atomic(pk):
    with transaction.atomic():
        lend(pk)


def lend_f(pk):
    Book.objects.filter(pk=pk).update(copies=F("copies") - 1)


def lend_locked(pk):
    with transaction.atomic():
        book = Book.objects.select_for_update().only("copies").get(pk=pk)
        book.copies -= 1
        book.save(update_fields=["copies"])


def lend_nowait(pk):
    """Give up where another one has the row."""
    try:
        with transaction.atomic():
            book = Book.objects.select_for_update(nowait=True).only("copies").get(pk=pk)
            book.copies -= 1
            book.save(update_fields=["copies"])
    except OperationalError:
        return "refused"
    return "lent"


def lend_skip_locked():
    """Take a book that nobody else is taking."""
    with transaction.atomic():
        books = Book.objects.select_for_update(skip_locked=True).only("copies")
        book = books.filter(available=True).order_by("pk").first()
        if book is None:
            return "none"
        Book.objects.filter(pk=book.pk).update(available=False)
        return "taken"


def lend_both(*pks):
    with transaction.atomic():
        for pk in pks:
            lend_f(pk)


def lend_both_with_retry(*pks):
    for _ in range(3):
        try:
            return lend_both(*pks)
        except OperationalError:
            pass
    raise AssertionError("three deadlocks in a row")


def get_or_create_reader(name):
    """Nothing is unique, so there may be two."""
    Reader.objects.get_or_create(name=name)


@transaction.atomic
def get_or_create_reader_in_atomic(name):
    get_or_create_reader(name)


def get_or_create_genre(name):
    genre, _ = Genre.objects.get_or_create(name=name)
    return genre


def create_genre(name):
    try:
        with transaction.atomic():
            Genre.objects.create(name=name)
    except IntegrityError:
        return "there was one"
    return "created"


def leave_shelf(pk):
    """Take a book away, unless it is the last one: write skew."""
    with transaction.atomic():
        if Book.objects.filter(available=True).count() > 1:
            Book.objects.filter(pk=pk).update(available=False)


def leave_shelf_with_retry(pk):
    for _ in range(5):
        try:
            return leave_shelf(pk)
        except OperationalError:
            pass
    raise AssertionError("five failures in a row")


def lend_by_condition(pk):
    """Check and act in one statement."""
    taken = Book.objects.filter(pk=pk, copies__gte=1).update(copies=F("copies") - 1)
    return "lent" if taken else "none left"


def lend_by_check(pk):
    """Check, then act."""
    if Book.objects.filter(pk=pk, copies__gte=1).exists():
        lend_f(pk)
        return "lent"
    return "none left"


def lend_by_version(pk):
    """Act only on what was read, else try again."""
    for _ in range(5):
        book = Book.objects.only("copies").get(pk=pk)
        found = Book.objects.filter(pk=pk, copies=book.copies)
        if found.update(copies=book.copies - 1):
            return
    raise AssertionError("others were quicker five times")


def number_by_max():
    """Give a book the next number, which two may get."""
    with transaction.atomic():
        last = Book.objects.aggregate(last=Max("copies"))["last"] or 0
        Book.objects.create(title="numbered", copies=last + 1)
    return last + 1


def number_by_lock(pk):
    """Give a book the next number, while nobody else can."""
    with transaction.atomic():
        Book.objects.select_for_update().only("pk").get(pk=pk)
        last = Book.objects.aggregate(last=Max("copies"))["last"] or 0
        Book.objects.create(title="numbered", copies=last + 1)
    return last + 1


def add_sequel(pk):
    with transaction.atomic():
        Book.objects.create(title="sequel", sequel_to_id=pk)


def rename_locked(pk, title):
    with transaction.atomic():
        Book.objects.select_for_update(no_key=True).only("pk").get(pk=pk)
        Book.objects.filter(pk=pk).update(title=title)


def tell_about(pk, told):
    """Tell at the commit, without a look at who told before."""
    with transaction.atomic():
        if Book.objects.get(pk=pk).available:
            Book.objects.filter(pk=pk).update(available=False)
            transaction.on_commit(lambda: told.append(pk))

"""What the tests call concurrently: importable, as a fresh process needs it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core import mail
from django.db import connection, connections, transaction
from django.db.models import QuerySet
from django.utils import timezone, translation

from tests.library.models import Book, Genre

#: Lets those that hang in a thread go: nothing else can.
released = threading.Event()


def titles(using: str = "default") -> list[str]:
    books = Book.objects.using(using).order_by("title")
    return list(books.values_list("title", flat=True))


def add(*args: int, **kwargs: int) -> int:
    return sum(args) + sum(kwargs.values())


def echo(*args: object, **kwargs: object) -> tuple[object, object]:
    return args, kwargs


def borrow(pk: int) -> int:
    """Lose updates: the copies are read, and written some time later."""
    book = Book.objects.get(pk=pk)
    time.sleep(0.05)
    book.copies -= 1
    book.save()
    return book.copies


def borrow_locked(pk: int) -> int:
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=pk)
        time.sleep(0.01)
        book.copies -= 1
        book.save()
    return book.copies


async def count_async() -> int:
    return await Book.objects.acount()


def create(title: str) -> int:
    return Book.objects.create(title=title).pk


def pid() -> int:
    return os.getpid()


def chatter(text: str) -> str:
    print(text)
    print(text.upper(), file=sys.stderr)
    os.write(1, b"straight to the file\n")
    return text


def setting(name: str) -> object:
    return getattr(settings, name, "deleted")


def database_names() -> dict[str, str]:
    return {
        alias: str(connections[alias].settings_dict["NAME"]) for alias in connections
    }


def send_mail() -> int:
    mail.send_mail("subject", "body", "from@example.com", ["to@example.com"])
    return len(mail.outbox)


def locale() -> tuple[str | None, str]:
    return translation.get_language(), timezone.get_current_timezone_name()


class Refused(Exception):
    """Has what a plain pickle of an exception loses."""

    def __init__(self, book: str, *, copies: int) -> None:
        super().__init__(f"no copies of {book}")
        self.book = book
        self.copies = copies


def refuse(book: str) -> None:
    try:
        raise KeyError(book)
    except KeyError as error:
        refused = Refused(book, copies=0)
        if hasattr(refused, "add_note"):
            refused.add_note("try the other library")
        raise refused from error


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("no way to travel")
        self.lock = threading.Lock()


def raise_unpicklable() -> None:
    raise Unpicklable


def return_unpicklable() -> object:
    return threading.Lock()


def leave() -> None:
    raise SystemExit(3)


def die(status: int) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(status)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tell(path: Path) -> None:
    """Let the file be there, with the number of this process in it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(str(os.getpid()))
    new.rename(path)


def wait_for(*paths: Path) -> None:
    while not all(path.exists() for path in paths):
        time.sleep(0.01)


def hang(path: Path | None = None) -> None:
    if path:
        tell(path)
    released.wait(600)


def hang_after_a_write(path: Path) -> None:
    """Hang once the others, which do not write, have finished."""
    Genre.objects.create(name="written")
    hang(path)


def hang_and_create(path: Path) -> None:
    hang(path)
    Book.objects.create(title="late")


def hang_stubbornly(path: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(path)
    time.sleep(600)


def hang_in_the_database(path: Path | None = None) -> None:
    if path:
        tell(path)
    sleep = "SLEEP" if connection.vendor == "mysql" else "pg_sleep"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sleep}(600)")


def hold_a_lock_and_hang(pk: int) -> None:
    with transaction.atomic():
        Book.objects.select_for_update().get(pk=pk)
        hang_in_the_database()


def start_a_process(path: Path) -> None:
    """Leave a process behind, with its number in `path`."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    path.write_text(str(pid))


def leave_a_forked_process_and_die() -> None:
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os._exit(3)


def connect_again_and_hang(pk: int) -> None:
    connection.close()
    hold_a_lock_and_hang(pk)


def leave_a_thread_in_the_database() -> None:
    threading.Thread(target=hang_in_the_database, daemon=True).start()
    time.sleep(0.5)


@dataclass
class WithoutHash(Exception):
    number: int


def raise_without_hash() -> None:
    raise WithoutHash(3)


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


class AsyncCallable:
    async def __call__(self) -> str:
        return "called"


def generate() -> Iterator[int]:
    yield 1


def queryset() -> QuerySet[Book]:
    return Book.objects.all()


def leave_a_transaction_open(title: str) -> None:
    transaction.atomic().__enter__()
    Book.objects.create(title=title)


def warn() -> None:
    warnings.warn("this is a warning", UserWarning, stacklevel=1)


def logging_level() -> int:
    return logging.getLogger("tests.level").level


def collect_garbage() -> int:
    return gc.collect()


def create_genre(name: str) -> int:
    return Genre.objects.create(name=name).pk


def end_own_session() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

"""Who writes to the database in a test of the reset, and how it ends."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from django.db import DatabaseError, connection, transaction

ROOT = Path(__file__).resolve().parents[2]

_SERVE = """
import pickle, sys
import django
django.setup()
from django.db import connection
connection.settings_dict["NAME"] = pickle.load(sys.stdin.buffer)
answers = sys.stdout.buffer
while True:
    try:
        write = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    write()
    answers.write(b".")
    answers.flush()
"""


class OtherProcess:
    """Writes over a connection of its own, for as long as a test class runs."""

    running = None

    def __init__(self, cls):
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        cls.addClassCleanup(self._close)
        self._send(connection.settings_dict["NAME"])
        OtherProcess.running = self

    def __call__(self, write):
        self._send(write)
        if self._process.stdout.read(1) != b".":
            raise AssertionError("the other process failed")

    def _send(self, value):
        pickle.dump(value, self._process.stdin)
        self._process.stdin.flush()

    def _close(self):
        OtherProcess.running = None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


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


def another_process(write):
    OtherProcess.running(write)


def rolled_back(write):
    with suppress(DatabaseError), transaction.atomic():
        write()
        transaction.set_rollback(True)


def left_open(write):
    transaction.atomic().__enter__()
    write()


class Statement:
    """A write in SQL, which the database may refuse."""

    def __init__(self, sql):
        self.sql = sql

    def __call__(self):
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute(self.sql)

    def __repr__(self):
        return f"Statement({self.sql!r})"

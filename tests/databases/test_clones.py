from __future__ import annotations

import os
import threading
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

from django.db import connection, connections

from django_txtest import TxTestCase
from django_txtest.databases import cloned, get_clones, get_database, renew_clone
from django_txtest.databases.clones import PostgreSQLClones
from django_txtest.exceptions import DatabaseNotSupported
from django_txtest.reset import Layers, Leftovers, current_layers
from django_txtest.reset.rewriting import RewritingBaseline
from tests.library.models import Book, Genre
from tests.utils import explores


def rows():
    return sorted(Book.objects.values_list("pk", "title"))


class OtherDatabase:
    """What is done within the block's functions is done in a clone."""

    def __init__(self, name, template):
        self.name, self.template = name, template

    def call(self, function):
        found = []

        def run():
            connections["default"] = cloned(connections["default"], self.name)
            if self.template:
                renew_clone(connections["default"], self.template)
            try:
                found.append(function())
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return found[0]


@explores
class CloneTests(TxTestCase):
    @classmethod
    def setUpTestData(cls):
        Book.objects.create(pk=1000, title="of the class")

    def setUp(self):
        self.clones = get_clones(connection)
        self.addCleanup(self.clones.drop)

    def clone(self, number):
        return OtherDatabase(self.clones.name(number), self.clones.template)

    def test_they_have_what_there_is(self):
        Book.objects.create(title="of the test")
        self.clones.make(2)
        expected = rows()

        def change():
            found = rows()
            Book.objects.create(title="of a clone")
            return found

        self.assertEqual(self.clone(1).call(change), expected)
        self.assertEqual(self.clone(2).call(rows), expected)
        self.assertEqual(rows(), expected)

    def test_they_are_put_back_to_a_checkpoint(self):
        Book.objects.create(pk=1001, title="of the test")
        Genre.objects.all().delete()
        with current_layers().checkpoint():
            self.clones.make(1)
            expected = rows()

            def restore():
                put_back = Layers(["default"], Leftovers()).adopt()
                for _ in range(2):
                    key = Book.objects.create(title="of a clone").pk
                    Book.objects.filter(pk=1000).update(title="changed")
                    Genre.objects.create(name="of a clone")
                    put_back()
                again = Book.objects.create(title="of a clone").pk
                put_back()
                return rows(), Genre.objects.count(), key == again

            for _ in range(2):  # whoever used it before
                self.assertEqual(self.clone(1).call(restore), (expected, 0, True))

    def test_all_are_dropped_and_no_other(self):
        other = get_clones(cloned(connection, f"{self.clones.source}1"))
        self.addCleanup(other.drop)
        for each in (self.clones, self.clones, other):
            each.connection.close()
        self.clones.make(2)
        self.clones.make(1)
        other.drop()
        self.assertEqual(len(self.clone(1).call(rows)), 1)
        self.clones.drop()
        if connection.vendor == "sqlite":
            self.assertFalse(os.path.exists(self.clones.name(1)))
            with self.assertRaisesRegex(DatabaseNotSupported, "on the machine that"):
                renew_clone(connection, self.clones.template)
        else:
            with connection.cursor() as cursor:
                names = [self.clones.name(1), self.clones.name(2)]
                cursor.execute(
                    "SELECT datname FROM pg_database WHERE datname = ANY(%s)", [names]
                )
                self.assertEqual(cursor.fetchall(), [])

    def test_a_baseline_that_keeps_all_in_memory(self):
        with self.assertRaisesRegex(DatabaseNotSupported, "cannot be put back"):
            RewritingBaseline(get_database(connection)).adopt()


class NameTests(unittest.TestCase):
    def clones(self, name):
        return PostgreSQLClones(SimpleNamespace(settings_dict={"NAME": name}))

    def test_long_names(self):
        names = set()
        for last in ("1", "2"):
            for number in (1, 999):
                name = self.clones("é" * 30 + last).name(number)
                self.assertLessEqual(len(name.encode()), 63)
                names.add(name)
        self.assertEqual(len(names), 4)
        self.assertEqual(self.clones("test_a").name(1), "test_a_txtest_1")

    def test_other_vendors(self):
        other = SimpleNamespace(vendor="oracle", alias="default")
        with self.assertRaisesRegex(DatabaseNotSupported, "'default' cannot be cloned"):
            get_clones(other)


class RenewTests(unittest.TestCase):
    def test_files_of_other_clones_stay(self):
        with TemporaryDirectory() as folder:
            names = {f"db_txtest_{number}" for number in range(12)}
            for name in (*names, "db_txtest_1-wal"):
                (Path(folder) / name).touch()
            own = SimpleNamespace(settings_dict={"NAME": f"{folder}/db_txtest_1"})
            renew_clone(own, f"{folder}/db_txtest_0")
            self.assertEqual(set(os.listdir(folder)), names)

from __future__ import annotations

import unittest

from django.db import connection, transaction
from django.test import TestCase

from django_txtest.databases import get_database
from django_txtest.databases.catalogue import ForeignKey, Unique

DDL = """
CREATE TABLE parent (id serial PRIMARY KEY, name varchar(9), code char(2),
                     UNIQUE (name, code));
CREATE TABLE child (id int, parent_id int REFERENCES parent ON DELETE CASCADE,
                    doubled int GENERATED ALWAYS AS (id * 2) STORED);
CREATE UNIQUE INDEX ON child (lower(id::text));
CREATE UNIQUE INDEX ON child (id) WHERE parent_id IS NULL;
CREATE VIEW seen AS SELECT child.id FROM child JOIN parent ON parent_id = parent.id;
CREATE FUNCTION does() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER does BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION does();
CREATE FUNCTION pure(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


class CatalogueTests(TestCase):
    def catalogue(self):
        return get_database(connection).catalogue()

    def test_models(self):
        if connection.vendor == "mysql":
            self.skipTest("nothing is explored there")
        catalogue = self.catalogue()
        self.assertEqual(catalogue.vendor, connection.vendor)
        book = catalogue.relations["library_book"]
        self.assertEqual(book.primary_key, ("id",))
        self.assertEqual(book.columns["copies"], "integer")
        self.assertIn("id", book.sequences)
        self.assertFalse(book.is_opaque)  # the triggers of resets are no news
        self.assertIn(Unique(("name",)), catalogue.relations["library_genre"].uniques)
        [key] = [
            key
            for key in catalogue.foreign_keys
            if key.table == "library_book" and key.columns == ("genre_id",)
        ]
        self.assertEqual(
            key,
            ForeignKey(
                "library_book",
                ("genre_id",),
                "library_genre",
                ("id",),
                is_deferred=True,
            ),
        )
        loan = catalogue.relations["library_loan"]
        self.assertEqual(loan.primary_key, ("id",))

    @unittest.skipUnless(connection.vendor == "postgresql", "DDL of PostgreSQL")
    def test_what_postgresql_has(self):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(DDL)
            catalogue = self.catalogue()
            transaction.set_rollback(True)
        parent = catalogue.relations["parent"]
        self.assertEqual(parent.columns, {"id": "integer", "name": "text", "code": ""})
        self.assertEqual(parent.sequences, {"id": 0})
        self.assertIn(Unique(("name", "code")), parent.uniques)
        child = catalogue.relations["child"]
        self.assertTrue(child.is_opaque)
        self.assertFalse(parent.is_opaque)
        self.assertEqual(child.generated, {"doubled"})
        self.assertEqual(
            set(child.uniques), {Unique(), Unique(("id",), is_total=False)}
        )
        self.assertEqual(catalogue.relations["seen"].shows, {"child", "parent"})
        self.assertFalse(catalogue.relations["seen"].is_opaque_to_read)
        [key] = [key for key in catalogue.foreign_keys if key.table == "child"]
        self.assertEqual((key.on_delete, key.is_deferred), ("CASCADE", False))
        self.assertLess({"does", "pure", "pg_notify", "setval"}, catalogue.impure)
        self.assertFalse({"count", "lower", "now"} & catalogue.impure)

from __future__ import annotations

import unittest

from django.db import models
from django.test.utils import isolate_apps

from django_txtest.scheduler.keys import plain_name, table_of


class NameTests(unittest.TestCase):
    def test_of_tables(self):
        for table, name in (
            ("public.book", "book"),
            ('"Odd Schema"."a.b"', "a.b"),
            ('sales."Odd ""name"""', 'Odd "name"'),
            ('"book"', "book"),
            ("`a.b`", "a.b"),
        ):
            with self.subTest(table):
                self.assertEqual(plain_name(table), name)

    @isolate_apps("tests.library")
    def test_of_models(self):
        for number, (table, name) in enumerate(
            (
                ("book", "book"),
                ("a.b", "a.b"),
                ('sales"."child', "child"),
                ('"Odd ""name"""', 'Odd "name"'),
            )
        ):
            meta = type("Meta", (), {"app_label": "library", "db_table": table})
            attributes = {"Meta": meta, "__module__": __name__}
            model = type(f"Odd{number}", (models.Model,), attributes)
            with self.subTest(table):
                self.assertEqual(table_of(model), name)

"""What tests say of searches."""

from __future__ import annotations

from django.db import connection

from django_txtest import TxTestCase, explore
from django_txtest.databases import get_database
from tests.library.models import Book


class SearchMixin:
    """For tests of what a search proves."""

    def assertProved(self, *targets, **options):
        exploration = explore(*targets, **options)
        self.assertTrue(exploration.exhausted, str(exploration))
        self.assertEqual(exploration.failures, [], str(exploration))
        return exploration

    @property
    def victims_are_known(self):
        """Of deadlocks: not for a role that has to wait for the server to look."""
        database = get_database(connection)
        return connection.vendor == "sqlite" or database.may_hasten_deadlocks()


class TwoBooksTestCase(SearchMixin, TxTestCase):
    """Has two books, with five copies each."""

    @classmethod
    def setUpTestData(cls):
        cls.pk = Book.objects.create(title="a", copies=5).pk
        cls.other_pk = Book.objects.create(title="b", copies=5).pk

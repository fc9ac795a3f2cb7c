"""Which way back a database has."""

from __future__ import annotations

from django_txtest.databases import Database, MySQL, PostgreSQL, SQLite
from django_txtest.reset.base import Baseline
from django_txtest.reset.mysql import MySQLBaseline
from django_txtest.reset.postgresql import PostgreSQLBaseline
from django_txtest.reset.rewriting import RewritingBaseline
from django_txtest.reset.sqlite import SQLiteBaseline


def get_baseline(database: Database) -> Baseline:
    """Return the best way back that the database has.

    The fast ones install something, and so are for test databases only.
    """
    if database.is_test_database():
        if isinstance(database, PostgreSQL):
            baseline = PostgreSQLBaseline(database)
            # Most often it is, and the other question takes milliseconds.
            if baseline.has_functions or database.may_install():
                return baseline
        if isinstance(database, MySQL) and database.may_install():
            return MySQLBaseline(database)
        if isinstance(database, SQLite):
            return SQLiteBaseline(database)
    return RewritingBaseline(database)

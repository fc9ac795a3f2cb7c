"""Reads a whole database, without the code that is under test."""

from __future__ import annotations

import re
import sqlite3
import unittest
from collections import Counter
from contextlib import closing, suppress
from functools import partial

from django.db import DatabaseError, connection

from django_txtest.databases import get_database
from django_txtest.reset import Layers, Leftovers

# Partitions by themselves, and what a materialised view holds.
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname), c.relkind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relispopulated
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
ORDER BY 1
"""

# All that a restore may have switched off for a while, or has to put right.
_SCHEMA = """
SELECT c.oid::regclass::text, concat_ws(' ', c.relkind, c.relrowsecurity,
       c.relforcerowsecurity, c.relispartition, c.relispopulated, c.relpersistence)
FROM pg_class c WHERE c.oid >= 16384 AND c.relpersistence <> 't'
  AND c.relkind <> 'S' AND c.relnamespace::regnamespace::text !~ '^(pg_|txtest)'
UNION ALL
SELECT attrelid::regclass::text, concat_ws(' ', attname, atttypid::regtype, atttypmod,
       attnotnull)
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped AND relpersistence <> 't'
  AND c.relnamespace::regnamespace::text !~ '^(pg_|txtest)'
UNION ALL
SELECT conrelid::regclass::text, conname::text || pg_get_constraintdef(oid)
       || CASE WHEN convalidated THEN '' ELSE ' not valid' END
FROM pg_constraint WHERE conrelid >= 16384
  AND connamespace::regnamespace::text !~ '^(pg_|txtest)'
UNION ALL
SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid >= 16384
  AND indrelid::regclass::text !~ '^(pg_|txtest)'
UNION ALL
SELECT tgrelid::regclass::text, tgname::text || ' ' || tgenabled::text
FROM pg_trigger WHERE NOT tgisinternal AND tgname <> 'zz_txtest_mark'
UNION ALL
SELECT ev_class::regclass::text, rulename::text || ' ' || ev_enabled::text
FROM pg_rewrite WHERE ev_class >= 16384 AND rulename <> '_RETURN'
  AND ev_class::regclass::text !~ '^txtest'
UNION ALL
SELECT oid::text, encode(lo_get(oid), 'hex')
FROM pg_largeobject_metadata
"""

# Each value by its bytes, or 'NULL', which are none. A float has more digits than it
# is shown with; a double is shown with all.
_MYSQL_COLUMNS = """
SELECT CONCAT('`', REPLACE(t.TABLE_NAME, '`', '``'), '`'),
       REPLACE(CASE c.DATA_TYPE
                   WHEN 'float' THEN 'COALESCE(HEX(CONCAT(? + 0e0)), ''NULL'')'
                   ELSE 'COALESCE(HEX(CONCAT(?)), ''NULL'')' END,
               '?', CONCAT('`', REPLACE(c.COLUMN_NAME, '`', '``'), '`'))
FROM information_schema.TABLES t
JOIN information_schema.COLUMNS c
  ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE = 'BASE TABLE'
  AND t.TABLE_NAME NOT LIKE 'txtest|_%' ESCAPE '|'
ORDER BY t.TABLE_NAME, c.ORDINAL_POSITION
"""

_MYSQL_TRIGGERS = """
SELECT CONCAT('`', REPLACE(TRIGGER_NAME, '`', '``'), '`'), ROW_NUMBER() OVER (
    PARTITION BY EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING
    ORDER BY ACTION_ORDER)
FROM information_schema.TRIGGERS
WHERE TRIGGER_SCHEMA = DATABASE() AND TRIGGER_NAME NOT LIKE 'txtest|_%' ESCAPE '|'
"""


def execute(sql):
    """Execute one statement or more, and return the rows of the last one."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executescript(sql)
            return []
        # MariaDB takes one statement at a time; no value in these tests has a "; ".
        statements = [sql]
        if connection.vendor == "mysql":
            statements = filter(str.strip, re.split(r";\s", sql))
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def dump():
    """Return every row of every table, and what the schema is made of.

    Over a connection of its own, whose settings are those of any other.
    """
    if connection.vendor == "sqlite":
        return _dump_sqlite()
    if connection.vendor == "mysql":
        return _dump_mysql()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SET search_path = ''; SET txdump.sees_all = 'on'")
            cursor.execute(_TABLES)
            selects = [
                f"SELECT '{name.replace(chr(39), chr(39) * 2)}', (txdump.*)::text "
                f"FROM {'ONLY' if kind == 'r' else ''} {name} txdump"
                for name, kind in cursor.fetchall()
            ]
            cursor.execute(" UNION ALL ".join([*selects, _SCHEMA]))
            return Counter(cursor.fetchall())
    finally:
        other.close()


def _dump_sqlite():
    # Without Django, whose converters make other values of some.
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
        schema = other.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master "
            "WHERE name NOT LIKE 'txtest~_%' ESCAPE '~' "
            "AND tbl_name NOT LIKE 'txtest~_%' ESCAPE '~' "
            # The sequences of SQLite only ever rise.
            "AND tbl_name <> 'sqlite_sequence'"
        ).fetchall()
        tables = [name for kind, name, *_ in schema if kind == "table"]
        return Counter(map(repr, schema)) + Counter(
            repr((name, row))
            for name in tables
            for row in other.execute('SELECT * FROM "' + name.replace('"', '""') + '"')
        )


def _dump_mysql():
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(_MYSQL_COLUMNS)
            tables: dict[str, list[str]] = {}
            for table, value in cursor.fetchall():
                tables.setdefault(table, []).append(value)
            schema = []
            for table in tables:
                cursor.execute(f"SHOW CREATE TABLE {table}")
                # Keys only ever rise.
                schema.append(re.sub(r" AUTO_INCREMENT=\d+", "", cursor.fetchone()[1]))
            cursor.execute(_MYSQL_TRIGGERS)
            for name, order in cursor.fetchall():
                cursor.execute(f"SHOW CREATE TRIGGER {name}")
                *statement, _ = cursor.fetchone()  # the last one is when it was made
                schema.append(repr((order, statement)))
            cursor.execute(
                " UNION ALL ".join(
                    f"SELECT {_literal(table)}, CONCAT_WS(' ', {', '.join(values)}) "
                    f"FROM {table}"
                    for table, values in tables.items()
                )
            )
            return Counter(schema) + Counter(cursor.fetchall())
    finally:
        other.close()


def _literal(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def begin_class(cls):
    """Return the layers of a test class, begun."""
    leftovers = Leftovers()
    leftovers.watch()
    cls.addClassCleanup(leftovers.close_all)
    layers = Layers(["default"], leftovers)
    layers.begin_class()
    return layers


def forget_migrations():
    """Have the next class learn anew what migrations left."""
    if connection.vendor == "postgresql":
        execute("DROP SCHEMA IF EXISTS txtest CASCADE")
    else:
        execute("UPDATE txtest_state SET migrations = ''")


class Hazards:
    """For a test class: each of its hazards is prepared for, spoilt and put back.

    All are prepared at once, as by a migration or as class data.
    """

    databases = ("default",)
    #: 1: as a migration does it, 2: as a test class.
    level = 2
    vendor = ""
    #: By their name: what to prepare, and how a test spoils it.
    hazards: dict[str, tuple[str, str]] = {}

    @classmethod
    def setUpClass(cls):
        if connection.vendor != cls.vendor:
            raise unittest.SkipTest(f"about {cls.vendor}")
        super().setUpClass()
        cls.addClassCleanup(connection.close)
        begin_class(cls).end_class()  # a flush may have come before
        cls.untouched = dump()
        cls.addClassCleanup(cls.check_the_end)
        if cls.level == 1:
            forget_migrations()
            cls.addClassCleanup(forget_migrations)
            cls.addClassCleanup(cls.remove)
            cls.prepare()
            cls.migrated = dump()
            cls.layers = begin_class(cls)
        else:
            cls.layers = begin_class(cls)
            cls.migrated = dump()
            cls.addClassCleanup(cls.remove)
            cls.prepare()
        cls.addClassCleanup(cls.end)
        cls.layers.begin_test()
        cls.before = dump()

    @classmethod
    def prepare(cls):
        for name, (prepare, _) in cls.hazards.items():
            execute(cls.named(prepare, name))

    @classmethod
    def named(cls, sql, name):
        return sql

    @classmethod
    def remove(cls):
        """Remove what the class prepared and a reset leaves alone."""

    @classmethod
    def end(cls):
        cls.layers.end_class()
        if cls.level == 1:
            assert_same(dump(), cls.migrated)

    @classmethod
    def check_the_end(cls):
        assert_same(dump(), cls.untouched)

    def test_hazards(self):
        for name, (_, spoil) in self.hazards.items():
            with self.subTest(hazard=name):
                self.check(partial(execute, self.named(spoil, name)))

    def check(self, spoil):
        """Check that the rows come back, each time that they are spoilt."""
        before = self.before
        for _ in range(2):
            self.layers.begin_test()
            spoil()
            spoilt = self.level == 1 or dump()
            self.layers.end_test()
            if not self.layers.keeps_connections:
                connection.close()
        if self.level == 2:
            self.check_a_checkpoint(spoil)
        type(self).before = dump()  # of the next one, if this one fails
        assert_same(self.before, before)
        self.assertNotEqual(spoilt, before, "nothing was spoilt")

    def check_a_checkpoint(self, spoil):
        """Check that within a test, too, the rows come back to where they were."""
        # What cannot be done twice may fail.
        errors = DatabaseError, sqlite3.Error
        self.layers.begin_test()
        with self.layers.checkpoint() as put_back:
            spoil()
            put_back()
            assert_same(dump(), self.before)
            with suppress(*errors):
                spoil()
        with self.layers.checkpoint():
            at_checkpoint = dump()
            values = read_values()
            for _ in range(2):  # the second time with what the first has prepared
                with suppress(*errors):
                    spoil()
                check_taking_back(self.layers, values)
                # Without ORDER BY, too, each execution is to find the same.
                self.assertEqual(read_values(), values)
            assert_same(dump(), at_checkpoint)
        self.layers.end_test()
        if not self.layers.keeps_connections:
            connection.close()


def read_values():
    """Return the rows of each table, as executions are compared by them, in order."""
    database = get_database(connection)
    return {table.name: database.read_values(table) for table in database.tables()}


def check_taking_back(layers, before):
    """Check that it tells of all that is otherwise than the values before."""
    get_database(connection).put_connection_right()
    after = read_values()
    tables = {table.name: table for table in get_database(connection).tables()}
    told = layers.take_back({"default": tables})["default"]
    for name in before.keys() & after.keys():
        if told.get(name, before[name]) != after[name]:
            assert_same(Counter(told.get(name, before[name])), Counter(after[name]))


def assert_same(after, before):
    """Check that two dumps are the same."""
    if after != before:
        raise AssertionError(
            f"lost: {[*(before - after)]}\nextra: {[*(after - before)]}"
        )

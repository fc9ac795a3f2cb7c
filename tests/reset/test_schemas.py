"""Random tables, and random writes to them."""

from __future__ import annotations

import unittest

from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import at_any_speed
from tests.reset.support import assert_same, begin_class, dump, execute
from tests.reset.writers import (
    OtherProcess,
    Statement,
    another_process,
    here,
    in_a_thread,
    rolled_back,
)

# By their type: values that differ.
COLUMNS = {
    "integer": ("0", "NULL", "-7"),
    "text": ("''", "'it''s \"1,(2)\" \\'", "NULL"),
    "varchar(9)": ("'NULL'", "' '", "NULL"),
    "numeric(9, 3)": ("1.10", "0", "NULL"),
    "double precision": ("0.1", "1e300", "-0.0"),
    "timestamp": ("'2020-01-02 03:04:05.678901'", "'0001-01-01 00:00:00'", "NULL"),
}
POSTGRESQL_COLUMNS = {
    "text[]": ("'{}'", '\'{"a,b",NULL,""}\'', "NULL"),
    "jsonb": ("'{\"a\": [1, null]}'", "'null'", "NULL"),
    "bytea": (r"'\x00ff5c'", "''", "NULL"),
    "float4": ("'NaN'", "'-infinity'", "NULL"),
    "timestamptz": ("'2020-01-02 03:04:05+05:45'", "'infinity'", "NULL"),
    "int4range": ("'[1,5)'", "'empty'", "NULL"),
    "interval": ("'1 mon -3 days'", "'0'", "NULL"),
}
# There a backslash escapes, and a timestamp is of this epoch.
MYSQL_COLUMNS = {
    "text": ("''", "'it''s \"1,(2)\" \\\\'", "NULL"),
    "float": ("0.1", "16777217", "-0.0"),
    "timestamp": ("'2020-01-02 03:04:05'", "'1970-01-02'", "'2037-12-31 23:59:59'"),
    "datetime(6)": ("'2020-01-02 03:04:05.678901'", "'1000-01-01'", "NULL"),
    "time(3)": ("'-838:59:59'", "'00:00:00.123'", "NULL"),
    "date": ("'2020-02-29'", "'9999-12-31'", "NULL"),
    "blob": (r"x'00FF5C27'", "''", "NULL"),
    "json": ("'{\"a\": [1, null]}'", "'null'", "NULL"),
    "bit(9)": ("b'100000001'", "0", "NULL"),
    "varchar(9) CHARACTER SET latin1": ("'\u00e9'", "' '", "NULL"),
    "enum('x', 'y')": ("'x'", "2", "NULL"),
}
ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL")
WAITS = ("", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED")
KEYS = ("PRIMARY KEY", "PRIMARY KEY", "UNIQUE", "")


MORE_COLUMNS = {
    "mysql": MYSQL_COLUMNS,
    "postgresql": POSTGRESQL_COLUMNS,
    "sqlite": {},
}


@st.composite
def tables(draw):
    """Draw the statements that make a few tables, and those that write to them."""
    columns = COLUMNS | MORE_COLUMNS[connection.vendor]
    cascade = " CASCADE" if connection.vendor == "postgresql" else ""
    waits = WAITS[:1] if connection.vendor == "mysql" else WAITS
    kinds = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=3))
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    with_key = [number for number, key in enumerate(keys) if key]
    make, links, fill, writes = [], [], [], ["SELECT 1"]
    for number, key in enumerate(keys):
        unique = draw(st.sampled_from(["", "", "UNIQUE"]))
        parts = [f"id integer {key}", *(f"c{i} {kind}" for i, kind in enumerate(kinds))]
        parts += [f"u integer {unique}", "r integer"]
        if with_key and draw(st.booleans()):
            link = (
                f"FOREIGN KEY (r) REFERENCES t{draw(st.sampled_from(with_key))} (id) "
                f"ON DELETE {draw(st.sampled_from(ACTIONS))} "
                f"ON UPDATE {draw(st.sampled_from(ACTIONS))} "
                f"{draw(st.sampled_from(waits))}"
            )
            if connection.vendor == "sqlite":  # it cannot add one
                parts.append(link)
            else:  # the other table has to be there
                links.append(f"ALTER TABLE t{number} ADD {link}")
        make.append(f"CREATE TABLE t{number} ({', '.join(parts)})")
        for row in range(3):
            values = ", ".join(columns[kind][row] for kind in kinds)
            fill.append(f"INSERT INTO t{number} VALUES ({row}, {values}, {row}, NULL)")
            fill.append(f"UPDATE t{number} SET r = 2 - id")
            writes.append(
                f"INSERT INTO t{number} VALUES ({row} + 2, {values}, {row} + 5, {row})"
            )
            writes += [
                f"UPDATE t{number} SET c{i} = {columns[kind][row]}"
                for i, kind in enumerate(kinds)
            ]
        writes += [
            f"INSERT INTO t{number} SELECT * FROM t{number}",
            f"UPDATE t{number} SET u = 2 - u",
            f"UPDATE t{number} SET id = id + 3",
            f"UPDATE t{number} SET r = 1",
            f"DELETE FROM t{number} WHERE id = 1",
            f"DELETE FROM t{number}",
            f"TRUNCATE t{number}{cascade}",
        ]
    writers = [here, in_a_thread, rolled_back, another_process]
    operations = draw(
        st.lists(
            st.tuples(st.sampled_from(writers), st.sampled_from(writes)),
            min_size=1,
            max_size=8,
        )
    )
    return [*make, *links], fill, operations


class SchemasTests(unittest.TestCase):
    databases = ("default",)

    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(connection.close)
        OtherProcess(cls)

    @settings(at_any_speed, max_examples=40)
    @given(st.deferred(tables))
    def test_rows_come_back(self, drawn):
        make, fill, operations = drawn
        layers = begin_class(type(self))
        migrated = dump()
        try:
            for sql in make:
                execute(sql)
            for sql in fill:
                Statement(sql)()
            layers.begin_test()
            before = dump()
            for how, sql in operations:
                how(Statement(sql))
            layers.end_test()
            assert_same(dump(), before)
        finally:
            layers.end_class()
        assert_same(dump(), migrated)

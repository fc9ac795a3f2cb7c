"""Statements that sqlglot generates, and mangled ones: no write passes as a read."""

from __future__ import annotations

import os
import unittest

import sqlglot
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_txtest import ReadOnlyViolation
from django_txtest.databases import get_database
from django_txtest.readonly.statements import DIALECTS, analyse
from tests.readonly.support import at_level
from tests.readonly.test_sql import (
    IS_POSTGRESQL,
    OTHER_WRITES,
    READS,
    WRITES,
    SQLTestCase,
    execute,
)
from tests.vault.models import Entry

DIALECT = DIALECTS.get(connection.vendor, "postgres")
#: The driver does not execute COPY; what is prepared outlasts a rollback.
CORPUS = [
    sql
    for sql in (*READS, *WRITES, *OTHER_WRITES)
    if "COPY" not in sql and "PREPARE" not in sql
]
#: More by TXTEST_FUZZ=10000, for as long as one likes.
EXAMPLES = int(os.environ.get("TXTEST_FUZZ", "100"))

QUERIES = [
    "SELECT 1",
    "SELECT id FROM vault_entry WHERE text = 'a;b'",
    "SELECT e.text FROM vault_entry AS e JOIN vault_foreign AS f ON f.text = e.text",
    "SELECT text FROM vault_entry UNION SELECT text FROM vault_foreign",
    "SELECT CASE WHEN text = 'delete' THEN 'into' ELSE 'update' END FROM vault_entry",
    "SELECT replace(text, 'a', 'b') FROM vault_foreign ORDER BY text LIMIT 1",
]
CHANGES = [
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE text IN (SELECT text FROM vault_foreign)",
    "UPDATE {table} SET text = 'x'",
    "UPDATE {table} SET text = (SELECT max(text) FROM vault_entry)",
    "INSERT INTO {table} (text) VALUES ('x'), ('y')",
    "INSERT INTO {table} (text) SELECT text FROM vault_foreign",
]
TABLES = ["vault_entry", "vault_foreign", '"vault_entry"', "Vault_Entry"]
TABLES += (
    ["public.vault_entry", "ONLY vault_entry"] if IS_POSTGRESQL else ["[vault_entry]"]
)
#: What two readers of SQL may well see differently.
PIECES = [
    "'", '"', "''", ";", "--", "-- x\n", "-- '\r", "/*", "*/", "/* */", "/* ' */",
    "/* /* */ */", "$$", "$x$", "\\", "\\'", "E'", "e'\\''", "U&'", 'U&"', "`", "[",
    "]",
    "\n", "\r", "\f", "\v", "\t", " ", "\u00a0", "\ufeff", "(", ")", ",", ".", "%",
    "%%",
    "::text", "N'x'", "B'1'", "x'1f'", "{#", "#}", "{%", "?", ":x", "@x", "1", "1e",
    " FOR UPDATE", " AS ", " RETURNING 1", " INTO ", " DELETE ",
    "DELETE FROM vault_entry",
    "; DELETE FROM vault_entry", "(DELETE FROM vault_entry RETURNING 1)",
]  # fmt: skip

changes = st.builds(
    lambda change, table: change.format(table=table),
    st.sampled_from(CHANGES),
    st.sampled_from(TABLES),
)
queries = st.sampled_from(QUERIES)
simple = st.one_of(queries, changes, st.sampled_from(CORPUS))


@st.composite
def composed(draw, parts=simple):
    """Return statements in statements, or after each other."""
    form = draw(
        st.sampled_from(
            [
                "{a}",
                "{a}; {b}",
                "EXPLAIN {a}",
                "EXPLAIN ANALYZE {a}",
                "EXPLAIN (ANALYZE, COSTS OFF) {a}",
                "EXPLAIN QUERY PLAN {a}",
                "WITH one AS ({a}) {b}",
                "WITH one AS ({change} RETURNING *) {b}",
                "WITH one AS (SELECT 1), two AS ({change} RETURNING 1) SELECT 1",
                "WITH one AS MATERIALIZED ({change} RETURNING text) {change}",
                "({a})",
                "SELECT * FROM ({a}) AS one",
                "CREATE TABLE vault_new AS {a}",
                "DECLARE vault_cursor CURSOR FOR {a}",
                "{a} -- {b}",
                "/* {b} */ {a}",
                "SELECT '{b}'; {a}",
            ]
        )
    )
    return form.format(a=draw(parts), b=draw(parts), change=draw(changes))


@st.composite
def generated(draw):
    """Return what sqlglot makes of a statement, in one of its ways to write it."""
    text = draw(composed())
    try:
        trees = sqlglot.parse(text, dialect=DIALECT)
        return "; ".join(
            tree.sql(
                dialect=DIALECT,
                pretty=draw(st.booleans()),
                identify=draw(st.booleans()),
                normalize_functions=draw(st.sampled_from(["upper", "lower", False])),
            )
            for tree in trees
            if tree is not None
        )
    except sqlglot.errors.SqlglotError:
        return text


@st.composite
def mangled(draw, texts):
    """Return a statement with pieces put in, taken out, or in another case."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        way = draw(st.sampled_from(["insert", "insert", "remove", "case", "repeat"]))
        if way == "insert":
            text = text[:place] + draw(st.sampled_from(PIECES)) + text[place:]
        elif way == "remove":
            text = text[:place] + text[place + draw(st.integers(1, 3)) :]
        elif way == "case":
            text = text[:place] + text[place:].swapcase()
        else:
            text = text[:place] + text[max(0, place - draw(st.integers(1, 9))) :]
    return text


fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    # The same ones in each run, unless one asks for more.
    derandomize="TXTEST_FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


@unittest.skipIf(connection.vendor == "mysql", "The levels are for other vendors.")
class FuzzTests(SQLTestCase):
    """The database is asked of each statement that the sql level lets through."""

    def check(self, text):
        with at_level("sql", databases=["default"]):
            error = self.refusal(text)
        self.assertIsNone(error, f"Passed as a read: {text!r}")
        with at_level("sql"):
            self.assertFalse(self.changes_entries(text), f"Passed: {text!r}")

    def refusal(self, text):
        """Return what the database says if it, and not we, refuses to write."""
        database = get_database(connection)
        try:
            with transaction.atomic(), database.refusing_writes():
                execute(text)
                transaction.set_rollback(True)
        except ReadOnlyViolation:
            self.refused += 1
        except DatabaseError as error:
            self.failed += 1
            return error if database.is_refusal(error) else None
        except (UnicodeError, ValueError):  # the driver does not even send it
            self.failed += 1
        else:
            self.passed += 1
        return None

    def changes_entries(self, text):
        """Tell whether the rows of a read-only model are others afterwards."""
        before = self.entries()
        try:
            with transaction.atomic():
                execute(text)
                try:
                    return self.entries() != before
                finally:
                    transaction.set_rollback(True)
        except (ReadOnlyViolation, DatabaseError, UnicodeError, ValueError):
            return False

    def entries(self):
        return list(Entry.objects.order_by("pk").values_list())

    def setUp(self):
        self.refused = self.passed = self.failed = 0
        if IS_POSTGRESQL:
            execute("SET LOCAL statement_timeout = '10s'")

    def fuzz(self, texts):
        fuzz(given(texts)(self.check))()
        # Else it would be a test of the parser's errors.
        self.assertGreater(self.refused, EXAMPLES / 10)
        return self.passed

    def test_composed(self):
        self.assertGreater(self.fuzz(composed()), EXAMPLES / 20)

    def test_generated(self):
        self.assertGreater(self.fuzz(generated()), EXAMPLES / 20)

    def test_mangled(self):
        self.fuzz(mangled(composed()))

    def test_mangled_after_generated(self):
        self.fuzz(mangled(generated()))


class AnalysisTests(unittest.TestCase):
    """Whatever the text, there is an answer."""

    @fuzz
    @given(st.one_of(st.text(max_size=60), mangled(composed())), st.booleans())
    def test_it_never_raises(self, text, has_params):
        for vendor in DIALECTS:
            analyse(text, vendor, has_params=has_params)

    def test_each_text_is_parsed_once(self):
        from django_txtest.readonly import statements

        text = "SELECT 'parsed once'"
        statements._analyse.cache_clear()
        for _ in range(3):
            analyse(text, "postgresql", has_params=False)
        info = statements._analyse.cache_info()
        self.assertEqual((info.misses, info.hits), (1, 2))
        self.assertEqual(info.maxsize, statements.CACHE_SIZE)

    def test_lists_of_parameters_are_one_text(self):
        from django_txtest.readonly import statements

        statements._analyse.cache_clear()
        for rows in (500, 700, 900):
            values = ", ".join(["(%s, %s, %s)"] * rows)
            text = f"INSERT INTO t (a, b, c) VALUES {values}"
            effects = analyse(text, "postgresql", has_params=True)
            self.assertEqual(effects.tables, {"t"})
        self.assertEqual(statements._analyse.cache_info().misses, 1)

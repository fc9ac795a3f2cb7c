from __future__ import annotations

import importlib
import unittest

from django.db import DatabaseError, connection, transaction
from django.test import TestCase

from django_txtest import NoAtomicMixin, ReadOnlyViolation, allow_writes
from django_txtest.databases import get_database
from django_txtest.readonly.lexing import _reads_escapes
from tests.readonly.support import ReadOnlyTestCase, RefusalsMixin, at_level
from tests.vault.models import Account, Entry, Foreign

IS_POSTGRESQL = connection.vendor == "postgresql"

#: Each writes to the table of a read-only model.
WRITES = [
    "INSERT INTO vault_entry (text) VALUES ('x')",
    "UPDATE \"vault_entry\" SET text = 'x'",
    "DELETE FROM vault_entry WHERE text = 'first'",
    # odd case, blanks, comments
    "dElEtE\nfrom\n\tVAULT_ENTRY",
    "-- a comment\nDELETE FROM vault_entry",
    "/* SELECT */ DELETE /* */ FROM /* */ vault_entry",
    "/* ' */ DELETE FROM vault_entry -- '",
    "  ;DELETE FROM vault_entry",
    "DELETE\fFROM\fvault_entry",
    # a write behind what looks like a read
    "WITH x AS (SELECT 1) DELETE FROM vault_entry",
    "WITH x AS (SELECT 'x' AS text) INSERT INTO vault_entry (text) SELECT text FROM x",
    "INSERT INTO vault_entry (text) SELECT text FROM vault_foreign",
    "UPDATE vault_entry SET text = 'x' WHERE id IN (SELECT id FROM vault_entry)",
    "DELETE FROM vault_entry RETURNING id",
    "INSERT INTO vault_entry (id, text) VALUES (1, 'x') "
    "ON CONFLICT (id) DO UPDATE SET text = 'x'",
    # definitions
    "DROP TABLE vault_entry",
    "ALTER TABLE vault_entry ADD COLUMN more text",
    "CREATE INDEX vault_index ON vault_entry (text)",
    # the table of a many-to-many field
    "DELETE FROM vault_entry_tags",
]

POSTGRESQL_WRITES = [
    "WITH gone AS (DELETE FROM vault_entry RETURNING *) SELECT * FROM gone",
    "with gone as (\n  delete from vault_entry returning *\n) select 1",
    "WITH a AS (SELECT 1), b AS (UPDATE vault_entry SET text = 'x' RETURNING 1) "
    "SELECT * FROM a",
    "WITH n AS (INSERT INTO vault_entry (text) VALUES ('x') RETURNING id) SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM vault_entry",
    "EXPLAIN (ANALYZE, FORMAT JSON) DELETE FROM vault_entry",
    "explain analyze verbose\nupdate vault_entry set text = 'x'",
    "EXPLAIN ANALYZE WITH g AS (DELETE FROM vault_entry RETURNING 1) SELECT 1",
    "SELECT 1; DELETE FROM vault_entry",
    "SELECT ';'; DELETE FROM vault_entry; SELECT ''",
    "SELECT $$ ; $$; DELETE FROM vault_entry",
    "SELECT $x$ '; $$ $x$; DELETE FROM vault_entry",
    r"SELECT 'a\'; DELETE FROM vault_entry; --'",
    r"SELECT E'\\'; DELETE FROM vault_entry; --'",
    r"SELECT E'\''; DELETE FROM vault_entry; --'",
    "/* /* */ ' */ DELETE FROM vault_entry --'",
    "-- x\rDELETE FROM vault_entry",
    r'DELETE FROM U&"vault\005Fentry"',
    "DELETE FROM public.vault_entry",
    "DELETE FROM ONLY vault_entry",
    "DELETE FROM vault_entry * USING vault_foreign",
    "UPDATE vault_entry AS e SET text = f.text FROM vault_foreign f",
    "COPY vault_entry (text) FROM STDIN",
    "COPY (DELETE FROM vault_entry RETURNING id) TO STDOUT",
    "MERGE INTO vault_entry USING vault_foreign ON false "
    "WHEN NOT MATCHED THEN INSERT (text) VALUES ('x')",
    "TRUNCATE vault_entry CASCADE",
    "TRUNCATE TABLE vault_foreign, vault_entry CASCADE",
    "TRUNCATE vault_account CASCADE",
    "SELECT setval('vault_entry_id_seq', 1000)",
    "SELECT nextval('vault_entry_id_seq')",
    "SELECT setval(pg_get_serial_sequence('vault_entry', 'id'), 1000)",
    "PREPARE vault_plan AS DELETE FROM vault_entry",
    "DO $$ BEGIN DELETE FROM vault_entry; END $$",
    "DROP SCHEMA public CASCADE",
    "SELECT lo_create(0)",
]

#: What the sql level has to refuse without being sure, as the database alone knows.
POSTGRESQL_UNKNOWN = [
    "EXECUTE vault_plan",
    "CALL vault_procedure()",
    "SELECT vault_function()",
    "SELECT * FROM vault_function() AS f",
    'SELECT "vault_function"()',
    "SELECT public . vault_function /* */ ()",
    "CREATE TABLE vault_new AS SELECT vault_function()",
]

SQLITE_WRITES = [
    "REPLACE INTO vault_entry (id, text) VALUES (1, 'x')",
    "INSERT OR REPLACE INTO vault_entry (id, text) VALUES (1, 'x')",
    "UPDATE OR IGNORE [vault_entry] SET text = 'x'",
    "DELETE FROM `vault_entry`",
    "DELETE FROM main.vault_entry",
    "/* /* */ DELETE FROM vault_entry -- */",
    "-- x\r /* \n DELETE FROM vault_entry -- */",
]

#: Each is to go on working, at each level.
READS = [
    "SELECT 1",
    "select\n*\nfrom\nvault_entry",
    "-- a comment\nSELECT * FROM vault_entry",
    "/* DELETE FROM vault_entry */ SELECT 1",
    "SELECT 1 -- ; DELETE FROM vault_entry",
    "SELECT 'DELETE FROM vault_entry'",
    "SELECT '; DELETE FROM vault_entry; --'",
    'SELECT 1 AS "delete"',
    'SELECT 1 AS "it\'s; DELETE"',
    "WITH x AS (SELECT * FROM vault_entry) SELECT count(*) FROM x",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
    "SELECT * FROM n",
    "VALUES (1), (2)",
    "SELECT replace(text, 'a', 'b') FROM vault_entry",
    "SELECT e.id FROM vault_entry e JOIN vault_account a ON a.id = e.account_id "
    "WHERE a.name LIKE 'a%' ORDER BY e.id LIMIT 3 OFFSET 1",
    "SELECT count(*) FROM vault_entry GROUP BY text HAVING count(*) > 0",
    "SELECT text FROM vault_entry UNION SELECT name FROM vault_account",
]

POSTGRESQL_READS = [
    "(SELECT 1)",
    "TABLE vault_entry",
    "SHOW server_version",
    "SHOW transaction isolation level",
    "SET LOCAL statement_timeout = 0",
    "RESET statement_timeout",
    "EXPLAIN SELECT * FROM vault_entry",
    "EXPLAIN DELETE FROM vault_entry",
    "EXPLAIN (COSTS OFF) UPDATE vault_entry SET text = 'x'",
    "EXPLAIN ANALYZE SELECT * FROM vault_entry",
    r"SELECT E'\'; DELETE FROM vault_entry; --'",
    "SELECT $$; DELETE FROM vault_entry; $$",
    "/* /* */ DELETE FROM vault_entry */ SELECT 1",
    "SELECT '{\"a\": 1}'::jsonb ->> 'a', '[1]'::jsonb @> '1'",
    "SELECT now(), clock_timestamp(), random(), gen_random_uuid(), pg_backend_pid()",
    "SELECT pg_advisory_xact_lock(1), currval('vault_currval')",
    "SELECT vault_stable()",
    "SELECT a.i FROM generate_series(1, 3) AS a(i)",
    "SELECT id, row_number() OVER (PARTITION BY text ORDER BY id) FROM vault_entry",
    "SELECT (ARRAY[1, 2])[1], INTERVAL '1 day', DATE '2020-01-01', x'1F'",
    "LOCK TABLE vault_foreign IN ACCESS SHARE MODE",
    "NOTIFY vault_channel",
]

SQLITE_READS = [
    "EXPLAIN DELETE FROM vault_entry",
    "EXPLAIN QUERY PLAN SELECT * FROM vault_entry",
    "PRAGMA table_info(vault_entry)",
    "PRAGMA foreign_keys",
    r"SELECT * FROM vault_entry WHERE text LIKE 'x' ESCAPE '\'",
    "SELECT `text`, [text] FROM vault_entry -- \r\n",
]

#: What may be written to goes on being written to.
OTHER_WRITES = [
    "INSERT INTO vault_foreign (text) SELECT text FROM vault_entry",
    "UPDATE vault_foreign SET text = 'x' WHERE id IN (SELECT id FROM vault_entry)",
    "DELETE FROM vault_foreign WHERE text = 'vault_entry'",
    "CREATE TABLE vault_new (id int)",
]
POSTGRESQL_OTHER_WRITES = [
    "WITH n AS (INSERT INTO vault_foreign (text) VALUES ('x') RETURNING id) "
    "SELECT * FROM n",
    "SELECT setval('vault_foreign_id_seq', 1000)",
    "TRUNCATE vault_foreigntag",
    "EXPLAIN ANALYZE DELETE FROM vault_foreign",
    "REFRESH MATERIALIZED VIEW vault_seen",
]

FUNCTIONS = """
CREATE FUNCTION vault_function() RETURNS int LANGUAGE sql VOLATILE
    AS 'DELETE FROM vault_entry; SELECT 1';
CREATE PROCEDURE vault_procedure() LANGUAGE sql AS 'DELETE FROM vault_entry';
CREATE FUNCTION vault_stable() RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT count(*) FROM vault_entry';
CREATE SEQUENCE vault_currval;
SELECT nextval('vault_currval');
PREPARE vault_plan AS DELETE FROM vault_entry;
CREATE MATERIALIZED VIEW vault_seen AS SELECT 1 AS one;
CREATE VIEW vault_view AS SELECT * FROM vault_entry;
"""


def execute(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


@unittest.skipIf(connection.vendor == "mysql", "The levels are for other vendors.")
class SQLTestCase(ReadOnlyTestCase):
    @classmethod
    def setUpTestData(cls):
        super().setUpTestData()
        if IS_POSTGRESQL:
            execute(FUNCTIONS)

    def is_refused_by_database(self, sql):
        """Ask the database, which knows what a statement writes."""
        database = get_database(connection)
        try:
            with transaction.atomic(), database.refusing_writes():
                execute(sql)
                transaction.set_rollback(True)
        except DatabaseError as error:
            return database.is_refusal(error)
        return False


WRITES += POSTGRESQL_WRITES if IS_POSTGRESQL else SQLITE_WRITES
READS += POSTGRESQL_READS if IS_POSTGRESQL else SQLITE_READS
OTHER_WRITES += POSTGRESQL_OTHER_WRITES if IS_POSTGRESQL else []
#: The driver refuses it as such; what it takes is `copy`.
BY_DRIVER = ("COPY",)
#: SQLite has no such blank.
NO_SYNTAX = () if IS_POSTGRESQL else ("DELETE\f",)


class WritesTests(SQLTestCase):
    def test_refused_at_sql_and_db(self):
        for level in ("sql", "db"):
            for sql in WRITES + (POSTGRESQL_UNKNOWN if IS_POSTGRESQL else []):
                with (
                    self.subTest(sql, level=level),
                    at_level(level),
                    self.assertRefused(),
                ):
                    execute(sql)

    def test_not_seen_at_orm(self):
        """As documented: at that level, what is not the ORM's goes by."""
        for sql in (
            "DELETE FROM vault_entry_tags",
            "UPDATE vault_entry SET text = 'x'",
        ):
            with at_level("orm"), transaction.atomic():
                execute(sql)
                transaction.set_rollback(True)

    def test_they_are_writes(self):
        for sql in WRITES:
            if not sql.startswith((*BY_DRIVER, *NO_SYNTAX, "PREPARE")):
                with self.subTest(sql):
                    self.assertTrue(self.is_refused_by_database(sql))

    def test_allowed(self):
        for level in ("sql", "db"):
            with at_level(level), allow_writes(), transaction.atomic():
                execute("DELETE FROM vault_entry_tags")
                transaction.set_rollback(True)

    def test_the_model_is_named(self):
        with at_level("sql"), self.assertRefused("DELETE", Entry):
            execute("DELETE FROM vault_entry")
        with (
            at_level("sql"),
            self.assertRaisesMessage(
                ReadOnlyViolation,
                "vault.Entry is read-only on the database 'default', by "
                "VAULT_READONLY. Set VAULT_READONLY = False, or write within "
                "allow_writes(Entry).",
            ),
        ):
            execute("DELETE FROM vault_entry")

    def test_parameters(self):
        for sql, params in (
            ("DELETE FROM vault_entry WHERE text = %s", ["first"]),
            ("UPDATE vault_entry SET text = %s, account_id = %s", ["x", None]),
            ("INSERT INTO vault_entry (text) VALUES (%(text)s)", {"text": "x"}),
            ("DELETE FROM vault_entry WHERE text LIKE '100%%' OR text = %s", ["x"]),
            (
                "DELETE FROM vault_entry WHERE id IN (" + ", ".join(["%s"] * 900) + ")",
                list(range(900)),
            ),
        ):
            with self.subTest(sql[:60]), at_level("sql"), self.assertRefused():
                execute(sql, params)

    @unittest.skipUnless(IS_POSTGRESQL, "SQLite puts no parameter in a text.")
    def test_parameters_that_could_end_quotes(self):
        for sql in (
            "SELECT '%s'",
            "SELECT 1 /* %s */",
            'SELECT 1 AS "%s"',
            "SELECT $$ %s $$",
            "SELECT E'%s'",
        ):
            with self.subTest(sql), at_level("sql"), self.assertRefused():
                execute(sql, ["'; DELETE FROM vault_entry; --"])

    def test_executemany(self):
        for level in ("sql", "db"):
            with at_level(level), self.assertRefused(), connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO vault_entry (text) VALUES (%s)", [["a"], ["b"]]
                )

    def test_raw_of_the_orm(self):
        for level in ("sql", "db"):
            with at_level(level), self.assertRefused():
                list(Entry.objects.raw("DELETE FROM vault_entry RETURNING id"))

    def test_server_side_cursors(self):
        for level in ("sql", "db"):
            with (
                at_level(level),
                self.assertRefused(),
                connection.chunked_cursor() as cursor,
            ):
                cursor.execute("DELETE FROM vault_entry RETURNING id")

    @unittest.skipUnless(IS_POSTGRESQL, "Of psycopg.")
    def test_composed_statements(self):
        driver = importlib.import_module(connection.Database.__name__).sql
        composed = driver.SQL("DELETE FROM {}").format(driver.Identifier("vault_entry"))
        with at_level("sql"), self.assertRefused():
            execute(composed)
        with at_level("sql"), self.assertRefused():
            execute(driver.SQL("DELETE FROM vault_entry"))


class ReadsTests(SQLTestCase):
    def test_at_each_level(self):
        for level in ("orm", "sql", "db"):
            for sql in READS:
                with (
                    self.subTest(sql, level=level),
                    at_level(level),
                    transaction.atomic(),
                ):
                    if r"E'\';" in sql and not _reads_escapes():
                        continue  # an older sqlglot: refused, to be safe
                    execute(sql)

    def test_one_after_another(self):
        statements = ["SAVEPOINT vault_savepoint", "RELEASE SAVEPOINT vault_savepoint"]
        if IS_POSTGRESQL:
            statements += [
                "DECLARE vault_cursor CURSOR FOR SELECT * FROM vault_entry",
                "FETCH 1 FROM vault_cursor",
                "CLOSE vault_cursor",
            ]
        for level in ("orm", "sql", "db"):
            with self.subTest(level), at_level(level), transaction.atomic():
                for sql in statements:
                    execute(sql)

    def test_writes_to_others(self):
        for level in ("orm", "sql", "db"):
            for sql in OTHER_WRITES:
                with (
                    self.subTest(sql, level=level),
                    at_level(level),
                    transaction.atomic(),
                ):
                    execute(sql)
                    transaction.set_rollback(True)

    def test_the_orm_reads(self):
        for level in ("orm", "sql", "db"):
            with self.subTest(level), at_level(level):
                self.assertEqual(Entry.objects.get(text="first"), self.entry)
                found, created = Entry.objects.get_or_create(text="first")
                self.assertEqual((found, created), (self.entry, False))
                self.assertTrue(Entry.objects.filter(text__contains="rst").exists())
                self.assertIn(self.entry, Entry.objects.iterator(chunk_size=1))
                self.assertIn("first", Entry.objects.values_list("text", flat=True))
                self.assertEqual(list(self.entry.tags.all()), [self.tag])
                self.assertEqual(self.account.entries.count(), 1)
                Entry.objects.prefetch_related("tags").in_bulk()
                Entry.objects.select_related("account").explain()
                self.entry.refresh_from_db()
                Entry.objects.raw("SELECT * FROM vault_entry WHERE id = %s", [1])

    def test_the_orm_writes_to_others(self):
        for level in ("orm", "sql", "db"):
            with self.subTest(level), at_level(level):
                foreign = Foreign.objects.create(text="x")
                Foreign.objects.bulk_create(Foreign(text=str(n)) for n in range(1500))
                Foreign.objects.filter(text="x").update(text="y")
                Account.objects.filter(name="nobody").delete()  # it has no entries
                foreign.delete()
                Foreign.objects.select_for_update().first()

    def test_locks(self):
        for level, is_allowed in (("orm", True), ("sql", True), ("db", True)):
            with self.subTest(level), at_level(level), transaction.atomic():
                self.assertTrue(is_allowed)
                Entry.objects.select_for_update().first()


class DatabaseLevelTests(SQLTestCase):
    """What only the database knows: what a function, a view or a lock comes to."""

    def test_a_function_that_lies(self):
        if not IS_POSTGRESQL:
            self.skipTest("SQLite has no functions that write.")
        execute(
            "CREATE FUNCTION vault_liar() RETURNS int LANGUAGE sql STABLE "
            "AS 'SELECT vault_function()'"
        )
        with at_level("sql"), transaction.atomic():
            execute("SELECT vault_liar()")  # as documented
            transaction.set_rollback(True)
        with at_level("db"), self.assertRefused():
            execute("SELECT vault_liar()")

    def test_a_whole_database(self):
        """Tables without a model, views and locks are refused too."""
        with at_level("db", databases=["default"]):
            with self.assertRefused():
                execute("DELETE FROM django_migrations")
            with self.assertRefused():
                Account.objects.update(name="x")
            with self.assertRefused():
                execute("CREATE TABLE vault_new (id int)")
            if IS_POSTGRESQL:
                with self.assertRefused():
                    execute("DELETE FROM vault_view")
                with self.assertRefused():
                    Account.objects.select_for_update().first()
            self.assertEqual(Account.objects.count(), 4)


@unittest.skipIf(connection.vendor == "mysql", "The levels are for other vendors.")
class AutocommitTests(RefusalsMixin, NoAtomicMixin, TestCase):
    """Without a transaction around, and with one of the user's."""

    def test_refused(self):
        for level in ("orm", "sql", "db"):
            with self.subTest(level), at_level(level):
                with self.assertRaises(ReadOnlyViolation):
                    Entry.objects.update(text="x")
                if level != "orm":
                    with self.assertRaises(ReadOnlyViolation):
                        execute("DELETE FROM vault_entry")
                self.assertEqual(Entry.objects.filter(text="first").count(), 1)
                self.assertTrue(connection.get_autocommit())
                self.assertFalse(get_database(connection).has_transaction())

    def test_written(self):
        for level in ("orm", "sql", "db"):
            with self.subTest(level), at_level(level):
                Foreign.objects.create(text=level)
                with transaction.atomic():
                    list(Entry.objects.iterator(chunk_size=1))
                    Foreign.objects.create(text=level)
                list(Entry.objects.iterator(chunk_size=1))
                with allow_writes(Entry):
                    Entry.objects.filter(text="first").update(text="first")
                self.assertEqual(Foreign.objects.filter(text=level).count(), 2)

    def test_an_error_is_the_databases_own(self):
        with at_level("db"):
            with self.assertRaises(DatabaseError):
                execute("SELECT no_such_column FROM vault_entry")
            self.assertEqual(Entry.objects.filter(text="first").count(), 1)
            with self.assertRaises(DatabaseError), transaction.atomic():
                execute("SELECT no_such_column FROM vault_entry")
            self.assertEqual(Entry.objects.filter(text="first").count(), 1)

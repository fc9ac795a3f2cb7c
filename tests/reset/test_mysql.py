from __future__ import annotations

import threading
import unittest
from contextlib import contextmanager

from django.db import DatabaseError, connection, connections
from django.test import override_settings

from django_txtest.databases import get_database
from django_txtest.exceptions import LeftoverSession, SchemaChanged
from django_txtest.reset import Layers, Leftovers
from django_txtest.reset.baselines import get_baseline
from django_txtest.reset.rewriting import RewritingBaseline
from tests.library.models import Genre, Loan, Reader


def execute(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def rows(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


class ResetTests(unittest.TestCase):
    """What is different on MariaDB and MySQL, for tables that a class made."""

    databases = ("default",)

    def setUp(self):
        if connections["default"].vendor != "mysql":
            self.skipTest("about MariaDB; this run is on another database")
        leftovers = Leftovers()
        leftovers.watch()
        self.addCleanup(leftovers.close_all)
        self.layers = Layers(["default"], leftovers)
        self.layers.begin_class()
        self.addCleanup(self.layers.end_class)

    @contextmanager
    def a_test(self, *statements):
        """Begin with what the statements make; put it back after the block."""
        execute(*statements)
        self.layers.begin_test()
        yield
        self.layers.end_test()

    def test_rows_that_foreign_keys_change(self):
        rules = {
            "a": "ON DELETE CASCADE",
            "b": "ON DELETE SET NULL",
            "c": "ON UPDATE CASCADE",
        }
        tables = ["CREATE TABLE t_parent (id int PRIMARY KEY)"]
        for name, rule in rules.items():
            tables += [
                f"CREATE TABLE t_{name} (id int PRIMARY KEY, parent int, "
                f"FOREIGN KEY (parent) REFERENCES t_parent (id) {rule})",
                f"CREATE TABLE t_{name}_child (id int PRIMARY KEY, parent int, "
                f"FOREIGN KEY (parent) REFERENCES t_{name} (id) ON DELETE CASCADE)",
            ]
        data = ["INSERT INTO t_parent VALUES (1), (2)"]
        for parent, name in enumerate(("a", "b"), 1):
            data.append(f"INSERT INTO t_{name} VALUES (1, {parent})")
            data.append(f"INSERT INTO t_{name}_child VALUES (1, 1)")
        data += ["INSERT INTO t_parent VALUES (3)", "INSERT INTO t_c VALUES (1, 3)"]
        with self.a_test(*tables, *data):
            execute(
                "DELETE FROM t_parent WHERE id IN (1, 2)",
                "UPDATE t_parent SET id = 30 WHERE id = 3",
            )
            self.assertEqual(rows("SELECT * FROM t_a_child"), [])
            self.assertEqual(rows("SELECT parent FROM t_b"), [(None,)])
            self.assertEqual(rows("SELECT parent FROM t_c"), [(30,)])
        self.assertEqual(rows("SELECT * FROM t_parent"), [(1,), (2,), (3,)])
        self.assertEqual(rows("SELECT * FROM t_a"), [(1, 1)])
        self.assertEqual(rows("SELECT * FROM t_a_child"), [(1, 1)])
        self.assertEqual(rows("SELECT * FROM t_b"), [(1, 2)])
        self.assertEqual(rows("SELECT * FROM t_c"), [(1, 3)])

    def test_truncate(self):
        for how in (
            "TRUNCATE TABLE library_loan",
            "CALL empty_loans()",
            "EXECUTE empty_loans",
        ):
            with self.subTest(how):
                Loan.objects.get_or_create(pk=1, reader="Ann")
                with self.a_test():
                    execute(
                        "CREATE OR REPLACE PROCEDURE empty_loans() "
                        "TRUNCATE TABLE library_loan",
                        "PREPARE empty_loans FROM 'TRUNCATE TABLE library_loan'",
                        how,
                        "DROP PROCEDURE empty_loans",
                    )
                    self.assertFalse(Loan.objects.exists())
                self.assertEqual(Loan.objects.get().reader, "Ann")

    @contextmanager
    def a_test_that_leaves(self):
        """Yield a cursor; what it does in the block is in the way of the reset."""
        other = connection.copy()
        self.addCleanup(other.close)
        other.set_autocommit(False)
        with (
            override_settings(TXTEST_LOCK_TIMEOUT=0.3),
            self.assertRaisesRegex(LeftoverSession, r"pid \d+ \(root@"),
            self.a_test(),
            other.cursor() as cursor,
        ):
            yield cursor

    def test_a_session_that_has_written_and_not_committed(self):
        """Its rows cannot be seen, only its lock on what tells of them."""
        with self.a_test_that_leaves() as cursor:
            cursor.execute("INSERT INTO library_genre (name) VALUES ('Essay')")
            cursor.execute("COMMIT")
            # The table is marked already.
            cursor.execute("INSERT INTO library_genre (name) VALUES ('Diary')")
        self.assertEqual(Genre.objects.count(), 3)

    def test_a_lock_without_a_write(self):
        with self.a_test_that_leaves() as cursor:
            Genre.objects.create(name="Essay")
            cursor.execute("SELECT * FROM library_genre FOR UPDATE")
        self.assertEqual(Genre.objects.count(), 3)

    def test_a_table_that_somebody_still_reads(self):
        """To drop the table that the test made needs a lock on what it is."""
        with self.a_test_that_leaves() as cursor:
            execute("CREATE TABLE t_new (id int)", "INSERT INTO t_new VALUES (1)")
            cursor.execute("SELECT * FROM t_new")
        with self.assertRaisesRegex(DatabaseError, "t_new"):
            execute("SELECT * FROM t_new")

    def test_a_writer_that_commits_in_time_is_waited_for(self):
        other = connection.copy()
        self.addCleanup(other.close)
        other.inc_thread_sharing()
        with self.a_test():
            other.set_autocommit(False)
            with other.cursor() as cursor:
                cursor.execute("INSERT INTO library_genre (name) VALUES ('Essay')")
            timer = threading.Timer(0.5, other.commit)
            timer.start()
        timer.join()
        self.assertEqual(Genre.objects.count(), 3)

    def test_values_that_are_easily_lost(self):
        select = (
            "SELECT id, HEX(b), f + 0e0, CAST(d AS CHAR), CAST(t AS CHAR), n, g, "
            "CAST(ts AS CHAR), HEX(e), HEX(bits), `odd, name` FROM t_values ORDER BY id"
        )
        with self.a_test(
            "CREATE TABLE t_values (id int AUTO_INCREMENT PRIMARY KEY, b blob, "
            "f float, d date NOT NULL, t datetime(6), n decimal(30, 10), "
            "g int GENERATED ALWAYS AS (LENGTH(b)) STORED, ts timestamp(3) NULL, "
            "e enum('x', 'y'), bits bit(9), "
            "`odd, name` varchar(9) COLLATE utf8mb4_bin)",
            "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
            "INSERT INTO t_values (id, b, f, d, t, n, ts, e, bits, `odd, name`) VALUES "
            "(0, x'00FF27', 0.1, '0000-00-00', '2024-01-02 03:04:05.678901', "
            "'12345678901234567890.0123456789', '2024-10-27 01:30:00.123', 'no', "
            "b'100000001', '\U0001f600'), "
            "(7, NULL, 16777216e10, '2024-02-30', NULL, NULL, NULL, 'y', NULL, '')",
            "SET sql_mode = DEFAULT",
        ):
            before = rows(select)
            self.assertEqual([row[0] for row in before], [0, 7])
            self.assertEqual(before[0][3], "0000-00-00")
            execute("DELETE FROM t_values")
        self.assertEqual(rows(select), before)

    def test_a_table_without_transactions(self):
        with self.a_test(
            "CREATE TABLE t_plain (id int) ENGINE=MyISAM",
            "INSERT INTO t_plain VALUES (1)",
        ):
            execute("BEGIN", "INSERT INTO t_plain VALUES (2)", "ROLLBACK")
            self.assertEqual(rows("SELECT * FROM t_plain"), [(1,), (2,)])
        self.assertEqual(rows("SELECT * FROM t_plain"), [(1,)])

    def test_triggers_of_the_user(self):
        triggers = "SHOW TRIGGERS WHERE `Table` = 't_watched' AND `Trigger` LIKE 't~_%'"
        with self.a_test(
            "CREATE TABLE t_watched (id int PRIMARY KEY)",
            "CREATE TABLE t_log (id int)",
            "CREATE TRIGGER t_1 BEFORE INSERT ON t_watched "
            "FOR EACH ROW SET NEW.id = NEW.id + 1",
            "CREATE TRIGGER t_2 AFTER INSERT ON t_watched "
            "FOR EACH ROW INSERT INTO t_log VALUES (NEW.id)",
            "SET sql_mode = 'ANSI_QUOTES'",
            'CREATE TRIGGER t_3 AFTER DELETE ON "t_watched" '
            'FOR EACH ROW INSERT INTO "t_log" VALUES (-OLD.id)',
            "SET sql_mode = DEFAULT",
            "INSERT INTO t_watched VALUES (1), (5)",
        ):
            before = [row[:5] for row in rows(triggers.replace("~", "\\\\"))]
            self.assertEqual(len(before), 3)
            execute("DELETE FROM t_watched WHERE id = 2")
        self.assertEqual(rows("SELECT * FROM t_watched"), [(2,), (6,)])
        self.assertEqual(rows("SELECT * FROM t_log"), [(2,), (6,)])
        after = [row[:5] for row in rows(triggers.replace("~", "\\\\"))]
        self.assertEqual(after, before)

    def test_a_procedure_that_writes_rolls_back_and_writes(self):
        """The mark of the first write is gone; the second needs one of its own."""
        execute(
            "CREATE OR REPLACE PROCEDURE write_twice() BEGIN START TRANSACTION; "
            "INSERT INTO library_loan VALUES (1, 'Ann'); ROLLBACK; "
            "INSERT INTO library_loan VALUES (2, 'Bob'); END"
        )
        self.addCleanup(execute, "DROP PROCEDURE write_twice")
        with self.a_test():
            execute("CALL write_twice()")
            self.assertEqual(Loan.objects.count(), 1)
        self.assertFalse(Loan.objects.exists())

    def test_many_rows_leave_few_marks(self):
        with self.a_test():
            Reader.objects.bulk_create(Reader(name=str(n)) for n in range(500))
            self.assertEqual(rows("SELECT count(*) FROM txtest_dirty"), [(1,)])

    def test_a_session_that_the_test_spoils(self):
        # As if it were another test database.
        execute(
            "CREATE DATABASE txtest_elsewhere",
            "CREATE TABLE txtest_elsewhere.txtest_dirty (id int)",
        )
        self.addCleanup(execute, "DROP DATABASE txtest_elsewhere")
        for statement in (
            "LOCK TABLES library_genre READ",
            "SET SESSION TRANSACTION READ ONLY",
            "SET sql_mode = 'ANSI_QUOTES'",
            "SET SESSION max_statement_time = 0.000001",
            "USE information_schema",
            "USE txtest_elsewhere",
        ):
            with self.subTest(statement):
                with self.a_test():
                    Genre.objects.create(name="Essay")
                    execute(statement)
                connection.close()
                self.assertEqual(Genre.objects.count(), 3)

    def test_a_changed_schema(self):
        with (
            self.assertRaisesRegex(SchemaChanged, "altered `library_loan`"),
            self.a_test(),
        ):
            execute("ALTER TABLE library_loan ADD COLUMN more int")
        execute("ALTER TABLE library_loan DROP COLUMN more")


class PrivilegeTests(unittest.TestCase):
    databases = ("default",)

    def test_an_account_that_may_not_make_triggers(self):
        if connections["default"].vendor != "mysql":
            self.skipTest("about MariaDB; this run is on another database")
        execute(
            "CREATE DATABASE test_plain",
            "CREATE USER plain@localhost",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON test_plain.* "
            "TO plain@localhost",
        )
        self.addCleanup(
            execute, "DROP DATABASE test_plain", "DROP USER plain@localhost"
        )
        with get_database(connection).second_connection() as other:
            settings = {**other.connection.settings_dict, "USER": "plain"}
            other.connection.settings_dict = {**settings, "NAME": "test_plain"}
            other._execute("CREATE TABLE t (id int)")
            self.assertFalse(other.may_install())
            self.assertFalse(other.has_table("txtest_probe"))
            self.assertIsInstance(get_baseline(other), RewritingBaseline)
            self.assertEqual(other.lock_holders(), [])
            self.assertIsNone(other.waiting_pids([1]))

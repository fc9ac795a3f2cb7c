from __future__ import annotations

import unittest
from dataclasses import replace

from django_txtest.history import Event, Kind
from django_txtest.scheduler.dependency import Dependency
from django_txtest.scheduler.effects import Effects
from django_txtest.scheduler.transactions import Explored
from tests.scheduler.test_statements import catalogue

READ = "SELECT copies FROM book WHERE id = 1"
READ_OTHER = "SELECT copies FROM book WHERE id = 2"
READ_NAME = "SELECT name FROM book WHERE id = 1"
READ_ALL = "SELECT id FROM book WHERE copies > 1"
WRITE = "UPDATE book SET copies = 5 WHERE id = 1"
WRITE_OPEN = "UPDATE book SET copies = 5 WHERE id = 1 AND available"
WRITE_OTHER = "UPDATE book SET copies = 5 WHERE id = 2"
COUNT = "SELECT COUNT(*) FROM book WHERE available"
LOCK = "SELECT copies FROM book WHERE id = 1 FOR UPDATE"
DELETE = "DELETE FROM book WHERE id = 1"
INSERT = "INSERT INTO book (name) VALUES ('x')"
INSERT_SAME = "INSERT INTO book (name, copies) VALUES ('x', 7)"
INSERT_OTHER = "INSERT INTO book (name) VALUES ('y')"
LEND = "INSERT INTO loan (id, book_id) VALUES (1, 1)"
AUDIT = "INSERT INTO audited (id) VALUES (1)"


class DependencyTestCase(unittest.TestCase):
    """What `one` does is the last of its steps, and so for `other`."""

    level = "READ COMMITTED"
    vendor = "postgresql"

    def setUp(self):
        of_vendor = replace(catalogue(), vendor=self.vendor)
        self.depend = Dependency({"main": of_vendor})
        self.explored = {"default": Explored("main", of_vendor, self.level)}

    def effect(self, name, *steps):
        """Return the effect of the last step; in a transaction, if there is an end."""
        effects = Effects(self.explored)
        is_inside = steps[-1] in ("COMMIT", "ROLLBACK", "...") or len(steps) > 1
        for step in steps:
            if step == "...":
                break
            if step in ("COMMIT", "ROLLBACK"):
                event = Event(name, Kind[step])
            else:
                event = Event(name, Kind.STATEMENT, sql=step, in_transaction=is_inside)
            effect, _ = effects.of_step([event])
        return effect

    def depends(self, one, other):
        mine, its = self.effect("s1", *one), self.effect("s2", *other)
        found = self.depend(mine, its)
        self.assertEqual(found, self.depend(its, mine))
        return found

    def assertDepend(self, one, other):
        self.assertTrue(self.depends(one, other), f"{one} and {other}")

    def assertIndependent(self, one, other):
        self.assertFalse(self.depends(one, other), f"{one} and {other}")


class ReadCommittedTests(DependencyTestCase):
    def test_a_read_sees_what_is_committed(self):
        self.assertIndependent([READ], [WRITE, "..."])
        self.assertDepend([READ], [WRITE, "COMMIT"])
        self.assertIndependent([READ], [WRITE, "ROLLBACK"])
        self.assertDepend([READ], [WRITE])
        self.assertIndependent([READ], [READ])
        self.assertDepend([WRITE, READ], [WRITE, "COMMIT"])

    def test_a_lock_that_it_has_already(self):
        for steps in ([LOCK, WRITE], [LOCK, LOCK], [WRITE, WRITE], [WRITE, WRITE_OPEN]):
            self.assertIndependent([*steps, "..."], [LOCK, "..."])
            self.assertIndependent([*steps, "..."], [WRITE, "..."])
            self.assertDepend([*steps, "COMMIT"], [WRITE, "..."])
        for steps in (
            [LOCK.replace("UPDATE", "SHARE"), WRITE],
            [f"{LOCK} SKIP LOCKED", WRITE],
            [LOCK.replace("1 F", "1 LIMIT 0 F"), WRITE],
            [LOCK.replace("1 F", "1 OFFSET 1 F"), WRITE],
            [LOCK.replace("1 F", "1 AND copies > 1 F"), WRITE],
            [LOCK.replace("1 F", "1 AND available F"), WRITE],
            [LOCK.replace("1 F", "1 AND copies = 1.5 F"), WRITE],
            [WRITE_OPEN, WRITE],
            [WRITE_OTHER, WRITE],
            ["UPDATE book SET copies = 5 WHERE name = 'x'", WRITE],
            ["SAVEPOINT x", LOCK, "ROLLBACK TO SAVEPOINT x", WRITE],
            # Where there was no row, there may be one now.
            [INSERT, LOCK, WRITE],
            ["UPDATE book SET id = 1 WHERE id = 3", LOCK, WRITE],
            ["LOCK TABLE loan", LOCK, WRITE],
        ):
            self.assertDepend([*steps, "..."], [LOCK, "..."])

    def test_a_lock_that_is_about_more_than_the_row(self):
        rename = "UPDATE book SET name = 'x' WHERE id = 1"
        self.assertDepend([LOCK, rename, "..."], [INSERT, "..."])
        self.assertDepend([LOCK, DELETE, "..."], [INSERT, "..."])
        self.assertDepend([LOCK, f"{LOCK} NOWAIT", "..."], [LOCK, "..."])
        # Of a deadlock at the COMMIT it decides who is the victim.
        self.assertDepend([LOCK, LEND, LOCK, "..."], [LOCK, "..."])

    def test_where_it_turns_out_that_rows_are_made(self):
        effects = Effects(self.explored)

        def made(name, sql):
            event = Event(name, Kind.STATEMENT, sql=sql, in_transaction=True)
            return effects.of_step([event])[0]

        for is_known in (False, True):
            made("s1", LOCK)
            written, locked = made("s1", WRITE), made("s2", LOCK)
            self.assertEqual(self.depend(written, locked), is_known)
            made("s2", INSERT)
            self.assertEqual(effects.was_wrong, not is_known)
            effects.begin()
            self.assertFalse(effects.was_wrong)

    def test_rows_and_columns(self):
        self.assertIndependent([READ_OTHER], [WRITE])
        self.assertIndependent([READ_NAME], [WRITE])
        self.assertDepend([READ_ALL], [WRITE])
        self.assertDepend([READ_ALL], [INSERT])
        self.assertIndependent([READ], [INSERT])  # no new row has that key
        self.assertDepend([READ], [DELETE])
        self.assertIndependent(["SELECT 1 FROM book WHERE name = 'z'"], [INSERT])

    def test_locks_of_rows(self):
        for one in (WRITE, LOCK, DELETE):
            for other in (WRITE, LOCK, DELETE):
                self.assertDepend([one, "..."], [other, "..."])
                self.assertDepend([one, "..."], [other, "ROLLBACK"])
            self.assertIndependent([one, "..."], [WRITE_OTHER, "..."])
        share = LOCK.replace("UPDATE", "SHARE")
        weak = LOCK.replace("UPDATE", "KEY SHARE")
        self.assertIndependent([share, "..."], [share, "COMMIT"])
        self.assertDepend([share, "..."], [WRITE, "..."])
        self.assertIndependent([weak, "..."], [WRITE, "..."])
        self.assertDepend([f"{LOCK} SKIP LOCKED", "..."], [WRITE, "..."])

    def test_a_row_that_becomes_one_that_another_looks_for(self):
        rename = "UPDATE book SET name = 'y' WHERE name = 'x'"
        look = "UPDATE book SET copies = 1 WHERE name = 'y'"
        self.assertDepend([look], [rename])
        self.assertIndependent([look.replace("'y'", "'z'")], [rename])

    def test_unique_keys(self):
        self.assertDepend([INSERT, "..."], [INSERT_SAME, "..."])
        self.assertIndependent([INSERT, "..."], [INSERT_OTHER, "..."])
        self.assertDepend([INSERT], ["DELETE FROM book WHERE name = 'x'", "..."])
        self.assertDepend([INSERT], ["UPDATE book SET name = 'x' WHERE id = 2", "..."])
        # It may be that row 1 has the name, and then it waits for who changes it.
        self.assertDepend([INSERT], [WRITE, "..."])
        self.assertIndependent([INSERT], [LOCK, "..."])

    def test_foreign_keys(self):
        self.assertIndependent([LEND, "..."], [DELETE, "..."])  # until the commit
        self.assertDepend([LEND, "COMMIT"], [DELETE, "..."])
        self.assertDepend([LEND, "COMMIT"], [LOCK, "..."])
        self.assertIndependent([LEND, "COMMIT"], [WRITE, "..."])
        self.assertDepend([LEND], [DELETE])
        self.assertDepend([LEND], ["INSERT INTO book (id) VALUES (1)", "COMMIT"])

    def test_advisory_locks(self):
        lock = "SELECT pg_advisory_xact_lock(1)"
        self.assertDepend([lock, "..."], [lock, "..."])
        self.assertDepend([lock, "..."], [lock, "COMMIT"])
        self.assertIndependent([lock, "..."], [lock.replace("1", "2"), "..."])

    def test_what_is_not_understood(self):
        self.assertDepend([AUDIT], [READ])
        self.assertDepend([AUDIT, "COMMIT"], [READ])
        self.assertIndependent([AUDIT], ["SAVEPOINT x", "..."])

    def test_checkpoints(self):
        effects = Effects(self.explored)
        one, _ = effects.of_step([Event("s1", Kind.CHECKPOINT, text="x")])
        other, _ = effects.of_step([Event("s2", Kind.CHECKPOINT, text="y")])
        self.assertTrue(self.depend(one, other))
        self.assertFalse(self.depend(one, self.effect("s2", AUDIT)))

    def test_errors_give_locks_free(self):
        effects = Effects(self.explored)
        effects.of_step([Event("s1", Kind.STATEMENT, sql=WRITE, in_transaction=True)])
        error = Event("s1", Kind.STATEMENT, sql=INSERT, in_transaction=True)
        failed, _ = effects.of_step([error, Event("s1", Kind.ERROR)])
        self.assertTrue(self.depend(failed, self.effect("s2", WRITE)))
        self.assertFalse(self.depend(failed, self.effect("s2", READ)))

    def test_who_goes_on_takes_part(self):
        effects = Effects(self.explored)
        write = Event("s1", Kind.STATEMENT, sql=WRITE, in_transaction=True)
        effects.of_step([write])
        wait = [
            Event("s2", Kind.STATEMENT, sql=WRITE),
            Event("s2", Kind.WAITS, others=("s1",)),
        ]
        issued, sessions = effects.of_step(wait)
        self.assertEqual(sessions, {"s2"})
        read = self.effect("s3", READ)
        self.assertFalse(self.depend(issued, read))
        end, sessions = effects.of_step(
            [Event("s1", Kind.ROLLBACK), Event("s2", Kind.GOES_ON)]
        )
        self.assertEqual(sessions, {"s1", "s2"})
        self.assertTrue(self.depend(end, read))

    def test_locks_that_last_until_the_end(self):
        effects = Effects(self.explored)
        lock = "SELECT pg_advisory_lock(1)"
        effects.of_step([Event("s1", Kind.STATEMENT, sql=lock)])
        end, _ = effects.of_step(
            [Event("s1", Kind.STATEMENT, sql=READ), Event("s1", Kind.RETURNS)]
        )
        self.assertTrue(self.depend(end, self.effect("s2", lock)))

    def test_an_isolation_level_that_a_statement_sets(self):
        change = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        self.assertDepend([change, READ_OTHER], [WRITE])


class SnapshotTests(DependencyTestCase):
    level = "REPEATABLE READ"

    def test_the_first_statement_takes_all(self):
        self.assertDepend([READ_OTHER, "..."], [WRITE, "COMMIT"])
        self.assertIndependent([READ_OTHER, READ], [WRITE, "COMMIT"])
        self.assertIndependent([READ_OTHER, "..."], [WRITE, "..."])
        self.assertDepend(["SELECT 1", "..."], [WRITE])
        self.assertIndependent(["SAVEPOINT x", "..."], [WRITE])
        self.assertIndependent([READ_OTHER], [WRITE])  # nothing comes after it

    def test_writes(self):
        self.assertDepend([READ_OTHER, WRITE], [WRITE, "COMMIT"])
        self.assertDepend([READ_OTHER, WRITE], [WRITE, "..."])

    def test_foreign_keys_are_checked_on_what_is_there_now(self):
        self.assertDepend([READ_OTHER, LEND, "COMMIT"], [DELETE, "COMMIT"])


class SerializableTests(SnapshotTests):
    level = "SERIALIZABLE"

    def test_the_first_statement_takes_all(self):
        self.assertDepend([READ_OTHER, "..."], [WRITE, "COMMIT"])

    def test_what_is_read_is_watched(self):
        self.assertDepend([READ_OTHER, READ], [READ, WRITE])
        self.assertIndependent([READ_OTHER, READ], [READ, READ])
        self.assertDepend([READ_OTHER, READ], [LEND, "COMMIT"])

    def test_who_reads_all_meets_all_that_others_write(self):
        self.assertIndependent([COUNT, "..."], [INSERT, "..."])
        self.assertIndependent([COUNT, "..."], [COUNT, WRITE, "..."])
        self.assertIndependent([COUNT, WRITE, "..."], [COUNT, WRITE_OTHER, "..."])
        self.assertDepend([COUNT, WRITE, "..."], [COUNT, WRITE, "..."])
        self.assertDepend([COUNT, "..."], [WRITE, "COMMIT"])
        self.assertDepend([COUNT, "COMMIT"], [COUNT, "COMMIT"])
        # An index leads to a row, and only who writes later sees who read there.
        self.assertDepend([READ, "..."], [INSERT, "..."])
        self.assertIndependent([COUNT, DELETE, "..."], [COUNT, WRITE_OTHER, "..."])
        for step in (WRITE, DELETE, LOCK):
            self.assertDepend([COUNT, WRITE_OTHER, "..."], [step, "..."])
            self.assertDepend([step, "..."], [INSERT, "..."])

    def test_after_an_end_it_makes_a_difference_who_was_first(self):
        effects = Effects(self.explored)

        def made(name, sql):
            event = Event(name, Kind.STATEMENT, sql=sql, in_transaction=True)
            return effects.of_step([event])[0]

        early = [made("s1", COUNT), made("s2", COUNT)]
        self.assertFalse(self.depend(early[0], made("s2", INSERT)))
        made("s3", COUNT)
        effects.of_step([Event("s3", Kind.COMMIT)])
        late = [made("s1", COUNT), made("s2", INSERT)]
        self.assertTrue(self.depend(*late))
        self.assertTrue(self.depend(made("s1", WRITE), made("s2", WRITE_OTHER)))
        new = made("s3", COUNT)
        self.assertTrue(self.depend(new, late[1]))
        self.assertFalse(self.depend(new, made("s4", INSERT)))


class SQLiteTests(DependencyTestCase):
    vendor = "sqlite"
    level = "SERIALIZABLE"

    def test_the_file_is_one_lock(self):
        self.assertIndependent([READ], [READ, "COMMIT"])
        self.assertIndependent([READ, "..."], [WRITE, "..."])
        self.assertDepend([READ, "..."], [WRITE, "COMMIT"])
        self.assertDepend([READ_OTHER], [WRITE])
        self.assertDepend([LEND, "..."], [WRITE, "..."])
        self.assertDepend([READ, "COMMIT"], [WRITE, "COMMIT"])
        self.assertDepend(["BEGIN IMMEDIATE"], [WRITE])
        self.assertIndependent(["BEGIN"], [WRITE])

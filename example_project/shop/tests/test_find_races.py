"""``manage.py find_races``, run as on the command line."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import SimpleTestCase

from shop.races import RACES


def find_races(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, settings.BASE_DIR / "manage.py", "find_races", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | env,
    )


class FindRacesTests(SimpleTestCase):
    def test_all(self):
        done = find_races("--batches=5")

        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{len(RACES)} of {len(RACES)} fixed ones held.", done.stdout)
        self.assertNotIn("\033", done.stdout)

    def test_calls_one_after_another_show_nothing(self):
        done = find_races("coupon", "--batches=1", "--using=inline")

        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("Not as it should be: racy coupon.", done.stdout)

    def test_leaves_the_database_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            database = Path(folder, "shop.sqlite3")
            done = find_races(
                "coupon", "--batches=5", DATABASE_URL=f"sqlite:///{database}"
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertFalse(database.exists())

    def test_unknown_race(self):
        with self.assertRaisesMessage(CommandError, "No such race: horse. There are"):
            call_command("find_races", "coupon", "horse")

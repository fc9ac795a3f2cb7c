"""Download the tests of the Django that is installed, and run some with the mixin.

Ends with 1 if a test fails that compatibility/known.py does not name, or if one passes
that it does name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from bootstrap import ROOT, ensure_environment

FOLDER = Path(ROOT, ".nox", "compatibility")
MODES = ("plain", "transaction", "all")
MODULES = (
    # What the mixin is measured by.
    "transactions",
    "select_for_update",
    "transaction_hooks",
    "fixtures",
    # Others that have to do with writes, queries and the test classes themselves.
    "backends",
    "bulk_create",
    "constraints",
    "delete",
    "fixtures_regress",
    "get_or_create",
    "test_utils",
)
PIP_DOWNLOAD = ("pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps")


def main():
    """Run every mode on every database, and return the exit code."""
    parser = argparse.ArgumentParser("python -m compatibility", description=__doc__)
    parser.add_argument("labels", nargs="*", help="Default: " + " ".join(MODULES))
    parser.add_argument(
        "--mode",
        dest="modes",
        action="append",
        choices=MODES,
        help="Which classes have the mixin: none (plain), each TransactionTestCase "
        "(transaction), or each TestCase too (all). Default: the last two.",
    )
    parser.add_argument(
        "--database",
        dest="databases",
        action="append",
        choices=("postgresql", "sqlite"),
        help="Default: both.",
    )
    options = parser.parse_args()
    ensure_environment(("postgres",))
    tests = download()
    code = 0
    for database in options.databases or ("postgresql", "sqlite"):
        for mode in options.modes or MODES[1:]:
            print(f"\n=== {database}, mode {mode}", flush=True)
            code |= run(tests, options.labels or MODULES, database, mode)
    return code


def download():
    """Return the folder of the tests of the Django that is installed."""
    import django

    folder = FOLDER / django.__version__
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
            subprocess.run(
                [sys.executable, "-m", *PIP_DOWNLOAD, f"Django=={django.__version__}"],
                cwd=temporary,
                check=True,
            )
            [archive] = Path(temporary).glob("*.tar.gz")
            with tarfile.open(archive) as file:
                file.extractall(temporary, filter="data")
            [unpacked] = (path for path in Path(temporary).iterdir() if path.is_dir())
            unpacked.rename(folder)
    return folder / "tests"


def run(tests, labels, database, mode):
    """Run tests with Django's own script; return 1 unless they end as expected."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": ROOT,
            "TXTEST_COMPATIBILITY": mode,
            "TXTEST_SQLITE": folder if database == "sqlite" else "",
        }
        command = [sys.executable, "runtests.py", "--noinput", "--parallel=1"]
        command += ["--settings=compatibility.settings", *labels]
        done = subprocess.run(command, cwd=tests, env=environment, check=False)
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())

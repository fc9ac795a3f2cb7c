"""What a test costs, by the class that it belongs to, side by side in one run.

    python benchmarks/reset.py [--sqlite | --memory | --durable [--lazy]]
                               [--tables 20 100 400] [--json FILE]

Prints milliseconds per test, the median of all rounds, and the ratio to a TestCase; and
the same for the set-up and tear-down of a class. Trust the ratios, not the times.
"""

from __future__ import annotations

import sys

# This folder has a module named as one of the standard library: concurrent.
del sys.path[0]

import argparse  # noqa: E402
import concurrent.futures  # noqa: E402
import json  # noqa: E402
import multiprocessing  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import unittest  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bootstrap import ensure_environment  # noqa: E402

WRITTEN = (0, 1, 3, 10)
TESTS = 20


def main() -> None:
    """Run the benchmark."""
    ensure_environment(("postgres",))
    options = parse()
    figures = []
    with tempfile.TemporaryDirectory(prefix="txtest-bench-") as folder:
        configure(options, folder)
        for tables in options.tables:
            figures += in_process(measure, tables, options.rounds)
    report(figures)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sqlite", action="store_true", help="use a SQLite file")
    parser.add_argument("--memory", action="store_true", help="use SQLite in memory")
    parser.add_argument("--tables", type=int, nargs="+", default=[20, 100, 400])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument(
        "--durable", action="store_true", help="PostgreSQL with fsync on"
    )
    parser.add_argument(
        "--lazy",
        action="store_true",
        help="PostgreSQL with synchronous_commit off, by the settings",
    )
    return parser.parse_args()


def configure(options: argparse.Namespace, folder: str) -> None:
    """Set Django up on the database."""
    import django
    from django.conf import settings

    from django_txtest import embedded

    if options.memory:
        database = {"ENGINE": "django.db.backends.sqlite3"}
    elif options.sqlite:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{folder}/bench.sqlite3",
            "TEST": {"NAME": f"{folder}/test_bench.sqlite3"},
        }
    else:
        database = embedded.find_database()
        if options.lazy:
            database["OPTIONS"] = {"options": "-c synchronous_commit=off"}
    settings.configure(
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        USE_TZ=True,
    )
    django.setup()
    if options.durable:
        from django.db import connection

        with connection.cursor() as cursor:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                cursor.execute(f"ALTER SYSTEM SET {name} = on")
            cursor.execute("SELECT pg_reload_conf()")


def make_database(count: int) -> list:
    """Make a test database with that many tables; each refers to the one before."""
    from django.apps import apps
    from django.db import connection, models

    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    made = []
    for number in range(count):
        attributes = {
            "__module__": "django.contrib.auth.models",
            "name": models.CharField(max_length=50),
        }
        if made:
            attributes["before"] = models.ForeignKey(
                made[-1], models.CASCADE, null=True, related_name="+"
            )
        made.append(type(f"Bench{count}x{number}", (models.Model,), attributes))
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)
    apps.clear_cache()
    return made


def test_classes(models: list) -> dict:
    """Make the classes to compare, with a test for each number of written tables."""
    from django.test import TestCase, TransactionTestCase

    from django_txtest import NoAtomicMixin

    def writer(count):
        def test(self):
            for model in models[:count]:
                model.objects.create(name="x")

        return test

    tests = {f"test_{count}": writer(count) for count in WRITTEN}
    return {
        "TestCase": type("Rolled", (TestCase,), dict(tests)),
        "NoAtomicMixin": type("Committed", (NoAtomicMixin, TestCase), dict(tests)),
        "TransactionTestCase": type("Flushed", (TransactionTestCase,), dict(tests)),
    }


def in_process(function, *arguments):
    """Call the function in a process of its own: models cannot be unmade."""
    from django.db import connections

    connections.close_all()
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


def measure(tables: int, rounds: int) -> list[dict]:
    """Time the classes in turn, round by round."""
    models = make_database(tables)
    classes = test_classes(models)
    times: dict = {}
    # The first class with the mixin installs what tracks changes.
    once("NoAtomicMixin", classes["NoAtomicMixin"], first := {})
    for _ in range(rounds):
        for name in ("TestCase", "NoAtomicMixin"):
            once(name, classes[name], times)
    # Last, and twice only: it takes seconds, and leaves every table written to.
    for _ in range(2):
        once("TransactionTestCase", classes["TransactionTestCase"], times)
    from django.db import connection

    connection.creation.destroy_test_db("bench", verbosity=0)
    [first_class] = first["NoAtomicMixin", "class"]
    another_class = statistics.median(times["NoAtomicMixin", "class"])
    times["NoAtomicMixin", "database"] = [first_class - another_class]
    return [
        {
            "tables": tables,
            "class": name,
            "what": what,
            "ms": statistics.median(values) * 1000,
        }
        for (name, what), values in times.items()
    ]


def once(name: str, cls: type, times: dict) -> None:
    """Run a class as a runner does, and note what each step takes."""
    result = unittest.TestResult()
    started = time.perf_counter()
    cls.setUpClass()
    cls("test_0")(result)
    set_up = time.perf_counter() - started
    tests = 2 if name == "TransactionTestCase" else TESTS
    for count in WRITTEN:
        for _ in range(tests):
            started = time.perf_counter()
            cls(f"test_{count}")(result)
            taken = time.perf_counter() - started
            times.setdefault((name, count), []).append(taken)
    started = time.perf_counter()
    cls.tearDownClass()
    cls.doClassCleanups()
    set_up += time.perf_counter() - started
    times.setdefault((name, "class"), []).append(set_up)
    problems = result.errors + result.failures
    if problems:
        raise SystemExit(problems[0][1])


def report(figures: list[dict]) -> None:
    """Print the figures as a table."""
    by_key = {(f["tables"], f["class"], f["what"]): f["ms"] for f in figures}
    columns = [*WRITTEN, "class"]
    heads = [f"{c} written" if isinstance(c, int) else "class" for c in columns]
    print(f"{'tables':>6}  {'':22}" + "".join(f"{head:>18}" for head in heads))
    for tables in sorted({f["tables"] for f in figures}):
        for name in ("TestCase", "NoAtomicMixin", "TransactionTestCase"):
            cells = ""
            for column in columns:
                ms = by_key[tables, name, column]
                ratio = ms / by_key[tables, "TestCase", column]
                cells += f"{ms:10.2f} {f'({ratio:.2f})':>7}"
            print(f"{tables:>6}  {name:22}{cells}")
        ms = by_key[tables, "NoAtomicMixin", "database"]
        print(f"{tables:>6}  once for each database: {ms:.0f} ms")


if __name__ == "__main__":
    main()

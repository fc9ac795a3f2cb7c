"""What protection costs, by its level, side by side in one run.

    python benchmarks/readonly.py [--sqlite] [--rounds 100] [--json FILE]

Prints microseconds of this process's CPU, and the ratio to, and difference from, the
same with no protection: the medians over rounds, in each of which all are timed right
after each other. Then the same on the clock, which other processes disturb, but which
has the server's part in it, too.

"none" has no guard on the connection; "free" is a model that may be written to, at the
level "orm"; the others are a read-only model at each level. Trust the ratios and
differences, not the times.
"""

from __future__ import annotations

import sys

# This folder has a module named as one of the standard library: concurrent.
del sys.path[0]

import argparse  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bootstrap import ensure_environment  # noqa: E402

VARIANTS = ("none", "free", "orm", "sql", "db")
REPEATS = 20
CLOCKS = {"CPU": time.thread_time, "wall": time.perf_counter}


def main() -> None:
    """Run the benchmark."""
    ensure_environment(("postgres",))
    options = parse()
    with tempfile.TemporaryDirectory(prefix="txtest-bench-") as folder:
        configure(options, folder)
        figures = measure(options.rounds)
    report(figures)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sqlite", action="store_true", help="use a SQLite file")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


def configure(options: argparse.Namespace, folder: str) -> None:
    """Set Django up on the database."""
    import django
    from django.conf import settings

    from django_txtest import embedded

    if options.sqlite:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{folder}/bench.sqlite3",
            "TEST": {"NAME": f"{folder}/test_bench.sqlite3"},
        }
    else:
        database = embedded.find_database()
    settings.configure(
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django_txtest"],
        USE_TZ=True,
    )
    django.setup()


def make_models() -> tuple:
    """Make two models that differ in the mixin alone, each with a thousand rows."""
    from django.db import connection, models

    from django_txtest import ReadOnlyModelMixin, allow_writes

    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    made = []
    for name, bases in (
        ("Free", (models.Model,)),
        ("Guarded", (ReadOnlyModelMixin, models.Model)),
    ):
        attributes = {
            "__module__": "django.contrib.contenttypes.models",
            "text": models.CharField(max_length=50),
            "number": models.IntegerField(db_index=True),
        }
        model = type(name, bases, attributes)
        with connection.schema_editor() as editor:
            editor.create_model(model)
        with allow_writes():
            model.objects.bulk_create(model(text="x", number=n) for n in range(1000))
        made.append(model)
    return tuple(made)


@contextmanager
def protected(variant: str):
    """Within the block, hold what the variant is about."""
    from django.db import connection
    from django.test import override_settings

    from django_txtest.readonly.guard import guard_statement

    level = variant if variant in ("sql", "db") else "orm"
    with override_settings(TXTEST_READONLY={"level": level}):
        if variant != "none":
            yield
            return
        connection.execute_wrappers.remove(guard_statement)
        try:
            yield
        finally:
            connection.execute_wrappers.insert(0, guard_statement)


def operations(model: type) -> dict:
    """Return what is timed."""
    from django.db import connection

    table = model._meta.db_table
    pk = model.objects.order_by("pk").first().pk
    sql = f'SELECT id, text FROM "{table}" WHERE id = %s'

    def statement() -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, [pk])
            cursor.fetchall()

    return {
        "get": lambda: model.objects.get(pk=pk),
        "filter": lambda: list(model.objects.filter(number__lt=20)),
        "count": lambda: model.objects.filter(number__gt=500).count(),
        "statement": statement,
    }


def measure(rounds: int) -> list[dict]:
    """Time all variants of each operation in turn, round by round."""
    from django.db import connection

    free, guarded = make_models()
    made = {
        variant: operations(free if variant in ("none", "free") else guarded)
        for variant in VARIANTS
    }
    times: dict = {}
    for number in range(rounds + 1):
        # In another order each time: what is first is not always so.
        shift = number % len(VARIANTS)
        for name in made["none"]:
            for variant in VARIANTS[shift:] + VARIANTS[:shift]:
                with protected(variant):
                    taken = time_it(made[variant][name])
                if number:  # the first round warms up
                    for clock, seconds in taken.items():
                        times.setdefault((clock, name, variant), []).append(seconds)
    connection.creation.destroy_test_db("bench", verbosity=0)
    return [
        {
            "clock": clock,
            "operation": name,
            "protection": variant,
            "us": statistics.median(own) * 1e6,
            "ratio": paired(own, times[clock, name, "none"], lambda a, b: a / b),
            "more_us": paired(own, times[clock, name, "none"], lambda a, b: a - b)
            * 1e6,
            "ratio_to_free": paired(
                own, times[clock, name, "free"], lambda a, b: a / b
            ),
        }
        for (clock, name, variant), own in times.items()
    ]


def time_it(operation) -> dict:
    """Return the least of some repetitions, in seconds by each clock.

    What disturbs only adds to it.
    """
    operation()  # its text is seen
    taken: dict = {clock: [] for clock in CLOCKS}
    for _ in range(REPEATS):
        started = [clock() for clock in CLOCKS.values()]
        operation()
        ended = [clock() for clock in CLOCKS.values()]
        for clock, start, end in zip(CLOCKS, started, ended, strict=True):
            taken[clock].append(end - start)
    return {clock: min(values) for clock, values in taken.items()}


def paired(own: list, others: list, compare) -> float:
    """Return the median of what comparing each with the other of its round gives."""
    return statistics.median(map(compare, own, others))


def report(figures: list[dict]) -> None:
    """Print the figures as a table."""
    by_key = {(f["clock"], f["operation"], f["protection"]): f for f in figures}
    for clock in CLOCKS:
        print(f"us ({clock})".ljust(12) + "".join(f"{v:>26}" for v in VARIANTS))
        for name in dict.fromkeys(f["operation"] for f in figures):
            cells = ""
            for variant in VARIANTS:
                f = by_key[clock, name, variant]
                more = f"(x{f['ratio']:.3f}, {f['more_us']:+.1f})"
                cells += f"{f['us']:9.1f} {more:>16}"
            print(f"{name:12}{cells}")


if __name__ == "__main__":
    main()

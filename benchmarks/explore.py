"""What it costs to find a race, and to prove its cure: the services of the shop.

    python benchmarks/explore.py [--sqlite] [--sessions 2 3] [--json FILE]

For each service of the example project, as it is first written and with its cure,
prints the executions that it took, whether they were all that there are, and the
milliseconds of each. The networks' latency of the shop is left out. Trust the counts
and the ratio to bare round trips, not the times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import unittest
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# In place of this folder, whose concurrent.py would hide that of the library.
sys.path[:1] = [str(ROOT), str(ROOT / "example_project")]

from bootstrap import ensure_environment  # noqa: E402

ROUND_TRIPS = 1000
EXECUTIONS = 300


def main() -> None:
    """Run the benchmark."""
    options = parse()
    ensure_environment(() if options.sqlite else ("postgres",))
    if options.sqlite:
        os.environ["DATABASE_URL"] = f"sqlite:///{ROOT}/explore.sqlite3"
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop_project.settings"
    import django

    django.setup()
    from shop.throwaway import throwaway_database

    with throwaway_database():
        figures = measure(options)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sqlite", action="store_true", help="use a SQLite file")
    parser.add_argument("--sessions", type=int, nargs="+", default=[2])
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Explore each service, in a test, and print a line for each."""
    from django.db import connection, transaction
    from django.db.models import F

    from django_txtest import RandomScheduler, TxTestCase, explore
    from shop import gateway
    from shop.models import Account
    from shop.races import RACES
    from shop.services import fixed, racy

    gateway.LATENCY = 0

    @transaction.atomic
    def read_and_write(owner: str) -> None:
        account = Account.objects.get(owner=owner)
        Account.objects.filter(pk=account.pk).exists()
        Account.objects.filter(pk=account.pk).update(balance=F("balance") - 1)

    figures: list[dict[str, Any]] = []

    class Measurement(TxTestCase):
        def test_services(self) -> None:
            trip = round_trip(connection)
            print(f"A bare round trip takes {trip:.3f} ms.")
            for same, how in ((False, "wait for nothing"), (True, "wait")):
                each = self.sustained(same)
                print(
                    f"An execution takes {each:.1f} ms where two sessions of four "
                    f"statements {how}."
                )
                figures.append({"waits": same, "milliseconds": each, "trip": trip})
            print()
            print(f"{'':22} {'sessions':>8} {'executions':>10} {'':10} ms each    s")
            for count in options.sessions:
                for race in RACES:
                    for services in (racy, fixed):
                        self.explore(race, services, count)

        def sustained(self, same: bool) -> float:
            """Return what an execution takes where there are many."""
            names = ["ada", "ada" if same else "bob"]
            for name in set(names):
                Account.objects.create(owner=f"{name}@shop", balance=100)
            calls = [partial(read_and_write, f"{name}@shop") for name in names]
            found = explore(*calls, scheduler=RandomScheduler(1, EXECUTIONS))
            found.raise_if_failed()
            Account.objects.all().delete()
            return 1000 * found.duration / found.executions

        def explore(self, race: Any, services: Any, count: int) -> None:
            calls = [
                partial(target, **arguments)
                for target, arguments in race.calls(services, count)
            ]
            began = time.perf_counter()
            found = explore(*calls, max_executions=10_000, max_time=60.0)
            seconds = time.perf_counter() - began
            verdict = "found" if found.failures else "cut short"
            if found.exhausted:
                verdict = "all"
            version = services.__name__.rpartition(".")[2]
            each = 1000 * seconds / found.executions
            print(
                f"{race.name:15} {version:6} {count:8} {found.executions:10} "
                f"{verdict:10} {each:7.1f} {seconds:4.2f}",
                flush=True,
            )
            figures.append(
                {
                    "service": race.name,
                    "version": version,
                    "sessions": count,
                    "executions": found.executions,
                    "verdict": verdict,
                    "milliseconds": each,
                    "seconds": seconds,
                }
            )

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Measurement)
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    if not result.wasSuccessful():
        sys.exit(1)
    return figures


def round_trip(connection: Any) -> float:
    """Return how long a statement takes that does nothing, in milliseconds."""
    with connection.cursor() as cursor:
        began = time.perf_counter()
        for _ in range(ROUND_TRIPS):
            cursor.execute("SELECT 1")
            cursor.fetchall()
    return 1000 * (time.perf_counter() - began) / ROUND_TRIPS


if __name__ == "__main__":
    main()

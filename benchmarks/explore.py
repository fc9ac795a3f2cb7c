"""What it costs to find a race, and to prove its cure, beside frontrun 0.7.0.

    python benchmarks/explore.py [--only TEXT] [--sessions 2 3] [--limit 60] [--no-peer]
                                 [--json FILE]
    python benchmarks/explore.py --executions 100000
    python benchmarks/explore.py --processes 2

The first explores the cases of `project/cases.py`, each with ours and with the peer, on
the same server. The second makes that many executions in this process, and shows that
nothing is left of them. The third has so many processes help with one exploration.
Trust the counts and the ratios, not the times.
"""

from __future__ import annotations

import sys

# This folder has modules named as others are.
del sys.path[0]

import argparse  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
import unittest  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bootstrap import ensure_environment  # noqa: E402

PEER = "frontrun"
#: How many executions are made of each case to see what one costs.
SUSTAINED = 50
#: Of ours, in seconds; it is to need far less.
LIMIT = 60.0
#: What the peer gets to end by itself after its limit, in seconds.
GRACE = 30.0


def main() -> None:
    """Run the benchmark."""
    options = parse()
    ensure_environment(("postgres", "benchmark"))
    with project() as server:
        if options.executions:
            from benchmarks.explore_leaks import leaks

            figures = in_a_test(partial(leaks, options.executions))
        elif options.processes:
            from benchmarks.explore_processes import processes

            figures = in_a_test(partial(processes, options.processes))
        else:
            figures = in_a_test(partial(compare, options, server))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="cases that have it")
    parser.add_argument("--sessions", type=int, nargs="+", default=[2])
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds that the peer gets for each"
    )
    parser.add_argument("--no-peer", action="store_true", help="explore with ours only")
    parser.add_argument("--executions", type=int, metavar="N", help="look for leaks")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="let N processes help"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    return parser.parse_args()


@contextmanager
def project() -> Iterator[dict[str, Any]]:
    """Set Django up, with a test database; yield the entry of the server."""
    import django

    from django_txtest import embedded

    server = embedded.find_database()
    os.environ |= {
        "BENCHMARK_DATABASE": json.dumps(server),
        "BENCHMARK_MANAGE_PY": "",
        "DJANGO_SETTINGS_MODULE": "benchmarks.project.settings",
        "PYTHONPATH": str(ROOT),
    }
    django.setup()
    from django.db import connection

    # With the process's id in it, the name is nobody else's.
    connection.settings_dict["TEST"]["NAME"] = f"test_explore_{os.getpid()}"
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield server
    finally:
        connection.creation.destroy_test_db(server["NAME"], verbosity=0)


def in_a_test(act: Callable[[], Any]) -> Any:
    """Call it in a test, as a user would."""
    from django_txtest import TxTestCase

    figures: list[Any] = []

    class Benchmark(TxTestCase):
        def test(self) -> None:
            figures.append(act())

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Benchmark)
    result = suite.run(unittest.TestResult())
    for _, text in [*result.errors, *result.failures]:
        sys.exit(text)
    return figures[0]


# What each case costs


def compare(options: argparse.Namespace, server: dict[str, Any]) -> dict[str, Any]:
    """Explore each case with ours and with the peer, and print a line for each."""
    from django.db import connection

    from benchmarks.explore_many import many
    from benchmarks.explore_speed import speed
    from benchmarks.project.cases import CASES

    driver = connection.Database
    print(f"Django on {driver.__name__} {driver.__version__.split()[0]}.")
    has_peer = importlib.util.find_spec(PEER) is not None
    if not has_peer:
        print(f"{PEER} is not installed: it has no wheel for this platform.")
    figures: dict[str, Any] = {"speed": speed(), "many": many(), "cases": []}
    print(
        f"\n{'':34}{'':9}{'ours':^44}{PEER:^44}\n{'case':34}{'sessions':>8} "
        + f"{'verdict':>14}{'of':>6}{'s':>7}{'ms each':>9}{'of CPU':>8}" * 2
        + f"{'times':>7}"
    )
    for sessions in options.sessions:
        for number, case in enumerate(CASES):
            if options.only not in str(case):
                continue
            row = {"case": str(case), "sessions": sessions, "is_racy": case.is_racy}
            row["ours"] = ours(case, sessions)
            line = f"{row['case']:34}{sessions:>8} {told(row['ours'])}"
            if has_peer and not options.no_peer:
                row["peer"] = peer(number, sessions, options.limit, server)
                row["times"] = (row["peer"]["ms"] or 0) / row["ours"]["ms"]
                line += f"{told(row['peer'])}{row['times']:>7.0f}"
                line += f"  {row['peer']['error'][:70]}"
            print(line.rstrip(), flush=True)
            figures["cases"].append(row)
    summarize(figures["cases"])
    return figures


def ours(case: Any, sessions: int) -> dict[str, Any]:
    """Explore a case as a user would: with as few arguments as it takes."""
    from benchmarks.explore_many import own_time
    from benchmarks.project.everyday import prepare, sent
    from django_txtest import explore

    prepare()
    options: dict[str, Any] = {}
    if case.by_invariant:
        options = {"invariant": case.holds, "setup": sent.clear}
    began = time.perf_counter()
    with own_time() as own:
        found = explore(
            *case.calls(sessions),
            isolation_level=case.isolation_level,
            max_executions=1_000_000,
            max_time=LIMIT,
            **options,
        )
    seconds = time.perf_counter() - began
    verdict = "proved" if found.exhausted else "cut"
    if found.failures:
        verdict = "found" if case.is_racy else "wrongly flagged"
    elif case.is_racy and found.exhausted:
        verdict = "missed"
    return {
        "verdict": verdict,
        "exhausted": found.exhausted,
        "executions": found.executions,
        "seconds": seconds,
        "own": own.seconds / seconds,
        "error": str(found.failure.error) if found.failure else "",
    } | sustained(case, sessions)


def sustained(case: Any, sessions: int) -> dict[str, float]:
    """Return the milliseconds of an execution where there are many, as the peer's are.

    Each is judged by the invariant, which the peer asks too, and none is made again.
    """
    from benchmarks.project.everyday import sent
    from django_txtest import RandomScheduler, explore

    cpu = time.process_time()
    found = explore(
        *case.calls(sessions),
        invariant=lambda results: case.holds(list(results)) or True,
        setup=sent.clear,
        allow=(Exception,),
        isolation_level=case.isolation_level,
        scheduler=RandomScheduler(1, SUSTAINED),
        max_time=LIMIT,
    )
    return {
        "ms": 1000 * found.duration / found.executions,
        "cpu": 1000 * (time.process_time() - cpu) / found.executions,
    }


def peer(
    number: int, sessions: int, limit: float, server: dict[str, Any]
) -> dict[str, Any]:
    """Explore a case with the peer, in a process and a database of its own."""
    name = f"explore_peer_{os.getpid()}"
    command = [sys.executable, "-m", "frontrun.cli", sys.executable, "-m"]
    command += ["benchmarks.explore_peer", str(number), str(sessions), str(limit)]
    environment = os.environ | {
        "BENCHMARK_DATABASE": json.dumps(server | {"NAME": name}),
        "BENCHMARK_PEER": "1",
    }
    began = time.perf_counter()
    with (
        database(name),
        subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        problem = ""
        try:
            output, errors = process.communicate(timeout=limit + GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            problem = f"it did not end within {GRACE:g} s after its limit"
        lines = output.strip().splitlines()
    if process.returncode == 0 and lines and lines[-1].startswith("{"):
        figures: dict[str, Any] = json.loads(lines[-1])
        executions = max(1, figures["executions"])
        figures["ms"] = 1000 * figures["seconds"] / executions
        figures["cpu"] = 1000 * figures["cpu"] / executions
        return figures
    last = (errors.strip().splitlines() or [""])[-1]
    return {
        "verdict": "hung" if problem else "crashed",
        "error": problem or f"exit code {process.returncode}: {last}",
        "executions": 0,
        "seconds": time.perf_counter() - began,
        "ms": None,
        "cpu": None,
    }


@contextmanager
def database(name: str) -> Iterator[None]:
    """Have an empty database of this name within the block."""
    from django.db import connection

    with connection.copy().cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield
        finally:
            # By force: the peer leaves sessions.
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
            cursor.connection.close()


def told(figures: dict[str, Any]) -> str:
    """Return the columns of one explorer."""
    return (
        f"{figures['verdict']:>14}{figures['executions']:>6}"
        f"{figures['seconds']:>7.2f}{figures['ms'] or 0:>9.1f}"
        f"{figures['cpu'] or 0:>8.1f}"
    )


def summarize(rows: list[dict[str, Any]]) -> None:
    """Print how many races were found, how many cures proved, and how fast."""
    print()
    for who, good in (("ours", "proved"), ("peer", "passed")):
        own = [row for row in rows if who in row]
        racy = [row[who] for row in own if row["is_racy"]]
        fixed = [row[who] for row in own if not row["is_racy"]]
        if own:
            found = [each for each in racy if each["verdict"] == "found"]
            proved = [each for each in fixed if each["verdict"] == good]
            slowest = max(own, key=lambda row: row[who]["seconds"])
            print(
                f"{who}: {len(found)} of {len(racy)} races found, {len(proved)} of "
                f"{len(fixed)} cures {good}; the slowest is {slowest['case']!r}, in "
                f"{slowest[who]['seconds']:.2f} s."
            )
    own = sorted(row["ours"]["own"] for row in rows) or [0.0]
    print(
        f"The scheduler and the comparison took {statistics.median(own):.1%} of ours "
        f"in the median, and {own[-1]:.1%} at most."
    )
    both = [(row["ours"], row["peer"]) for row in rows if row.get("times")]
    if both:
        for name, what in (("ms", "second"), ("cpu", "second of CPU")):
            times = [peers[name] / own[name] for own, peers in both]
            print(
                f"As many executions per {what}: {statistics.median(times):.0f} times "
                f"in the median, {min(times):.0f} to {max(times):.0f}."
            )


if __name__ == "__main__":
    main()

"""Concurrent calls: what a batch costs, and how often a lost update is seen.

    python benchmarks/concurrent.py [--sqlite] [--trials 50] [--peer-trials 10]
                                    [--rounds 5] [--peer-rounds 3] [--json FILE]
                                    [--batches N]

Side by side in one run: django-concurrent-test-helper 0.7.0 (the peer), threads of the
standard library, and ours. Prints medians, and how many times faster than the peer.
Trust the ratios, not the times.
"""

from __future__ import annotations

import sys

# This folder has a module named as one of the standard library: this one.
del sys.path[0]

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from functools import partial  # noqa: E402
from multiprocessing import Pipe  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bootstrap import ensure_environment  # noqa: E402

SIZES = (1, 2, 5, 10, 20)
WINDOWS = ("nothing", "three reads", "another write")


def main() -> None:
    """Run the benchmark."""
    ensure_environment(("postgres", "benchmark"))
    options = parse()
    with (
        tempfile.TemporaryDirectory(prefix="txtest-bench-") as folder,
        project(options, folder),
    ):
        if options.batches:
            from benchmarks.concurrent_leaks import leaks

            figures = {"leaks": leaks(options.batches)}
        else:
            figures = {
                "speed": speed(options),
                "costs": costs(),
                "detection": detection(options),
            }
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sqlite", action="store_true", help="use a SQLite file")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    # It takes seconds for a batch, where the others take milliseconds.
    parser.add_argument("--peer-trials", type=int, default=10)
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--batches", type=int, metavar="N", help="look for leaks")
    return parser.parse_args()


@contextmanager
def project(options: argparse.Namespace, folder: str):
    """Set Django up, with a test database, for this process and those of the peer."""
    import django

    from django_txtest import embedded

    if options.sqlite:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{folder}/bench.sqlite3",
            "OPTIONS": {"timeout": 20},
            "TEST": {"NAME": f"{folder}/test_bench.sqlite3"},
        }
    else:
        database = embedded.find_database()
    manage_py = Path(folder, "manage.py")
    manage_py.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    manage_py.chmod(0o755)
    os.environ |= {
        "BENCHMARK_DATABASE": json.dumps(database),
        "BENCHMARK_MANAGE_PY": str(manage_py),
        # The peer ends what takes 30 s, as its batches do on a busy machine.
        "DJANGO_CONCURRENT_TESTS_TIMEOUT": "600",
        "DJANGO_SETTINGS_MODULE": "benchmarks.project.settings",
        "PYTHONPATH": str(ROOT),
    }
    django.setup()
    from django.db import connection

    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db("bench", verbosity=0)


# The ways to make calls


def with_the_peer(calls):
    """Make the calls with django-concurrent-test-helper."""
    from django_concurrent_tests.helpers import make_concurrent_calls

    return make_concurrent_calls(*calls)


def with_an_executor(calls):
    """Make the calls with a ThreadPoolExecutor."""
    with ThreadPoolExecutor(len(calls)) as executor:
        return list(executor.map(closing_connections, calls))


def with_a_barrier(calls):
    """Make the calls in threads that start together."""
    barrier = threading.Barrier(len(calls))
    with ThreadPoolExecutor(len(calls)) as executor:
        return list(executor.map(partial(closing_connections, barrier=barrier), calls))


def closing_connections(call, barrier=None):
    """Make a call in a thread."""
    from django.db import connections

    function, kwargs = call
    try:
        if barrier is not None:
            barrier.wait()
        return function(**kwargs)
    finally:
        connections.close_all()


def with_ours(calls, **options):
    """Make the calls with run_concurrently."""
    from django_txtest import run_concurrently

    results = run_concurrently(calls, **options)
    results.raise_errors()
    return results


# What a batch costs


def speed(options: argparse.Namespace) -> list[dict]:
    """Time batches of SELECT 1."""
    from benchmarks.project.calls import select_one
    from django_txtest import workers

    print("milliseconds for a batch of SELECT 1, and how many times faster\n")
    print(f"{'':12}" + "".join(f"{size:>20}" for size in SIZES))
    figures = []
    rows: dict[str, list[float]] = {}
    for size in SIZES:
        calls = [(select_one, {})] * size
        with workers(size, using="fork") as pool:
            ways = {
                "peer": with_the_peer,
                "fork": partial(with_ours, using="fork"),
                "threads": partial(with_ours, using="threads"),
                "warm pool": pool.run_concurrently,
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(max(options.rounds, options.peer_rounds)):
                for name, make in ways.items():
                    is_peer = name == "peer"
                    if number >= (options.peer_rounds if is_peer else options.rounds):
                        continue
                    # Those that take little are timed more often.
                    for _ in range(1 if is_peer else 5):
                        started = time.perf_counter()
                        results = make(calls)
                        times[name].append((time.perf_counter() - started) * 1000)
                        assert results == [1] * size, results
        for name, values in times.items():
            rows.setdefault(name, []).append(statistics.median(values))
            figures.append({"way": name, "calls": size, "ms": rows[name][-1]})
    for name, row in rows.items():
        cells = [
            f"{ms:>11.1f} {f'[{peer / ms:.0f}x]':>8}"
            for ms, peer in zip(row, rows["peer"], strict=True)
        ]
        print(f"{name:12}" + "".join(cells))
    return figures


def costs() -> dict:
    """Measure the CPU time and memory of a child, and a bare round trip."""
    from benchmarks.project.calls import memory, select_one
    from django_txtest import run_concurrently, workers

    def children() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = children()
    for _ in range(10):
        run_concurrently([select_one] * 5, using="fork")
    cpu = (children() - before) / 50 * 1000
    pss = statistics.median(run_concurrently([memory] * 5, using="fork"))
    with workers(5, using="fork") as pool:
        pool_pss = statistics.median(pool.call_concurrently(5, memory))
    figures = {
        "cpu_ms_per_child": cpu,
        "pss_mib_per_child": pss / 1024,
        "pss_mib_per_worker": pool_pss / 1024,
        "round_trip_ms": round_trip(),
    }
    print(
        f"\na forked child: {cpu:.1f} ms of CPU, {pss / 1024:.1f} MiB of memory (PSS, "
        f"5 at once)\na bare round trip over a pipe to a process: "
        f"{figures['round_trip_ms']:.3f} ms\n"
    )
    return figures


def round_trip() -> float:
    """Return the median milliseconds of sending one byte to a process and back."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            while True:
                theirs.send(theirs.recv())
        except EOFError:
            os._exit(0)
    theirs.close()
    times = []
    for _ in range(200):
        started = time.perf_counter()
        ours.send(1)
        ours.recv()
        times.append((time.perf_counter() - started) * 1000)
    ours.close()
    os.waitpid(pid, 0)
    return statistics.median(times)


# How often a lost update is seen


def detection(options: argparse.Namespace) -> list[dict]:
    """Count the trials in which an update was lost."""
    from benchmarks.project import calls

    targets = {
        f"racy, {window}": (calls.increment, {"window": window}) for window in WINDOWS
    }
    targets["safe, F()"] = (calls.increment_in_the_database, {})
    if not options.sqlite:
        targets["safe, lock"] = (calls.increment_locked, {})
    targets["safe, unique"] = (calls.claim, {})
    ways = {
        "peer": (with_the_peer, options.peer_trials),
        "executor": (with_an_executor, options.trials),
        "barrier": (with_a_barrier, options.trials),
        "fork": (partial(with_ours, using="fork"), options.trials),
        "threads": (partial(with_ours, using="threads"), options.trials),
    }
    print("trials in which an update was lost, with 2 / 5 calls\n")
    print(f"{'':22}" + "".join(f"{name:>16}" for name in ways))
    figures = []
    for title, (target, kwargs) in targets.items():
        cells = ""
        for name, (make, trials) in ways.items():
            seen = []
            for size in (2, 5):
                lost = sum(is_lost(make, target, kwargs, size) for _ in range(trials))
                seen.append(lost)
                figures.append(
                    {
                        "target": title,
                        "way": name,
                        "calls": size,
                        "lost": lost,
                        "trials": trials,
                    }
                )
            cells += f"{f'{seen[0]} / {seen[1]} of {trials}':>16}"
            if sys.stdout.isatty():
                print(f"\r{title:22}{cells}", end="", flush=True)
        print(f"\r{title:22}{cells}" if sys.stdout.isatty() else f"{title:22}{cells}")
    return figures


def is_lost(make, target, kwargs, size) -> bool:
    """Make a batch of calls; return whether the counter is not what it should be."""
    from benchmarks.project import calls
    from benchmarks.project.models import Counter

    counter = Counter.objects.create()
    make([(target, {"pk": counter.pk, **kwargs})] * size)
    counter.refresh_from_db()
    return counter.value != (1 if target is calls.claim else size)


if __name__ == "__main__":
    main()

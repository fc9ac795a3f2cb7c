"""What an execution costs beside the round trips that it makes: for `explore.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from statistics import median
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from benchmarks.project.everyday import prepare
from benchmarks.project.models import Account
from django_txtest import RandomScheduler, explore
from django_txtest.history import History, Kind

CONNECTIONS = 5
ROUND_TRIPS = 500
EXECUTIONS = 300
WAYS = ("nothing, by SQL", "nothing", "a lock, by SQL", "a lock")


def speed() -> list[dict[str, Any]]:
    """Time executions of two sessions of four statements each, and print a table."""
    prepare()
    trip = round_trip()
    print(
        f"A bare round trip takes {trip:.3f} ms; the load is {os.getloadavg()[0]:.1f}. "
        f"An execution of two sessions,\neach BEGIN, two SELECTs, an UPDATE and "
        f"COMMIT, which wait for:\n\n{'':18}{'ms':>7}{'of CPU':>8}{'calls alone':>13}"
        f"{'round trips':>13}{'times bare':>12}"
    )
    figures = []
    for way in WAYS:
        call = by_sql if way.endswith("SQL") else by_the_orm
        keys = (1, 1) if way.startswith("a lock") else (1, 2)
        figure = timed([partial(call, pk) for pk in keys])
        figure |= {"waits for": way, "trip": trip}
        figure["ratio"] = figure["ms"] / figure["trips"] / trip
        figures.append(figure)
        print(
            f"{way:18}{figure['ms']:>7.1f}{figure['cpu']:>8.1f}"
            f"{figure['alone']:>13.1f}{figure['trips']:>13.1f}"
            f"{figure['ratio']:>12.1f}",
            flush=True,
        )
    return figures


def timed(calls: list[Callable[[], Any]]) -> dict[str, Any]:
    """Return what the calls take, alone and explored, in milliseconds."""
    began = time.perf_counter()
    for _ in range(EXECUTIONS):
        for call in calls:
            call()
    alone = 1000 * (time.perf_counter() - began) / EXECUTIONS
    prepare()
    scheduler = Counting(1, EXECUTIONS)
    cpu = time.process_time()
    with counted_statements() as control:
        found = explore(*calls, scheduler=scheduler, max_time=float("inf"))
    found.raise_if_failed()
    return {
        "ms": 1000 * found.duration / found.executions,
        "cpu": 1000 * (time.process_time() - cpu) / found.executions,
        "alone": alone,
        "trips": (scheduler.trips + control[0]) / found.executions,
    }


def by_the_orm(pk: int) -> None:
    """Make four statements by way of models."""
    with transaction.atomic():
        account = Account.objects.get(pk=pk)
        Account.objects.filter(pk=account.pk).exists()
        Account.objects.filter(pk=account.pk).update(balance=F("balance") + 1)


def by_sql(pk: int) -> None:
    """Make them without models: the rest is ours."""
    with transaction.atomic(), connection.cursor() as cursor:
        for sql in (
            "SELECT * FROM project_account WHERE id = %s",
            "SELECT 1 FROM project_account WHERE id = %s LIMIT 1",
            "UPDATE project_account SET balance = balance + 1 WHERE id = %s",
        ):
            cursor.execute(sql, [pk])


class Counting(RandomScheduler):
    """Counts the round trips of the sessions."""

    trips = 0

    def end(self, history: History) -> None:
        """Add those of an execution."""
        kinds = [event.kind for event in history]
        ends = kinds.count(Kind.COMMIT) + kinds.count(Kind.ROLLBACK)
        # A transaction begins by a round trip that is no step.
        self.trips += kinds.count(Kind.STATEMENT) + 2 * ends


@contextmanager
def counted_statements() -> Iterator[list[int]]:
    """Count what is executed to put the database back, and to read what changed."""
    count = [0]

    def note(execute: Callable[..., Any], *args: Any) -> Any:
        count[0] += 1
        return execute(*args)

    with connection.execute_wrapper(note):
        yield count


def round_trip() -> float:
    """Return how long a statement takes that does nothing, in milliseconds.

    It depends on which cores a connection and its server process are on, so it is the
    median of several connections.
    """
    taken = []
    for _ in range(CONNECTIONS):
        other = connection.copy()
        with closing(other), other.cursor() as cursor:
            began = time.perf_counter()
            for _ in range(ROUND_TRIPS):
                cursor.execute("SELECT 1")
                cursor.fetchall()
            taken.append(time.perf_counter() - began)
    return 1000 * median(taken) / ROUND_TRIPS

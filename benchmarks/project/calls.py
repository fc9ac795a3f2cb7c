"""What is called: updates that can be lost, and safe ones."""

from __future__ import annotations

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from benchmarks.project.models import Claim, Counter, Note


def select_one() -> int:
    """Make a round trip to the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


def increment(pk: int, window: str) -> None:
    """Lose updates: the value is read, and written after what the window has."""
    counter = Counter.objects.get(pk=pk)
    if window == "three reads":
        for _ in range(3):
            Note.objects.filter(text="none").exists()
    elif window == "another write":
        Note.objects.create(text="incrementing")
    counter.value += 1
    counter.save()


def increment_in_the_database(pk: int) -> None:
    """Lose nothing: the database reads and writes at once."""
    Counter.objects.filter(pk=pk).update(value=F("value") + 1)


def increment_locked(pk: int) -> None:
    """Lose nothing: the row is locked from the read to the write."""
    with transaction.atomic():
        counter = Counter.objects.select_for_update().get(pk=pk)
        counter.value += 1
        counter.save()


def claim(pk: int) -> None:
    """Increment the counter once for each claim that was made: there can be one."""
    try:
        Claim.objects.create(name=f"claim {pk}")
    except IntegrityError:
        return
    Counter.objects.filter(pk=pk).update(value=F("value") + 1)


def memory() -> int:
    """Return the proportional set size of this process, in KiB."""
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

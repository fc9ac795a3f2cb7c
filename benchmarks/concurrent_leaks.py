"""What is left in this process of many batches of calls: for `concurrent.py`."""

from __future__ import annotations

from functools import partial

from benchmarks.leftovers import left
from benchmarks.project.calls import increment
from benchmarks.project.models import Counter
from django_txtest import run_concurrently

#: How often one looks at what is left.
LOOKS = 5
#: How many batches come first, in which what is kept for good is made.
FIRST = 20


def leaks(batches: int) -> list[dict[str, str | int]]:
    """Make batches of two calls, and print what this process has every so often."""
    rows: list[dict[str, str | int]] = []
    for using in ("fork", "threads"):
        counter = Counter.objects.create()
        calls = [partial(increment, counter.pk, "nothing")] * 2
        for number in range(FIRST + batches + 1):
            if number >= FIRST and (number - FIRST) % max(1, batches // LOOKS) == 0:
                rows.append({"way": using, "batches": number - FIRST, **left()})
                if len(rows) == 1:
                    print("".join(f"{name:>12}" for name in rows[0]))
                print(
                    "".join(f"{value:>12}" for value in rows[-1].values()), flush=True
                )
            run_concurrently(calls, using=using).raise_errors()
    return rows

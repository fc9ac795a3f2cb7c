"""Makes calls at the same time, each with database connections of its own."""

from django_txtest.concurrency.api import (
    Workers,
    call_concurrently,
    make_concurrent_calls,
    run_concurrently,
    workers,
)

__all__ = [
    "Workers",
    "call_concurrently",
    "make_concurrent_calls",
    "run_concurrently",
    "workers",
]

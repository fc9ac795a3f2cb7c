"""Makes calls at the same time, each with database connections of its own."""

from django_txtest.concurrency.api import (
    call_concurrently,
    make_concurrent_calls,
    run_concurrently,
)

__all__ = ["call_concurrently", "make_concurrent_calls", "run_concurrently"]

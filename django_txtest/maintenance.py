"""What we do to a database ourselves, or have Django do, that no guard is to refuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_maintained: ContextVar[bool] = ContextVar(
    "django_txtest_maintenance", default=False
)


@contextmanager
def maintenance() -> Iterator[None]:
    """Within the block, or the function that it decorates, writes are let through."""
    token = _is_maintained.set(True)
    try:
        yield
    finally:
        _is_maintained.reset(token)


def in_maintenance() -> bool:
    """Tell whether the calling code is within `maintenance`."""
    return _is_maintained.get()

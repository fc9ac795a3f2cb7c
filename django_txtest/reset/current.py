"""Which test is running now, and which layers lie under it."""

from __future__ import annotations

from django_txtest.databases import running_test_class
from django_txtest.reset.layers import Layers


def current_layers() -> Layers | None:
    """Return those of the running test class, in whatever thread, if it has any."""
    layers = getattr(running_test_class(), "_layers", None)
    return layers if isinstance(layers, Layers) else None


def current_test() -> str | None:
    """Return the name of the running test, in whatever thread, if it has layers."""
    return getattr(running_test_class(), "_running_test", None)

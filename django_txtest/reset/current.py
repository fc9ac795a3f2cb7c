"""Which layers lie under the code that is running now."""

from __future__ import annotations

from django_txtest.databases import running_test_class
from django_txtest.reset.layers import Layers


def current_layers() -> Layers | None:
    """Return those of the running test class, in whatever thread, if it has any."""
    layers = getattr(running_test_class(), "_layers", None)
    return layers if isinstance(layers, Layers) else None

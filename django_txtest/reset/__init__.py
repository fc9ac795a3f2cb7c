"""Puts databases back after tests that really commit."""

from django_txtest.reset.current import current_layers, current_test
from django_txtest.reset.layers import Layers
from django_txtest.reset.leftovers import Leftovers
from django_txtest.reset.migrated import watch_migrations

__all__ = ["Layers", "Leftovers", "current_layers", "current_test", "watch_migrations"]

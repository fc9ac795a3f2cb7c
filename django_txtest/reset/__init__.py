"""Puts databases back after tests that really commit."""

from django_txtest.reset.layers import Layers
from django_txtest.reset.leftovers import Leftovers

__all__ = ["Layers", "Leftovers"]

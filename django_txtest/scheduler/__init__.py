"""Runs calls in the orders in which their steps can interleave, one step at a time."""

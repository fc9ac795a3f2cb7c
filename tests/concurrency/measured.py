"""What the tests of coverage call."""

from __future__ import annotations


def branch(number: int) -> str:
    if number:
        return "taken"
    return "not taken"

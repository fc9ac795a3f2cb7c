"""Finds the line of the user's code that a statement comes from."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import cache
from types import FrameType

import django

from django_txtest.history import Place

_OWN = os.path.dirname(os.path.dirname(__file__))


def user_place() -> Place | None:
    """Return the innermost place that is neither Django's, a library's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = _user_file(frame.f_code.co_filename)
        if file is not None:
            return Place(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


@cache
def _user_file(file: str) -> str | None:
    """Return how to show a file, if it is the user's."""
    if file.startswith("<"):
        return None
    paths = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    paths |= {_OWN, os.path.dirname(django.__file__)}
    if any(file.startswith(path + os.sep) for path in paths):
        return None
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative

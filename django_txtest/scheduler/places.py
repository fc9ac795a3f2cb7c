"""Finds the line of the user's code that a statement comes from."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from types import FrameType
from typing import Any

import django
from asgiref.sync import SyncToAsync

from django_txtest.history import Place

_OWN = os.path.dirname(os.path.dirname(__file__))
_FOLDERS = ("site-packages", "dist-packages")


def user_place() -> Place | None:
    """Return the innermost place that is neither Django's, a library's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is SyncToAsync.thread_handler.__code__:
            place = _first(_awaiting(frame))
            if place is not None:
                return place
        place = _first([frame])
        if place is not None:
            return place
        frame = frame.f_back
    return None


def _first(frames: Iterable[FrameType]) -> Place | None:
    for frame in frames:
        file = _user_file(frame.f_code.co_filename)
        if file is not None:
            return Place(file, frame.f_lineno, frame.f_code.co_name)
    return None


def _awaiting(handler: FrameType) -> list[FrameType]:
    """Return the coroutines that wait for a synchronous function, the innermost first.

    They are on no thread's stack. What is private to asgiref is here and nowhere else:
    the names of two variables, both of which hold the function.
    """
    child = handler.f_locals["args"][0]
    for task in asyncio.all_tasks(handler.f_locals["loop"]):
        frames = list(_chain(task.get_coro()))
        if any(
            frame.f_code is SyncToAsync.__call__.__code__
            and frame.f_locals.get("child") is child
            for frame in frames
        ):
            return frames[::-1]
    return []


def _chain(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine, and of those that it awaits."""
    while coroutine is not None:
        # Of coroutines, asynchronous generators, and generators.
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                awaited = "yieldfrom" if kind == "gi" else "await"
                coroutine = getattr(coroutine, f"{kind}_{awaited}")
                break
        else:
            return


@cache
def _user_file(file: str) -> str | None:
    """Return how to show a file, if it is the user's."""
    if file.startswith("<"):
        return None
    paths = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    paths |= {_OWN, os.path.dirname(django.__file__)}
    is_library = any(f"{os.sep}{folder}{os.sep}" in file for folder in _FOLDERS)
    if is_library or any(file.startswith(path + os.sep) for path in paths):
        return None
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative

"""Measures the coverage of calls in other processes, where that of this one is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coverage import Coverage

_WARNINGS = ["module-not-imported", "module-not-measured", "no-data-collected"]
_OPTIONS = ("branch", "source", "include", "omit", "concurrency", "timid")


@dataclass(frozen=True)
class Plan:
    """How coverage is measured."""

    config_file: str | bool
    options: dict[str, Any]


@dataclass
class Measured:
    """What was measured, once it has been."""

    data: bytes | None = None


def plan() -> Plan | None:
    """Return how the coverage of this process is measured; None if it is not."""
    current = _current()
    if current is None:
        return None
    options = {name: current.get_option(f"run:{name}") for name in _OPTIONS}
    config_file = getattr(current.config, "config_file", None)
    return Plan(config_file or False, options)


@contextmanager
def measured(plan: Plan | None) -> Iterator[Measured]:
    """Measure the block, where there is a plan, in memory."""
    result = Measured()
    if plan is None:
        yield result
        return
    from coverage import Coverage

    inherited = _current()
    if inherited is not None:  # in a forked process, that of the parent
        inherited.stop()
    own = Coverage(data_file=None, config_file=plan.config_file, **plan.options)
    # One call is but a part of what is measured.
    own.set_option("run:disable_warnings", _WARNINGS)
    own.start()
    try:
        yield result
    finally:
        own.stop()
        result.data = own.get_data().dumps()


def add(data: bytes | None) -> None:
    """Add what another process measured to what this one measures."""
    current = _current()
    if data is None or current is None:
        return
    from coverage import CoverageData

    other = CoverageData(no_disk=True)
    other.loads(data)
    current.get_data().update(other)


def _current() -> Coverage | None:
    # Not imported for this: a process that does not have it is not measured.
    module = sys.modules.get("coverage")
    return module.Coverage.current() if module is not None else None

"""Explains an execution that failed, from its history."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from django.db import connections

from django_txtest.databases import get_database
from django_txtest.scheduler.accesses import touches_of
from django_txtest.scheduler.anomalies import Anomaly, find_anomaly
from django_txtest.scheduler.hints import hint_of
from django_txtest.scheduler.statements import Statements
from django_txtest.scheduler.walk import Execution


class Explainer:
    """Knows the databases of one exploration."""

    def __init__(self, aliases: Sequence[str], isolation_level: str | None) -> None:
        self._aliases = aliases
        self._isolation_level = isolation_level

    @cached_property
    def _statements(self) -> dict[str, Statements]:
        return {
            alias: Statements(get_database(connections[alias]).catalogue())
            for alias in self._aliases
        }

    def explain(self, execution: Execution) -> tuple[Anomaly | None, str]:
        """Return the anomaly that the history shows, if any, and what would mend it."""
        touches = touches_of(execution.history, self._statements, self._isolation_level)
        anomaly = find_anomaly(touches)
        vendors = {connections[alias].vendor for alias in self._aliases}
        hint = hint_of(execution.history, execution.results, anomaly, vendors)
        return anomaly, hint

"""Lists what is read-only; with --expect, fails where that is not as it should be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from django_txtest.readonly.levels import possible
from django_txtest.readonly.policy import (
    Protection,
    protected_models,
    protection_of_database,
)

#: What stands for the tables that have no model.
OTHERS = "*"


@dataclass(frozen=True)
class Line:
    """One model that is read-only on one database."""

    model: str
    database: str
    level: str
    setting: str

    def is_meant_by(self, expected: str) -> bool:
        """Tell whether it is what MODEL[@DATABASE][=LEVEL] says."""
        rest, _, level = expected.partition("=")
        model, _, database = rest.partition("@")
        return (
            fnmatchcase(self.model.lower(), model.lower())
            and database in ("", self.database)
            and level in ("", self.level)
        )


class Command(BaseCommand):
    """List what is read-only."""

    help = (
        "List the models that are read-only: on which database, at which level, and by "
        "which setting."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--expect",
            nargs="*",
            metavar="MODEL[@DATABASE][=LEVEL]",
            help="exit with status 1 unless these, and no others, are read-only; "
            "MODEL is app.Model, or a pattern such as app.*, and '*' also stands for "
            "the tables without a model of a database that is read-only",
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """List them, and compare."""
        lines = list(_lines())
        if options["json"]:
            self.stdout.write(json.dumps([asdict(line) for line in lines], indent=2))
        else:
            self._print(lines)
        if options["expect"] is not None:
            self._compare(lines, options["expect"])

    def _print(self, lines: Sequence[Line]) -> None:
        if not lines:
            self.stdout.write("Nothing is read-only.")
            return
        rows = [("MODEL", "DATABASE", "LEVEL", "SETTING")]
        rows += [(x.model, x.database, x.level, x.setting) for x in lines]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(n) for cell, n in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())

    def _compare(self, lines: Sequence[Line], expected: Sequence[str]) -> None:
        missing = [
            one for one in expected if not any(line.is_meant_by(one) for line in lines)
        ]
        extra = [
            line for line in lines if not any(line.is_meant_by(one) for one in expected)
        ]
        for one in missing:
            self.stderr.write(f"Not read-only, but expected to be: {one}")
        for line in extra:
            what = f"{line.model}@{line.database}={line.level}"
            self.stderr.write(f"Read-only, but not expected to be: {what}")
        if missing or extra:
            sys.exit(1)


def _lines() -> Iterator[Line]:
    for alias in connections:
        vendor = connections[alias].vendor
        if vendor == "unknown":  # there is no database
            continue

        def line(
            model: str, protection: Protection, alias: str = alias, vendor: str = vendor
        ) -> Line:
            level = possible(protection.level, vendor)
            return Line(model, alias, level.word, protection.setting)

        for model, protection in protected_models(alias):
            yield line(model._meta.label, protection)
        others = protection_of_database(alias)
        if others is not None:
            yield line(OTHERS, others)

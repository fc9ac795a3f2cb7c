"""Which columns hold keys that were made up, and names for those that mean the same.

Two executions that create the same rows may give them different keys. A key that is new
is named after the row that has it, so that such rows compare as equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.db import models

from django_txtest.scheduler.start import TableKey

# What the parts of a name are: quoted, or not.
_PARTS = re.compile(r'"((?:[^"]|"")*)"|`([^`]*)`|([^."`]+)')
# How far a key's name looks, from row to row.
_ROUNDS = 3


@dataclass
class Columns:
    """What models say of the columns of a table."""

    #: That of the key, if the database or a default makes it up.
    key: str | None = None
    #: Those that refer to a made-up key, with the table that has it.
    references: dict[str, str] = field(default_factory=dict)
    #: Those that are set to the time of day.
    times: set[str] = field(default_factory=set)


def columns_of_models() -> dict[str, Columns]:
    """Return what there is to know, by the plain names of the tables."""
    found: dict[str, Columns] = {}
    for model in apps.get_models(include_auto_created=True):
        columns = found.setdefault(table_of(model), Columns())
        local: Any = model._meta.local_concrete_fields
        for each in local:
            if each.remote_field is not None:
                target = _table_of_key(each)
                if target is not None:
                    columns.references[each.column] = target
            elif each.primary_key and is_made_up(each):
                columns.key = each.column
            elif is_time(each):
                columns.times.add(each.column)
    return found


def is_made_up(key: models.Field[Any, Any]) -> bool:
    """Tell whether nobody chooses the values of a key."""
    is_uuid = isinstance(key, models.UUIDField) and key.has_default()
    return isinstance(key, models.AutoField) or is_uuid


def is_time(column: models.Field[Any, Any]) -> bool:
    """Tell whether a field is set to the time of day by itself."""
    return bool(getattr(column, "auto_now", False)) or bool(
        getattr(column, "auto_now_add", False)
    )


def _table_of_key(reference: models.Field[Any, Any]) -> str | None:
    target: Any = reference
    while target.remote_field is not None:  # a child's key refers to its parent's
        target = target.target_field
    if target.primary_key and is_made_up(target):
        return table_of(target.model)
    return None


def plain_name(table: str) -> str:
    """Return a table's name alone: no schema, no quotes."""
    quoted, *others = _PARTS.findall(table)[-1]
    return quoted.replace('""', '"') or "".join(others)


def table_of(model: type[models.Model]) -> str:
    """Return the plain name of a model's table."""
    name = model._meta.db_table
    # Django quotes it, unless it is so; the quotes within may be those of a schema.
    is_quoted = name.startswith('"') and name.endswith('"')
    return plain_name(name if is_quoted else f'"{name}"')


class NewKeys:
    """The keys of rows that were not there at the start."""

    def __init__(
        self,
        rows: Mapping[TableKey, list[dict[str, Any]]],
        start: Mapping[TableKey, list[dict[str, Any]]],
        models: Mapping[str, Columns],
    ) -> None:
        self._models = models
        self._names: dict[tuple[str, str], int] = {}
        new: dict[tuple[str, str], dict[str, Any]] = {}
        for key, here in rows.items():
            table = plain_name(key[1])
            column = models[table].key if table in models else None
            if column is None:
                continue
            before = {row.get(column) for row in start[key]}
            for row in here:
                if row.get(column) not in before:
                    new[table, str(row[column])] = row
        self._names = dict.fromkeys(new, 0)
        for _ in range(_ROUNDS):
            self._names = {
                (table, value): hash((table, self.renamed(table, row)))
                for (table, value), row in new.items()
            }

    def renamed(self, table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return a row with names in place of new keys."""
        columns = self._models.get(table)
        if columns is None or not self._names:
            return tuple(row.items())
        renamed: list[Any] = []
        for column, value in row.items():
            if column == columns.key and (table, str(value)) in self._names:
                renamed.append((column, "new"))
                continue
            target = columns.references.get(column)
            name = self._names.get((target, str(value))) if target else None
            renamed.append((column, value if name is None else ("new", name)))
        return tuple(renamed)

    def name(self, value: Any, tables: Iterable[str] | None = None) -> Any:
        """Return the names of a value if it is a new key, of these tables or any."""
        text = str(value)
        if tables is None:
            tables = {table for table, _ in self._names}
        names = {self._names[t, text] for t in tables if (t, text) in self._names}
        return ("new", frozenset(names)) if names else value

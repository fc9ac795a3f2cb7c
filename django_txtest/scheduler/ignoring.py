"""Checks the columns that an exploration is to ignore."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

from django.apps import apps

from django_txtest.databases import Table
from django_txtest.exceptions import InvalidCall
from django_txtest.scheduler.keys import plain_name, table_of


def check_ignored(ignore: Collection[str], tables: Iterable[Table]) -> None:
    """See that there is each column that is to be ignored.

    :param ignore: as ``"column"`` or ``"table.column"``.
    :param tables: those whose rows are compared; models may have others.
    :raises InvalidCall: for a name that no column has.
    """
    if isinstance(ignore, str):
        raise InvalidCall(f"ignore is one text, not a list. Write ignore=[{ignore!r}].")
    found = {(plain_name(each.name), name) for each in tables for name in each.columns}
    for model in apps.get_models(include_auto_created=True):
        fields: Any = model._meta.local_concrete_fields
        found |= {(table_of(model), each.column) for each in fields}
    columns = {column for _, column in found}
    full = {f"{table}.{column}" for table, column in found}
    for name in ignore:
        if name in columns or name in full:
            continue
        near = get_close_matches(name, sorted(full if "." in name else columns))
        hint = f"Near to it: {', '.join(near)}." if near else "No other is near to it."
        raise InvalidCall(
            f"ignore has {name!r}, and no column has this name. {hint} Write "
            f"'column' or 'table.column', as the database has them."
        )

"""Where a deletion reaches: before its first statement, all of it is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models
from django.db.models import deletion

from django_txtest.maintenance import in_maintenance
from django_txtest.readonly.refusing import is_protected, refuse_write


def refuse_deletion(collector: Any) -> None:
    """Raise if a deletion, as Django has collected it, reaches read-only rows.

    Statements for read-only tables in which there are no such rows are left out.

    :raises ReadOnlyViolation: in that case.
    """
    if in_maintenance():
        return
    alias: str = collector.using
    for model, instances in collector.data.items():
        if instances:
            refuse_write(model, "delete", alias)
            _refuse_in_database(model, instances, alias)
    collector.fast_deletes = [
        rows for rows in collector.fast_deletes if not _is_idle(rows, "delete", alias)
    ]
    for rows in collector.fast_deletes:
        _refuse_in_database(rows.model, rows, alias)
    for (field, value), groups in list(collector.field_updates.items()):
        kept = [
            rows
            for rows in groups
            if not _is_idle(rows, f"set {field.name}", alias, field.model)
        ]
        if kept:
            collector.field_updates[field, value] = kept
        else:
            del collector.field_updates[field, value]


def _is_idle(
    rows: Any, operation: str, alias: str, model: type[models.Model] | None = None
) -> bool:
    """Tell whether there are no rows, of a read-only table; raise if there are some."""
    model = model or rows.model
    if not is_protected(model, alias):
        return False
    if rows.exists() if isinstance(rows, models.QuerySet) else rows:
        refuse_write(model, operation, alias)
    return True


def _refuse_in_database(model: type[models.Model], rows: Any, alias: str) -> None:
    """Raise if the database itself would go on to read-only rows (Django 6.1)."""
    for field in fields_with_database_cascade(model):
        related = field.model
        reached = related._base_manager.using(alias).filter(
            **{f"{field.name}__in": rows}
        )
        if is_protected(related, alias):
            if reached.exists():
                refuse_write(related, "delete", alias)
        elif related is not model:
            _refuse_in_database(related, reached, alias)


def fields_with_database_cascade(model: type[models.Model]) -> Iterable[Any]:
    """Return the foreign keys to the model on which the database itself acts."""
    kind = getattr(deletion, "DatabaseOnDelete", ())
    for relation in model._meta.related_objects:
        field: Any = relation.field
        if isinstance(field.remote_field.on_delete, kind):
            yield field

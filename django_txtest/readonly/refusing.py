"""Raises where something is about to be written to that is read-only."""

from __future__ import annotations

from django.db.models import Model

from django_txtest.exceptions import ReadOnlyViolation
from django_txtest.maintenance import in_maintenance
from django_txtest.readonly.policy import protection_of, tables_of


def refuse_write(model: type[Model], operation: str, alias: str) -> None:
    """Raise if the model, or one that it inherits from, is read-only.

    :raises ReadOnlyViolation: in that case.
    """
    for written in () if in_maintenance() else tables_of(model):
        protection = protection_of(written, alias)
        if protection is not None:
            raise ReadOnlyViolation(written, operation, alias, protection.setting)


def is_protected(model: type[Model], alias: str) -> bool:
    """Tell whether `refuse_write` would raise."""
    return not in_maintenance() and any(
        protection_of(written, alias) is not None for written in tables_of(model)
    )

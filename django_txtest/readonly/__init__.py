"""Read-only models: nothing writes to them, unless a setting or a scope says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_txtest.lazy import lazy_names

if TYPE_CHECKING:
    from django_txtest.exceptions import ReadOnlyViolation
    from django_txtest.readonly.admin import ReadOnlyAdminMixin
    from django_txtest.readonly.models import ReadOnlyModelMixin, readonly_models
    from django_txtest.readonly.policy import Protection, protection_of
    from django_txtest.readonly.scopes import allow_writes, forbid_writes

# Loaded when first used: the admin is for projects that have it.
_MODULE_OF = {
    "Protection": "readonly.policy",
    "ReadOnlyAdminMixin": "readonly.admin",
    "ReadOnlyModelMixin": "readonly.models",
    "ReadOnlyViolation": "exceptions",
    "allow_writes": "readonly.scopes",
    "forbid_writes": "readonly.scopes",
    "protection_of": "readonly.policy",
    "readonly_models": "readonly.models",
}

__all__ = [
    "Protection",
    "ReadOnlyAdminMixin",
    "ReadOnlyModelMixin",
    "ReadOnlyViolation",
    "allow_writes",
    "forbid_writes",
    "protection_of",
    "readonly_models",
]

__getattr__ = lazy_names(__name__, _MODULE_OF)

"""Read-only models in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from django_txtest.maintenance import in_maintenance
from django_txtest.readonly.policy import Protection, protection_of, tables_of

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    _Base = ModelAdmin[Any]
else:
    _Base = object


class ReadOnlyAdminMixin(_Base):
    """Shows read-only models without add, change and delete, and says why.

    Put it before the ModelAdmin, or an inline: ``class JobAdmin(ReadOnlyAdminMixin,
    ModelAdmin)``. As long as the model may be written to, nothing changes.
    """

    def readonly_protection(self) -> Protection | None:
        """Return why the model is read-only where the admin writes to; or None."""
        if in_maintenance():
            return None
        alias = router.db_for_write(self.model)
        found = (protection_of(model, alias) for model in tables_of(self.model))
        return next(filter(None, found), None)

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Refuse while the model is read-only."""
        allowed = super().has_add_permission(request, *args)
        return allowed and self.readonly_protection() is None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse while the model is read-only."""
        allowed = super().has_change_permission(request, obj)
        return allowed and self.readonly_protection() is None

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse while the model is read-only."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and self.readonly_protection() is None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those see it that could change it, if it were not read-only."""
        return super().has_view_permission(
            request, obj
        ) or super().has_change_permission(request, obj)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Say why in the subtitle."""
        context = self._with_reason(extra_context, None)
        return super().changelist_view(request, context)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Say why in the subtitle."""
        obj = self.get_object(request, object_id) if object_id else None
        context = self._with_reason(extra_context, obj)
        return super().changeform_view(request, object_id, form_url, context)

    def _with_reason(
        self, context: dict[str, Any] | None, obj: Any
    ) -> dict[str, Any] | None:
        protection = self.readonly_protection()
        if protection is None:
            return context
        reason = _("read-only, by %(setting)s") % {"setting": protection.setting}
        subtitle = reason if obj is None else f"{obj} ({reason})"
        return {"subtitle": subtitle, **(context or {})}

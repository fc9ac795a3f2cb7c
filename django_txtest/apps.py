"""The app: brings the management commands, and checks the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured


class TxTestConfig(AppConfig):
    """django-txtest."""

    name = "django_txtest"
    verbose_name = "Transaction tests"

    def ready(self) -> None:
        """Register the system checks; guard read-only models; watch migrations."""
        from django_txtest.readonly.checks import check_managers, check_readonly
        from django_txtest.readonly.guard import install_guard
        from django_txtest.readonly.hooks import install_app_hooks
        from django_txtest.reset import watch_migrations

        for check in (check_settings, check_readonly, check_managers):
            checks.register(check)
        install_app_hooks()
        install_guard()
        watch_migrations()


def check_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Report settings of ours that have no usable value (`txtest.E001`)."""
    from django_txtest.conf import Settings, settings

    errors: list[checks.CheckMessage] = []
    for name in vars(Settings):
        try:
            getattr(settings, name)
        except ImproperlyConfigured as error:
            errors.append(checks.Error(str(error), id="txtest.E001"))
    return errors

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
        """Register the system check of our settings; watch migrations of test runs."""
        from django_txtest.reset import watch_migrations

        checks.register(check_settings)
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

"""Learns what migrations leave in a test database, before a test can flush it away."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core import mail
from django.db import connections
from django.db.models.signals import post_migrate

from django_txtest.databases import get_database, running_test_class
from django_txtest.reset.baselines import get_baseline


def watch_migrations() -> None:
    """Begin to watch; for the app's `ready`."""
    post_migrate.connect(_after_migrate)


def _after_migrate(sender: AppConfig, using: str, **kwargs: Any) -> None:
    is_test_run = hasattr(mail, "outbox")
    # A flush sends the signal too: that of a TransactionTestCase, after its test.
    if not is_test_run or running_test_class() is not None:
        return
    senders = [config for config in apps.get_app_configs() if config.models_module]
    if sender is senders[0]:
        # To be the last receiver: others put rows in the database.
        post_migrate.disconnect(_after_migrate)
        post_migrate.connect(_after_migrate)
    if sender is senders[-1]:
        baseline = get_baseline(get_database(connections[using]))
        if baseline.outlives_process:
            baseline.begin_class()

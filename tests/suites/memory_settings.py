"""The settings of the tests, with SQLite in memory."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

"""Settings for Django's own tests."""

from __future__ import annotations

import os

from django_txtest import embedded


def _database(name):
    folder = os.environ.get("TXTEST_SQLITE")
    if not folder:
        return embedded.find_database(NAME=name)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "TEST": {"NAME": f"{folder}/test_{name}.sqlite3"},
    }


DATABASES = {name: _database(name) for name in ("default", "other")}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "only for tests"
TEST_RUNNER = "compatibility.runner.Runner"
USE_TZ = False

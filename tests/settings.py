"""Settings of the test suite: PostgreSQL, unless runtests.py says otherwise."""

from __future__ import annotations

import importlib.util
import os
import warnings

from django_txtest import embedded

# Set here, since each process that a test starts imports this too. Only what our own
# code is warned of is an error: other packages' deprecations are theirs.
warnings.filterwarnings("error", module=r"(django_txtest|tests|runtests)(\.|$)")


if "TXTEST_MARIADB" in os.environ and not importlib.util.find_spec("MySQLdb"):
    import pymysql

    # Django asks for the version of mysqlclient, in whose place this is.
    pymysql.version_info = (2, 2, 1, "final", 0)
    pymysql.install_as_MySQLdb()


def _database(name, **overrides):
    socket = os.environ.get("TXTEST_MARIADB")
    if socket:
        server = {"ENGINE": "django.db.backends.mysql", "USER": "root", "HOST": socket}
        return {**server, "NAME": "txtest", **overrides}
    # The name is made by the runner: nothing of a SQLite run outlives it.
    folder = os.environ.get("TXTEST_SQLITE")
    if not folder:
        return embedded.find_database(**overrides)
    test = {"NAME": f"{folder}/test_{name}.sqlite3", **overrides.pop("TEST", {})}
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "OPTIONS": {"timeout": 20},
        **overrides,
        "NAME": f"{folder}/{name}.sqlite3",
        "TEST": test,
    }


DATABASES = {
    "default": _database("default"),
    "other": _database("other", NAME="other"),
    "replica": _database("replica", TEST={"MIRROR": "default"}),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sites",
    "django_txtest",
    "tests.library",
    "tests.vault",
]
# Else Django 6.1 warns of the settings that are deprecated in favour of this one.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "tests.urls"
SECRET_KEY = "only for tests"
SITE_ID = 1
USE_TZ = True

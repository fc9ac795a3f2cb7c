"""Settings of the example shop.

The database is the one that DATABASE_URL names (``postgres://...``, or
``sqlite:////absolute/path``); without it, a throw-away PostgreSQL that is started
for this process.
"""

import os
from pathlib import Path

import dj_database_url
import django

from django_txtest import embedded

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = "an example has no secrets"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

# Forms in, JSON out, no cookies: nothing here needs sessions or a CSRF token.
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
INSTALLED_APPS = ["django_txtest", "shop"]
ROOT_URLCONF = "shop_project.urls"
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Mail is printed.
console = "django.core.mail.backends.console.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": console}}
else:
    EMAIL_BACKEND = console

if url := os.environ.get("DATABASE_URL"):
    DATABASES = {"default": dj_database_url.parse(url)}
else:
    DATABASES = {"default": embedded.find_database()}

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"] |= {
        # An atomic block takes SQLite's one write lock when it begins. By default it
        # would ask for it at the first write, and be refused with "database is
        # locked" where another connection has written since its first read.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        # A file: threads do not wait for each other's locks on the database in
        # memory that Django would otherwise make for tests.
        "TEST": {"NAME": str(BASE_DIR / "test_shop.sqlite3")},
    }

"""For programs of tests that need no database."""

SECRET_KEY = "a test has no secrets"
INSTALLED_APPS = ["django_txtest"]
DATABASES: dict[str, dict[str, object]] = {}
USE_TZ = True

"""For this process, which gives the database, and for those that it starts."""

from __future__ import annotations

import json
import os

SECRET_KEY = "a benchmark has no secrets"
DATABASES = {"default": json.loads(os.environ["BENCHMARK_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ALLOWED_HOSTS = ["testserver"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "benchmarks.project.urls"
INSTALLED_APPS = ["benchmarks.project"]
if "BENCHMARK_PEER" not in os.environ:  # whose database has nothing of ours in it
    INSTALLED_APPS.append("django_txtest")
if "DJANGO_CONCURRENT_TESTS_PARENT_PID" in os.environ:  # in a process of the peer
    INSTALLED_APPS.insert(0, "django_concurrent_tests")
# The peer wants a program.
MANAGE_PY_PATH = os.environ["BENCHMARK_MANAGE_PY"]

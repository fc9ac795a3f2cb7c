"""The settings of the tests, with test databases of other names."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

for alias, database in DATABASES.items():
    if "TXTEST_SUITE_USER" in os.environ:
        database["USER"] = os.environ["TXTEST_SUITE_USER"]
    test = database["TEST"] = dict(database.get("TEST", {}))
    if "MIRROR" not in test:
        test["NAME"] = f"{os.environ['TXTEST_SUITE_PREFIX']}_{alias}"

if "TXTEST_SUITE_WITHOUT_APP" in os.environ:
    INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "django_txtest"]

if "TXTEST_SUITE_READONLY" in os.environ:
    TXTEST_READONLY = json.loads(os.environ["TXTEST_SUITE_READONLY"])

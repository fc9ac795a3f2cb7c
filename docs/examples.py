"""What the examples need when the doctest builder runs them."""

from __future__ import annotations

import atexit
import os
import re
import textwrap
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parents[1] / "README.rst"


def make_database() -> None:
    """Set up the example project, with a database that goes away with this process."""
    if os.environ.get("DATABASE_URL", "").startswith("sqlite"):
        del os.environ["DATABASE_URL"]  # the examples are about PostgreSQL
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop_project.settings"
    import django

    django.setup()
    from shop.throwaway import throwaway_database

    stack = ExitStack()
    atexit.register(stack.close)
    stack.enter_context(throwaway_database())


def run_tests(*classes: type[unittest.TestCase]) -> None:
    """Run the tests of the classes, and print what became of them."""
    for cls in classes:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(cls)
        result = unittest.TestResult()
        unittest.TestSuite([suite]).run(result)
        for _, problem in [*result.errors, *result.failures]:
            print(problem)
        good = "OK" if result.wasSuccessful() else "FAILED"
        print(f"{cls.__name__}: {result.testsRun} run, {good}")


def run_readme() -> None:
    """Run the test classes in the README, whose blocks are one module."""
    pattern = r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)"
    blocks = re.findall(pattern, README.read_text("utf-8"), re.MULTILINE)
    code = [block for block in blocks if "DATABASES" not in block]
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(textwrap.dedent("".join(code)), namespace)
    run_tests(
        *(
            value
            for value in namespace.values()
            if isinstance(value, type) and value.__module__ == "readme"
        )
    )

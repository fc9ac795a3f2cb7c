#!/usr/bin/env python
"""The example shop's command line: ``python3 example_project/manage.py find_races``.

On a fresh checkout the first run builds the environment that it needs.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from bootstrap import ensure_environment

    ensure_environment(extras=("postgres",))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_project.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

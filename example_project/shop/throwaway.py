"""A database for a demonstration, so that nobody's own data is touched."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import connection
from django.test.utils import setup_test_environment, teardown_test_environment


@contextmanager
def throwaway_database() -> Iterator[None]:
    """Migrate a new database beside the default one, use it, and drop it.

    Mail goes nowhere in the meantime, as in a test run.
    """
    own_name = connection.settings_dict["NAME"]
    test_settings = connection.settings_dict["TEST"]
    own_test_name = test_settings["NAME"]
    # With the process's id in it, the name is nobody else's: not even a test run's.
    name = f"test_find_races_{os.getpid()}"
    if connection.vendor == "sqlite":
        name = str(Path(tempfile.gettempdir(), f"{name}.sqlite3"))
    test_settings["NAME"] = name
    setup_test_environment()
    try:
        with terminated_like_ctrl_c():
            with uninterrupted():
                connection.creation.create_test_db(verbosity=0, autoclobber=True)
            yield
    finally:
        if connection.settings_dict["NAME"] == name:
            with uninterrupted():
                connection.close()
                end_other_sessions()
                connection.creation.destroy_test_db(own_name, verbosity=0)
        teardown_test_environment()
        test_settings["NAME"] = own_test_name


def end_other_sessions() -> None:
    """End what calls have left behind: a database in use cannot be dropped.

    There is nothing of the kind unless they were interrupted.
    """
    if connection.vendor == "postgresql":
        own = connection.copy()
        with closing(own), own.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until the end of the block."""
    held_back = []
    handlers = {
        number: signal.signal(number, lambda *args: held_back.append(args))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held_back:
        raise KeyboardInterrupt


@contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that what is left is cleared up."""
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)

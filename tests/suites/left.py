"""What a process has that explored; imported where Django may not be set up."""

from __future__ import annotations

import threading


def left_behind():
    """Return how many connections are open, and the names of what is only a test's."""
    from django.core import mail
    from django.db import connections

    opened = [c for c in connections.all(initialized_only=True) if c.connection]
    names = [str(connections[alias].settings_dict["NAME"]) for alias in connections]
    return (
        len(opened),
        [thread.name for thread in threading.enumerate() if "txtest" in thread.name],
        hasattr(mail, "outbox"),
        [name for name in names if "_txtest_" in name],
    )

"""What this process has at a moment: for those that look for leaks."""

from __future__ import annotations

import gc
import os
import threading

from django.db import connection


def left() -> dict[str, int]:
    """Return what this process has: memory, processes, threads, files and so on."""
    gc.collect()
    with open("/proc/self/status") as file:
        rss = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        processes = len(file.read().split())
    sessions = 0
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database()"
            )
            (sessions,) = cursor.fetchone()
    return {
        "RSS, KiB": rss,
        "processes": processes,
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "sessions": sessions,
        "objects": len(gc.get_objects()),
    }

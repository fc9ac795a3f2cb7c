"""What Linux tells of a thread or process, by its folder in /proc."""

from __future__ import annotations

import os

_THREADS = "/proc/self/task"


def busy_time(task: str) -> float:
    """Return for how long a task has run, or was kept from a processor, in seconds.

    What is slow, or slowed down by others, is not what waits for a lock.

    :returns: 0 where the system does not tell.
    """
    try:
        with open(f"{task}/schedstat", "rb") as file:
            running, kept, *_ = file.read().split()
    except (OSError, ValueError):
        return 0.0
    return (int(running) + int(kept)) / 1e9


def busy_time_of_threads() -> float:
    """Return for how long the threads of this process have been busy, in all.

    While one of them is, another may be waiting for the interpreter.
    """
    try:
        threads = os.listdir(_THREADS)
    except OSError:
        return 0.0
    return sum(busy_time(f"{_THREADS}/{thread}") for thread in threads)


def is_at_disk(task: str) -> bool:
    """Tell whether a task waits for a disk now; False where the system does not tell.

    See `proc_pid_stat` in https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html.
    """
    try:
        with open(f"{task}/stat", "rb") as file:
            # The name before it may have blanks and brackets of its own.
            state = file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == b"D"


def task_of_thread(native_id: int | None) -> str:
    """Return the folder of a thread of this process."""
    return f"{_THREADS}/{native_id}"

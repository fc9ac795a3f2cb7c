"""The shop's tests, one file for each race and then some.

Each race is shown in the racy service and shown to be gone from the fixed one. The
calls run in threads that start together, each with a connection of its own; the
network calls in between last longer than it takes them all to read.
"""

from collections.abc import Callable


def seen(batch: Callable[[], bool], attempts: int = 20) -> bool:
    """Run the batch until it shows its race, and say whether it ever did.

    Once is nearly always enough. But on a machine that is busy with something else
    one call may be through before another has read a thing.
    """
    return any(batch() for _ in range(attempts))

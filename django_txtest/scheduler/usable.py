"""Which databases can be explored."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connections

from django_txtest.concurrency.options import is_in_event_loop, usable_aliases
from django_txtest.databases import get_database
from django_txtest.exceptions import DatabaseNotSupported, InvalidCall


def explored_aliases(databases: Iterable[str] | None) -> list[str]:
    """Return the aliases that sessions pause on.

    :raises DatabaseNotSupported: if one of them cannot be explored.
    :raises InvalidCall: for one that the test may not use, and in a coroutine.
    """
    if is_in_event_loop():
        raise InvalidCall(
            "Interleavings cannot be explored by a coroutine, where Django refuses "
            "databases. Write await sync_to_async(self.assertSerializable)(...), or a "
            "test that is no coroutine; the calls may be coroutine functions all the "
            "same."
        )
    usable = usable_aliases(shared=True)
    # A mirror is another name of a database; its sessions are paused all the same.
    aliases = usable if databases is None else list(databases)
    for alias in aliases:
        if alias not in usable:
            raise InvalidCall(
                f"databases has {alias!r}, which this test may not use. Add it to "
                f"`databases` of the test class."
            )
        obstacle = get_database(connections[alias]).exploration_obstacle()
        if obstacle:
            raise DatabaseNotSupported(
                f"Interleavings cannot be explored on {alias!r}: {obstacle}"
            )
    return aliases

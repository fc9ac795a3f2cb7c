"""Hooks into a connection, so that whatever it is told to do is a step first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_txtest.databases import text_of
from django_txtest.history import Kind

#: The methods of cursors, psycopg2's and psycopg 3's; which argument says what they do,
#: and how one would write that in SQL.
_METHODS = {
    "copy": (0, "{}"),
    "copy_expert": (0, "{}"),
    "copy_from": (1, "COPY {} FROM STDIN"),
    "copy_to": (1, "COPY {} TO STDOUT"),
}

#: Makes a step of some SQL in a database, by what does it.
MakeStep = Callable[[BaseDatabaseWrapper, str, Callable[[], Any]], Any]
#: Returns what ends a transaction, as a step.
MakeEnd = Callable[[BaseDatabaseWrapper, Kind, Callable[[], None]], Callable[[], None]]


@contextmanager
def hooked(
    connection: BaseDatabaseWrapper,
    execute: Callable[..., Any],
    end_of: MakeEnd,
    step: MakeStep,
) -> Iterator[None]:
    """Have what the connection does be steps, within the block.

    :param execute: a wrapper as `connection.execute_wrapper` takes it.
    """
    with ExitStack() as stack:
        stack.enter_context(connection.execute_wrapper(execute))
        hooks: dict[str, Callable[[Any], Any]] = {
            "_commit": partial(end_of, connection, Kind.COMMIT),
            "_rollback": partial(end_of, connection, Kind.ROLLBACK),
            "make_cursor": partial(_watched, connection, step),
            "make_debug_cursor": partial(_watched, connection, step),
        }
        # Private, and the only place: wrappers do not see the end of a transaction, nor
        # COPY. Set on this connection, and taken off again.
        for name, hook in hooks.items():
            setattr(connection, name, hook(getattr(connection, name)))
            stack.callback(delattr, connection, name)
        yield


def _watched(
    connection: BaseDatabaseWrapper, step: MakeStep, make: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Return what makes cursors whose methods for COPY are steps, too."""

    def make_cursor(cursor: Any) -> Any:
        made = make(cursor)
        for name in _METHODS:
            method = getattr(made, name, None)
            if method is not None:
                setattr(made, name, partial(call, name, method))
        return made

    def call(name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        position, template = _METHODS[name]
        what = args[position] if len(args) > position else name
        sql = template.format(text_of(what, connection))
        return step(connection, sql, partial(method, *args, **kwargs))

    return make_cursor

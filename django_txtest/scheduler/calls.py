"""The calls whose interleavings are wanted, each with the name of its session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from types import MethodType
from typing import Any
from uuid import UUID

from django_txtest.concurrency.calls import Call, Target, resolve
from django_txtest.exceptions import InvalidCall
from django_txtest.scheduler.schedule import MAX_SESSIONS


class Session:
    """A call that is made in a session of its own, under a name.

    :param name: for transcripts and messages.
    :param target: a callable or ``"package.module:function"``, with its arguments.
    """

    def __init__(self, name: str, target: Target, /, *args: Any, **kwargs: Any) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidCall(f"{name!r} is not a name. Write Session('alice', ...).")
        if not (callable(target) or isinstance(target, str)):
            raise InvalidCall(
                f"The target {target!r} of session {name!r} is not a callable: was it "
                f"called already? Write Session({name!r}, target, *args)."
            )
        resolve(target)
        self.name = name
        self.target = target
        self.args = args
        self.kwargs = kwargs

    @property
    def description(self) -> str:
        """The call, about as one would write it."""
        target, args, kwargs = self.target, self.args, self.kwargs
        while isinstance(target, partial):
            args = (*target.args, *args)
            kwargs = {**target.keywords, **kwargs}
            target = target.func
        written = [short(arg) for arg in args]
        written += [f"{name}={short(value)}" for name, value in kwargs.items()]
        return f"{name_of(target)}({', '.join(written)})"

    def call(self) -> Call:
        """Return the call, with the language and the time zone that hold now."""
        return Call(f"session {self.name}", self.target, self.args, dict(self.kwargs))

    def __repr__(self) -> str:
        return f"<session {self.name}: {self.description}>"


def parse_sessions(calls: Iterable[Session | Callable[..., Any]]) -> list[Session]:
    """Make sessions of what users write; a bare callable is named s1, s2, ...

    :raises InvalidCall: for what is neither, for names that are not unique, and for
        fewer or more sessions than can be run.
    """
    calls = list(calls)
    for number, call in enumerate(calls, start=1):
        if isinstance(call, (tuple, list)):
            raise InvalidCall(
                f"Call {number} is a {type(call).__name__}: {short(call)}. Pass calls "
                f"one by one, each with its arguments: partial(target, *args), or "
                f"Session('ada', target, *args) to name its session."
            )
    sessions = [
        call if isinstance(call, Session) else Session(f"s{number}", call)
        for number, call in enumerate(calls, start=1)
    ]
    names = [session.name for session in sessions]
    if len(set(names)) < len(names):
        raise InvalidCall(f"Two sessions have the same name: {', '.join(names)}.")
    if not 1 <= len(sessions) <= MAX_SESSIONS:
        raise InvalidCall(
            f"There are {len(sessions)} calls. Give from one to {MAX_SESSIONS}."
        )
    return sessions


def find_twins(sessions: Sequence[Session]) -> tuple[int | None, ...]:
    """Return for each the last session before it that makes the same call, or None."""
    twins: list[int | None] = []
    for number, session in enumerate(sessions):
        before = (n for n in reversed(range(number)) if _same(sessions[n], session))
        twins.append(next(before, None))
    return tuple(twins)


def _same(one: Session, other: Session) -> bool:
    (target, *arguments), (other_target, *others) = map(_unwrapped, (one, other))
    return is_same(target, other_target) and (
        len(arguments) == len(others) and all(map(is_same, arguments, others))
    )


def _unwrapped(session: Session) -> list[Any]:
    """Return a target and its arguments, where a partial has some, too."""
    target, args, kwargs = session.target, session.args, session.kwargs
    while isinstance(target, partial):
        args = (*target.args, *args)
        kwargs = {**target.keywords, **kwargs}
        target = target.func
    return [target, args, *sorted(kwargs), *(kwargs[name] for name in sorted(kwargs))]


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are one, or can be told apart by nothing."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    # Of what can change, two that are equal need not stay so; of bound methods, it is
    # the object that counts.
    if isinstance(one, MethodType):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return isinstance(one, (int, str, bytes, float, Decimal, UUID)) and one == other


def shown(value: object) -> str:
    """Return how a value shows itself, whatever goes wrong with that.

    The text of a model instance may well be made of a row that another call deletes.
    """
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - it is the user's
        return f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"


def short(value: object) -> str:
    """Return how a value shows itself, in at most 100 characters."""
    text = shown(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def name_of(target: object) -> str:
    """Return what a callable is called in the code."""
    if isinstance(target, str):
        return target.rpartition(":")[2]
    owner = getattr(target, "__self__", None)
    name = getattr(target, "__name__", None)
    if owner is not None and name and not isinstance(owner, type(sys)):
        return f"{type(owner).__name__}.{name}"
    return str(name or repr(target))

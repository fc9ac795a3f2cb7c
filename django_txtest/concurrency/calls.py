"""A call that is to be made concurrently with others."""

from __future__ import annotations

import inspect
import pkgutil
import time
from bdb import BdbQuit
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, TypeAlias

from asgiref.sync import async_to_sync
from django.db.models import QuerySet
from django.utils import timezone, translation

from django_txtest.exceptions import CallError, InvalidCall
from django_txtest.outcomes import Outcome
from django_txtest.readonly.scopes import Scopes, active_scopes, entered

Target: TypeAlias = "Callable[..., Any] | str"
CallSpec: TypeAlias = (
    "Target | tuple[Target, Mapping[str, Any]] "
    "| tuple[Target, Sequence[Any], Mapping[str, Any]]"
)


@dataclass(frozen=True)
class Call:
    """A target with its arguments, and a label for messages."""

    label: str
    target: Target
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: Those of the caller, which hold in the call too.
    language: str | None = field(default_factory=translation.get_language)
    time_zone: tzinfo = field(default_factory=timezone.get_current_timezone)
    scopes: Scopes = field(default_factory=active_scopes)

    def make(self, *, interactive: bool = False) -> Outcome:
        """Make the call here and now; what it raises is in the outcome.

        :param interactive: let Ctrl-C and the end of a debugger through.
        """
        value, error = None, None
        started = time.monotonic()
        try:
            with self.surroundings():
                value = _finish(resolve(self.target)(*self.args, **self.kwargs))
        except BaseException as original:
            if interactive and isinstance(original, (KeyboardInterrupt, BdbQuit)):
                raise
            error = CallError(self.label, original)
        duration = time.monotonic() - started
        return Outcome(value=value, error=error, started=started, duration=duration)

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Within the block, what holds for the caller's thread holds here."""
        with ExitStack() as stack:
            stack.enter_context(entered(self.scopes))
            # Not where it is so already: it loads the catalogues of the language.
            if translation.get_language() != self.language:
                stack.enter_context(translation.override(self.language))
            if timezone.get_current_timezone() != self.time_zone:
                stack.enter_context(timezone.override(self.time_zone))
            yield


def _finish(value: Any) -> Any:
    """Do what a call has only promised to do."""
    if inspect.isawaitable(value):
        return async_to_sync(_wait_for)(value)
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise InvalidCall(
            "The target returned a generator, which has not begun to run. Let it "
            "return list(...) of it."
        )
    if isinstance(value, QuerySet):
        len(value)  # runs the query, here and with the connection of the call
    return value


def frames_of_call(frames: Sequence[str]) -> str:
    """Return the text of a stack, the most recent call last, from the target on."""
    for number in range(len(frames), 0, -1):
        if f'File "{__file__}"' in frames[number - 1]:
            return "\n".join(frame.rstrip("\n") for frame in frames[number:])
    return "\n".join(frame.rstrip("\n") for frame in frames)


def has_whole_call(frames: Sequence[str]) -> bool:
    """Tell whether a stack, the most recent call first, goes down to the target.

    Or as far as faulthandler writes it: what is too deep ends with dots.
    """
    return any(f'File "{__file__}"' in frame for frame in frames) or (
        bool(frames) and frames[-1].strip() == "..."
    )


async def _wait_for(value: Awaitable[Any]) -> Any:
    return await value


def resolve(target: Target) -> Callable[..., Any]:
    """Return the callable that `target` is or names.

    :raises InvalidCall: if it names none.
    """
    if not isinstance(target, str):
        return target
    if ":" not in target:
        raise InvalidCall(
            f"{target!r} does not name a target. Write 'package.module:function'."
        )
    try:
        function = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidCall(f"The target {target!r} cannot be found: {error}") from error
    if not callable(function):
        raise InvalidCall(f"The target {target!r} is not callable: {function!r}")
    return function  # type: ignore[no-any-return]


def parse_calls(specs: Iterable[CallSpec]) -> list[Call]:
    """Make calls of what users write.

    :raises InvalidCall: for anything that is not one of the three forms of a call.
    """
    if not isinstance(specs, Iterable):
        raise InvalidCall(f"{specs!r} is not a list of calls. Write [{specs!r}].")
    is_one_call = isinstance(specs, tuple) and any(
        isinstance(part, Mapping) for part in specs
    )
    if is_one_call:
        raise InvalidCall(f"{specs!r} is one call, not a list. Write [{specs!r}].")
    calls = [_parse(number, spec) for number, spec in enumerate(specs, start=1)]
    if not calls:
        raise InvalidCall("There are no calls to make.")
    return calls


def _parse(number: int, spec: Any) -> Call:
    args: Any = ()
    kwargs: Any = {}
    target: Any
    match spec:
        case (target, kwargs):
            pass
        case (target, args, kwargs):
            pass
        case _:
            target = spec
    if isinstance(spec, list):
        problem = "It is a list: pass the calls one by one, as in *calls."
    elif isinstance(spec, int):
        problem = "A number of the same calls is for call_concurrently()."
    elif not (callable(target) or isinstance(target, str)):
        problem = f"The target {target!r} is not a callable: was it called already?"
    elif not isinstance(args, Sequence) or isinstance(args, str):
        problem = f"The arguments {args!r} are not a list or tuple."
    elif not isinstance(kwargs, Mapping):
        problem = f"The keyword arguments {kwargs!r} are not a dict."
    else:
        problem = ""
    if problem:
        raise InvalidCall(
            f"Call {number} is {spec!r}. {problem} A call is a target, "
            f"(target, kwargs) or (target, args, kwargs), and a target is a callable "
            f"or 'package.module:function'."
        )
    resolve(target)  # an error here is earlier and plainer than one in a child
    return Call(f"call {number} ({_name(target)})", target, tuple(args), dict(kwargs))


def _name(target: Target) -> str:
    if isinstance(target, str):
        return target
    target = getattr(target, "func", target)  # a functools.partial
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", None)
    if module and name:
        return f"{module}:{name}"
    return f"{type(target).__module__}:{type(target).__qualname__}"

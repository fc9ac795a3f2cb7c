"""What travels between the caller and the processes of its calls."""

from __future__ import annotations

import copyreg
import io
import logging
import pickle
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import WrapperDescriptorType
from typing import Any

import cloudpickle
from django.conf import UserSettingsHolder, global_settings, settings
from django.core import mail
from django.db import connection, connections
from tblib import pickling_support

from django_txtest.concurrency import measuring
from django_txtest.concurrency.calls import Call
from django_txtest.exceptions import CallError, PicklingError, RemoteError
from django_txtest.outcomes import Outcome


@dataclass(frozen=True)
class Surroundings:
    """What a fresh process takes over from its parent before it makes a call."""

    #: For each alias that may be used, the settings of its database as it is now.
    databases: dict[str, dict[str, Any]]
    in_test_environment: bool
    warning_filters: list[tuple[Any, ...]]
    #: The level that was set for each logger, and for all of them.
    logging_levels: dict[str, int]
    logging_disabled: int

    @classmethod
    def here(cls, aliases: Sequence[str]) -> Surroundings:
        """Return the surroundings of the calling code."""
        return cls(
            databases={alias: connections[alias].settings_dict for alias in aliases},
            in_test_environment=hasattr(mail, "outbox"),
            warning_filters=list(filter(_is_picklable, warnings.filters)),
            logging_levels={
                name: logger.level
                for name, logger in logging.root.manager.loggerDict.items()
                if isinstance(logger, logging.Logger) and logger.level
            },
            logging_disabled=logging.root.manager.disable,
        )

    def put_warnings(self) -> None:
        """Put the filters of warnings in place."""
        warnings.resetwarnings()
        for action, message, category, module, line in reversed(self.warning_filters):
            warnings.filterwarnings(
                action,
                _pattern(message),
                category,
                _pattern(module),
                line,
            )

    def put_logging(self) -> None:
        """Put the levels of loggers in place."""
        for name, level in self.logging_levels.items():
            logging.getLogger(name).setLevel(level)
        logging.disable(self.logging_disabled)


def _pattern(condition: re.Pattern[str] | str | None) -> str:
    # The interpreter's own filters have plain strings, which are not patterns.
    if isinstance(condition, str):
        return re.escape(condition) + r"\Z"
    return condition.pattern if condition else ""


def _is_picklable(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - code of users' classes
        return False
    return True


@dataclass(frozen=True)
class ChangedSettings:
    """The settings that differ from the settings module."""

    #: Pickled one by one.
    values: dict[str, bytes]
    deleted: frozenset[str]

    @classmethod
    def here(cls) -> ChangedSettings:
        """Return what differs for the calling code.

        :raises PicklingError: that names the setting which cannot be pickled.
        """
        changed, deleted = changed_settings()
        return cls(
            {
                name: pack(value, f"The setting {name}")
                for name, value in changed.items()
            },
            frozenset(deleted),
        )


@dataclass(frozen=True)
class Job:
    """A call, and all that a process needs to make it."""

    label: str
    settings: ChangedSettings
    #: Unpickled on its own, once the settings are in place.
    packed_call: bytes
    #: How it meets the other calls.
    meet: str | None
    plan: measuring.Plan | None


def pack_surroundings(aliases: Sequence[str]) -> bytes:
    """Pickle the surroundings of the calling code.

    :raises PicklingError: that says why they cannot be.
    """
    return pack(Surroundings.here(aliases), "What the settings say")


def pack_jobs(calls: Sequence[Call], meet: str | None) -> list[Job]:
    """Pickle calls with the settings that are in force.

    :raises PicklingError: that names what cannot be pickled.
    """
    settings, plan = ChangedSettings.here(), measuring.plan()
    return [Job(call.label, settings, _pack_call(call), meet, plan) for call in calls]


def _pack_call(call: Call) -> bytes:
    try:
        return _pickle(call)
    except Exception:  # noqa: BLE001 - to say which part it was
        for name, value in _parts(call):
            pack(value, f"The {name} of {call.label}")
        return pack(call, call.label.capitalize())


def _parts(call: Call) -> list[tuple[str, Any]]:
    return [
        ("target", call.target),
        *((f"argument {i}", value) for i, value in enumerate(call.args, start=1)),
        *((f"argument {name!r}", value) for name, value in call.kwargs.items()),
    ]


def pack_outcome(outcome: Outcome, label: str) -> bytes:
    """Pickle the outcome of the call named `label`.

    What cannot be pickled in it is replaced by an error that says so.
    """
    try:
        if outcome.error is not None:
            _teach_pickle(outcome.error.original)
        packed: bytes = cloudpickle.dumps(outcome)
        pickle.loads(packed)  # some exceptions can be pickled, but not unpickled
    except Exception as failure:  # noqa: BLE001 - classes of users may raise anything
        return cloudpickle.dumps(_portable(outcome, label, failure))  # type: ignore[no-any-return]
    return packed


def _teach_pickle(error: BaseException) -> None:
    """Let pickle keep the traceback, cause, notes and attributes of `error`."""
    pickling_support.install(error)
    seen: set[int] = set()  # of ids, as an exception need not have a hash
    waiting: list[BaseException | None] = [error]
    while waiting:
        error_or_none = waiting.pop()
        if error_or_none is None or id(error_or_none) in seen:
            continue
        seen.add(id(error_or_none))
        waiting += [error_or_none.__cause__, error_or_none.__context__]
        cls = type(error_or_none)
        if isinstance(cls.__init__, WrapperDescriptorType):
            # Written in C, as that of SystemExit: it sets what only it can set, so
            # it has to be called. tblib does that for those that it is told of.
            inits = (OSError.__init__, BaseException.__init__, cls.__init__)
            copyreg.pickle(
                cls, partial(pickling_support.pickle_exception, builtin_inits=inits)
            )


def _portable(outcome: Outcome, label: str, failure: Exception) -> Outcome:
    if outcome.error is not None:
        lines = traceback.format_exception(outcome.error.original)
        summary = f"{lines[-1].strip()} (which cannot be pickled: {failure})"
        original: Exception = RemoteError("\n".join([summary, "".join(lines)]))
    else:
        why = str(failure).rstrip(".")
        original = PicklingError(
            f"The result, a {type(outcome.value).__qualname__}, cannot be pickled: "
            f"{why}. Return something that can, such as a primary key."
        )
    return replace(outcome, value=None, error=CallError(label, original))


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Sends Django's own globals, which a lambda may use, by their names."""

    def reducer_override(self, obj: Any) -> Any:
        name = _GLOBALS.get(id(obj))
        if name is not None:
            return pkgutil.resolve_name, (name,)
        if type(obj) is memoryview:
            return memoryview, (bytes(obj),)
        if type(obj).__module__ == "psycopg2.extensions" and hasattr(obj, "adapted"):
            return type(obj), (obj.adapted,)  # what it makes of bytes, for one
        return super().reducer_override(obj)


_GLOBALS = {
    id(settings): "django.conf:settings",
    id(connection): "django.db:connection",
    id(connections): "django.db:connections",
}


def _pickle(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def pack(value: Any, what: str, instead: str = "use using='threads'") -> bytes:
    """Pickle what is to be sent to a process, by value where it has no name.

    :param instead: the remedy, if nothing else can be passed.
    :raises PicklingError: that says what it was.
    """
    try:
        return _pickle(value)
    except Exception as error:
        raise PicklingError(
            f"{what} cannot be pickled, so it cannot be sent to a process: "
            f"{type(error).__name__}: {error}. Pass something that can be, or "
            f"{instead}."
        ) from error


def settings_module() -> str | None:
    """Return the name of the settings module; None if `settings.configure` was used."""
    *_, bottom = _settings_layers()
    return getattr(bottom, "SETTINGS_MODULE", None)


def _settings_layers() -> Iterator[Any]:
    # Private: `_wrapped`, and `_deleted` below. override_settings lays a holder over
    # the settings for each time that it is in force; there is no way to list them.
    layer: Any = settings._wrapped
    while isinstance(layer, UserSettingsHolder):
        yield layer
        layer = layer.default_settings
    yield layer


def changed_settings() -> tuple[dict[str, Any], set[str]]:
    """Return the settings that differ from the settings module, and those deleted."""
    *holders, bottom = _settings_layers()
    changed = _assigned_settings(bottom)
    deleted: set[str] = set()
    for holder in reversed(holders):
        deleted_here = vars(holder)["_deleted"]
        for name in deleted_here:
            changed.pop(name, None)
        here = {name: value for name, value in vars(holder).items() if name.isupper()}
        changed |= here
        deleted = (deleted | deleted_here) - here.keys()
    changed.pop("DATABASES", None)  # travel by themselves, as they are in a test
    return changed, deleted


def _assigned_settings(bottom: Any) -> dict[str, Any]:
    """Return what was assigned to the settings, rather than overridden."""
    original = settings_of_module()
    return {
        name: value
        for name, value in vars(bottom).items()
        if name.isupper()
        and name != "SETTINGS_MODULE"
        and value is not original.get(name)
    }


def settings_of_module() -> dict[str, Any]:
    """Return the settings as the settings module and Django have them."""
    return {**vars(global_settings), **vars(sys.modules[settings_module() or ""])}

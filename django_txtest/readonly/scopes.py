"""Scopes within which models may be written to, or may not.

They are local to the context: threads and tasks that share none do not see them.
"""

from __future__ import annotations

import functools
import inspect
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from django.apps import apps
from django.db.models import Model

from django_txtest.readonly.levels import Level

F = TypeVar("F", bound=Callable[..., Any])
#: What a scope can be told of: a class, "app.Model", or "app".
ModelLike: TypeAlias = "type[Model] | str"


@dataclass(frozen=True)
class Scope:
    """What one of the blocks that the code is in says. It can be pickled."""

    allows: bool
    #: Lower-case labels of models and apps; None for every model and table.
    labels: frozenset[str] | None
    level: Level | None = None

    def concerns(self, label: str | None) -> bool:
        """Tell whether it is about the model; None is for a table without one."""
        if self.labels is None:
            return True
        if label is None:
            return False
        return label in self.labels or label.partition(".")[0] in self.labels


Scopes: TypeAlias = "tuple[Scope, ...]"

_active: ContextVar[Scopes] = ContextVar("django_txtest_writes", default=())


def active_scopes() -> Scopes:
    """Return the scopes that the calling code is in, the innermost last."""
    return _active.get()


@contextmanager
def entered(scopes: Scopes) -> Iterator[None]:
    """Within the block, these scopes hold and no others, as where they were taken."""
    token = _active.set(scopes)
    try:
        yield
    finally:
        _active.reset(token)


class _Writes:
    """A context manager, and a decorator of functions, coroutines and classes."""

    _allows: bool

    def __init__(self, *models: ModelLike, level: Level | None = None) -> None:
        is_bare = len(models) == 1 and not _is_model(models[0])
        if is_bare and callable(models[0]):
            name = type(self).__name__
            raise TypeError(f"{name} is called also as a decorator: write @{name}().")
        # Labels are looked up when the scope is entered: apps may not be loaded yet.
        self._models = models
        self._level = level
        self._before: list[Scopes] = []

    def __enter__(self) -> None:
        # No token of the variable: a runner may leave in another context.
        self._before.append(_active.get())
        labels = frozenset(map(_label, self._models)) if self._models else None
        _active.set((*_active.get(), Scope(self._allows, labels, self._level)))

    def __exit__(self, *error: object) -> None:
        _active.set(self._before.pop())

    def __call__(self, decorated: F) -> F:
        """Decorate a function, a coroutine function, a generator, or a test class."""
        if isinstance(decorated, type):
            self._decorate_class(decorated)
            return cast("F", decorated)
        return cast("F", self._decorate_function(decorated))

    def _anew(self) -> _Writes:
        return type(self)(*self._models, level=self._level)

    def _decorate_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with self._anew():
                    return await function(*args, **kwargs)

            return coroutine
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def async_generator(*args: Any, **kwargs: Any) -> Any:
                with self._anew():
                    async for value in function(*args, **kwargs):
                        yield value

            return async_generator
        if inspect.isgeneratorfunction(function):  # a fixture of pytest's

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                with self._anew():
                    return (yield from function(*args, **kwargs))

            return generator

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._anew():
                return function(*args, **kwargs)

        return wrapped

    def _decorate_class(self, cls: type) -> None:
        if issubclass(cls, unittest.TestCase):
            set_up_class = cls.setUpClass.__func__  # type: ignore[attr-defined]
            scope = self._anew

            def setUpClass(cls: type[unittest.TestCase]) -> None:
                entered = scope()
                entered.__enter__()
                cls.addClassCleanup(entered.__exit__)
                set_up_class(cls)

            cls.setUpClass = classmethod(setUpClass)  # type: ignore[assignment]
        # An IsolatedAsyncioTestCase takes its context before setUpClass; a class of
        # pytest has none.
        for name in dir(cls):
            is_test = name.startswith("test") or name in _SET_UP
            static = inspect.getattr_static(cls, name)
            if is_test and inspect.isfunction(static):
                setattr(cls, name, self._decorate_function(static))


_SET_UP = (
    "setUp",
    "asyncSetUp",
    "tearDown",
    "asyncTearDown",
    "setup_method",
    "teardown_method",
)


class allow_writes(_Writes):  # noqa: N801 - it is used like a function
    """Within the block, read-only models may be written to.

    It beats every setting, and a `forbid_writes` that it is within. As a decorator it
    is for functions, coroutine functions and generators, and for classes of tests, in
    ``setUpTestData`` and ``setUpClass`` too.

    :param models: classes, ``"app.Model"`` or ``"app"``; all, if there are none.
    :raises LookupError: when it is entered, if there is no such model or app.
    """

    _allows = True

    def __init__(self, *models: ModelLike, level: None = None) -> None:
        super().__init__(*models)


class forbid_writes(_Writes):  # noqa: N801
    """Within the block, models may not be written to.

    It beats every setting, and an `allow_writes` that it is within. It decorates what
    `allow_writes` does.

    :param models: classes, ``"app.Model"`` or ``"app"``; all tables, if there are none.
    :param level: ``"orm"``, ``"sql"`` or ``"db"``; that of the setting if left out.
    :raises ValueError: if there is no such level.
    :raises LookupError: when it is entered, if there is no such model or app.
    """

    _allows = False

    def __init__(self, *models: ModelLike, level: str | Level | None = None) -> None:
        super().__init__(*models, level=None if level is None else Level.of(level))


def _is_model(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, type) and issubclass(value, Model)
    )


def _label(model: ModelLike) -> str:
    if isinstance(model, str):
        if "." not in model:
            return str(apps.get_app_config(model).label.lower())
        model = apps.get_model(model)
    return model._meta.label_lower

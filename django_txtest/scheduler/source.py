"""Writes Python that makes values again, so that it can be pasted."""

from __future__ import annotations

import ast
import builtins
import sys
import unittest
from collections.abc import Callable
from enum import Enum
from functools import partial
from math import isfinite
from pkgutil import resolve_name
from typing import Any

from django.db import models

from django_txtest.scheduler.calls import Session, name_of

_PLAIN = (bool, int, str, bytes, type(None), type(Ellipsis))


class Writer:
    """Writes values, and notes what has to be imported for them.

    `unwritten` has what cannot be written, such as a lambda: there, the code has its
    description in angle brackets.
    """

    def __init__(self) -> None:
        self.unwritten: list[str] = []
        #: The modules that names are taken from, and those imported as they are.
        self._names: dict[str, str] = {}
        self._modules: set[str] = set()

    @property
    def imports(self) -> list[str]:
        """The lines that have to go before the code."""
        by_module: dict[str, list[str]] = {}
        for name, module in self._names.items():
            by_module.setdefault(module, []).append(name)
        lines = [(module, f"import {module}") for module in self._modules]
        lines += [
            (module, f"from {module} import {', '.join(sorted(names))}")
            for module, names in by_module.items()
        ]
        return [line for _, line in sorted(lines, key=_rank)]

    def name(self, module: str, name: str) -> str:
        """Write a name that a module has, with dots in it where it is in a class."""
        if module == "builtins":
            return name
        first = name.partition(".")[0]
        if self._names.setdefault(first, module) != module:
            self._modules.add(module)  # two modules have this name
            return f"{module}.{name}"
        return name

    def session(self, session: Session, number: int) -> str:
        """Write a session, which was given as the call of this number, from 1."""
        target = self.write(session.target)
        is_bare = not (
            session.args or session.kwargs or isinstance(session.target, str)
        )
        if is_bare and session.name == f"s{number}":
            return target
        arguments = self._arguments(session.args, session.kwargs)
        name = self.name("django_txtest", "Session")
        return f"{name}({', '.join([repr(session.name), target, *arguments])})"

    def write(self, value: Any) -> str:
        """Write any value."""
        match value:
            case Enum():
                return self._member(value)
            case float() if isfinite(value):
                return repr(value)
            case float():
                return f"float({str(value)!r})"
            case _ if type(value) in _PLAIN:
                return repr(value)
            case _ if type(value) in (list, tuple, set, frozenset, dict):
                return self._container(value)
            case partial():
                arguments = self._arguments(value.args, value.keywords)
                name = self.name("functools", "partial")
                return f"{name}({', '.join([self.write(value.func), *arguments])})"
            case unittest.TestCase():
                return "self"
            case models.Manager() if self._is_of_model(value):
                return f"{self.write(value.model)}.{value.name}"
            case models.Model() if value.pk is not None and not value._state.adding:
                return self._instance(value)
            case _ if callable(value) and (written := self._callable(value)):
                return written
            case _ if written := self._represented(value):
                return written
        return self._unwritten(value)

    def _arguments(self, args: Any, kwargs: Any) -> list[str]:
        named = [f"{name}={self.write(value)}" for name, value in kwargs.items()]
        return [*map(self.write, args), *named]

    def _container(self, value: Any) -> str:
        if isinstance(value, dict):
            items = [f"{self.write(k)}: {self.write(v)}" for k, v in value.items()]
            return f"{{{', '.join(items)}}}"
        items = [self.write(each) for each in value]
        match value:
            case list():
                return f"[{', '.join(items)}]"
            case tuple():
                return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
            case set() if items:
                return f"{{{', '.join(items)}}}"
        inner = f"[{', '.join(items)}]" if items else ""
        return f"{type(value).__name__}({inner})"

    def _member(self, value: Enum) -> str:
        cls = self._importable(type(value))
        if cls is None:
            return self._unwritten(value)
        if value.name in type(value).__members__:
            return f"{cls}.{value.name}"
        return f"{cls}({self.write(value.value)})"  # of several flags

    def _instance(self, instance: models.Model) -> str:
        model = type(instance)
        manager = f"{self.write(model)}.{model._default_manager.name}"
        alias = instance._state.db
        if alias not in (None, "default"):
            manager += f".using({alias!r})"
        return f"{manager}.get(pk={self.write(instance.pk)})"

    def _is_of_model(self, manager: models.Manager[Any]) -> bool:
        """Tell whether it is not that of a relation of one instance."""
        name = manager.name
        return bool(name) and getattr(manager.model, name, None) == manager

    def _callable(self, value: Callable[..., Any]) -> str | None:
        if written := self._importable(value):
            return written
        name = getattr(value, "__name__", "")
        owner = getattr(value, "__self__", None)
        # That of a list is about this list, and no other.
        if name and not isinstance(owner, (type(None), list, dict, set)):
            return f"{self.write(owner)}.{name}"
        # A function of the test, in which this is pasted.
        is_local = "<locals>" in getattr(value, "__qualname__", "")
        return name if is_local and name.isidentifier() else None

    def _importable(self, value: Any) -> str | None:
        """Write what is to be found in a module under its own name."""
        module = getattr(value, "__module__", None)
        name = getattr(value, "__qualname__", "")
        owner = getattr(value, "__self__", None)
        if isinstance(owner, type):  # a class method, maybe of a class further up
            module, name = owner.__module__, f"{owner.__qualname__}.{value.__name__}"
        if not module or not name:
            return None
        try:
            found = resolve_name(f"{module}:{name}")
        except (ImportError, AttributeError, ValueError):
            return None
        return self.name(module, name) if found == value else None

    def _represented(self, value: Any) -> str | None:
        """Write what shows itself as a call of its class, as a date does."""
        text = repr(value)
        try:
            names = {
                each.id
                for each in ast.walk(ast.parse(text, mode="eval"))
                if isinstance(each, ast.Name)
            }
        except (SyntaxError, ValueError, RecursionError):
            return None
        cls = type(value)
        names -= set(dir(builtins))
        if names and names <= {"datetime", "zoneinfo"}:
            self._modules |= names
            return text
        is_call = names == {cls.__name__} and self._importable(cls) == cls.__name__
        return text if is_call else None

    def _unwritten(self, value: Any) -> str:
        code = getattr(value, "__code__", None)
        if code is not None:
            text = f"{name_of(value).strip('<>')} of line {code.co_firstlineno}"
        else:
            text = repr(value).strip("<>")
        text = text if len(text) <= 60 else f"{text[:57]}..."
        self.unwritten.append(f"<{text}>")
        return self.unwritten[-1]


def _rank(line: tuple[str, str]) -> tuple[bool, tuple[str, str]]:
    return line[0].partition(".")[0] not in sys.stdlib_module_names, line

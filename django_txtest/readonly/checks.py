"""System checks: names that do not exist, levels that cannot be had, managers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models import Manager, Model

from django_txtest.readonly.hooks import QUERYSET_WRITES, is_asking
from django_txtest.readonly.levels import VENDORS, Level, possible
from django_txtest.readonly.models import declaration_of, declared_labels
from django_txtest.readonly.policy import SETTING, Config, current_config

_BY_CALL = "readonly_models()"


def check_readonly(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Report unknown names (`txtest.E002`) and impossible levels (`txtest.E003`)."""
    try:
        config = current_config()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="txtest.E002")]
    return [*_unknown_names(config), *_impossible_levels(config.level)]


def _unknown_names(config: Config) -> Iterator[checks.CheckMessage]:
    calls = declared_labels()
    named: list[tuple[str, str, Callable[[str], object]]] = [
        *((f'{SETTING}["models"]', name, apps.get_model) for name in config.models),
        *((f'{SETTING}["apps"]', name, apps.get_app_config) for name in config.apps),
        *((_BY_CALL, name, apps.get_model) for name in calls if "." in name),
        *((_BY_CALL, name, apps.get_app_config) for name in calls if "." not in name),
    ]
    for where, name, find in named:
        try:
            find(name)
        except (LookupError, ValueError):
            kind = "model" if find == apps.get_model else "app"
            message = f"{where} names {name!r}, and there is no such {kind}."
            yield checks.Error(message, hint=_HINTS[kind], id="txtest.E002")
    for alias in config.databases:
        if alias not in connections:
            message = f'{SETTING}["databases"] names {alias!r}, which DATABASES lacks.'
            yield checks.Error(message, id="txtest.E002")


_HINTS = {
    "model": 'Write "app_label.Model", and see that the app is in INSTALLED_APPS.',
    "app": "Write the app's label, and see that it is in INSTALLED_APPS.",
}


def _impossible_levels(level: Level) -> Iterator[checks.CheckMessage]:
    for alias in connections:
        vendor = connections[alias].vendor
        if vendor != "unknown" and possible(level, vendor) is not level:
            yield checks.Error(
                f"{SETTING} asks for the level {level.word!r}, which cannot be had on "
                f"the database {alias!r}: it is {vendor}.",
                hint=f"Use the level 'orm': others are for {' and '.join(VENDORS)}.",
                id="txtest.E003",
            )


def check_managers(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Report managers of read-only models that write by themselves (`txtest.W004`)."""
    chosen = None if app_configs is None else {config.label for config in app_configs}
    found: list[checks.CheckMessage] = []
    for model in apps.get_models():
        is_chosen = chosen is None or model._meta.app_label in chosen
        if not is_chosen or not declaration_of(model)[0]:
            continue
        for name, manager in _managers(model):
            methods = ", ".join(sorted(set(_unguarded(manager))))
            if methods:
                message = (
                    f"{model._meta.label} is read-only, but {name}.{methods} does not "
                    f"call the method of Django that it replaces, so it is not guarded."
                )
                hint = "Let it call super()'s, or raise ReadOnlyViolation by itself."
                found.append(checks.Warning(message, hint, model, "txtest.W004"))
    return found


def _managers(model: type[Model]) -> Iterator[tuple[str, Manager[Any]]]:
    for manager in model._meta.managers:
        yield manager.name, manager
    base = model._meta.base_manager
    if base not in model._meta.managers:
        yield "_base_manager", base


def _unguarded(manager: Any) -> Iterator[str]:
    """Return the methods that neither are Django's nor call them."""
    try:
        of_queryset = type(manager.get_queryset())
    except Exception:  # noqa: BLE001 - code of users' managers
        of_queryset = manager._queryset_class
    for name in QUERYSET_WRITES:
        method = getattr(of_queryset, name, None)
        if method is not None and not _is_guarded(method, name):
            yield name
        method = getattr(type(manager), name, None)
        # What Django makes for each public method of a queryset hands on to that.
        is_handing_on = getattr(method, "__code__", None) is _HANDING_ON
        if method is not None and not is_handing_on and not _is_guarded(method, name):
            yield name


def _is_guarded(method: Any, name: str) -> bool:
    if is_asking(method):
        return True
    code = getattr(method, "__code__", None)
    return code is not None and name in code.co_names


_HANDING_ON = Manager.update.__code__

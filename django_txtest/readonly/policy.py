"""What is read-only now: by scopes, then by models, apps and databases."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from django_txtest.readonly.levels import Level, possible
from django_txtest.readonly.models import declaration_of
from django_txtest.readonly.scopes import Scope, active_scopes

SETTING = "TXTEST_READONLY"
_PARTS = ("models", "apps", "databases")


@dataclass(frozen=True)
class Protection:
    """Why something is read-only, and how deep that goes."""

    setting: str
    level: Level


@dataclass(frozen=True)
class Config:
    """The setting, parsed. In each part, False takes an exception."""

    models: Mapping[str, bool] = field(default_factory=dict)
    apps: Mapping[str, bool] = field(default_factory=dict)
    databases: Mapping[str, bool] = field(default_factory=dict)
    #: True for all there is; False if nothing is to be protected at all.
    everything: bool | None = None
    level: Level = Level.ORM

    @classmethod
    def parse(cls, value: Any) -> Config:
        """Parse the setting.

        :raises ImproperlyConfigured: if it has no usable value.
        """
        if value is None or isinstance(value, bool):
            return cls(everything=value)
        if not isinstance(value, Mapping):
            raise ImproperlyConfigured(
                f"{SETTING} must be a dict or bool, not {value!r}."
            )
        unknown = value.keys() - {*_PARTS, "level"}
        if unknown:
            raise ImproperlyConfigured(
                f"{SETTING} has the unknown key {min(map(str, unknown))!r}: its keys "
                f"are {', '.join(_PARTS)} and level."
            )
        try:
            level = Level.of(value.get("level", "orm"))
        except ValueError as error:
            raise ImproperlyConfigured(f"{SETTING}: {error}.") from error
        models, labels, aliases = (
            _as_dict(name, value.get(name, ())) for name in _PARTS
        )
        return cls(models, labels, aliases, level=level)


def _as_dict(part: str, names: Any) -> dict[str, bool]:
    is_usable = isinstance(names, Iterable) and not isinstance(names, str)
    if not is_usable or not all(isinstance(name, str) for name in names):
        raise ImproperlyConfigured(
            f'{SETTING}["{part}"] must be a list of names, or a dict of names and '
            f"bools, not {names!r}."
        )
    named = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, True)
    # Aliases of databases have their case.
    return named if part == "databases" else {k.lower(): v for k, v in named.items()}


class _Reader:
    """Parses the setting again only where it is not as it was when last read."""

    def __init__(self) -> None:
        self._last: tuple[Any, Config] = (None, Config())

    def read(self) -> Config:
        value = getattr(settings, SETTING, None)
        seen, config = self._last  # one attribute: other threads may set it
        if value != seen or type(value) is not type(seen):  # 1 == True
            config = Config.parse(value)
            self._last = copy.deepcopy(value), config
        return config


_reader = _Reader()


def current_config() -> Config:
    """Return the setting, as it is now.

    :raises ImproperlyConfigured: if it has no usable value.
    """
    return _reader.read()


def protection_of(model: type[Model], alias: str) -> Protection | None:
    """Return why the table of the model is read-only on the database, or None.

    Not that of a model which it inherits from: see `tables_of`.
    """
    model = _owner(model)
    label = model._meta.label_lower
    config = current_config()
    if (scope := _scope_of(label)) is not None:
        return _protection_by(scope, config)
    if config.everything is False:
        return None
    is_declared, flag = declaration_of(model)
    if flag is not None and hasattr(settings, flag):
        return Protection(flag, config.level) if getattr(settings, flag) else None
    for part, names, name in (
        ("models", config.models, label),
        (None, {label: is_declared} if is_declared else {}, label),
        ("apps", config.apps, model._meta.app_label.lower()),
    ):
        if name in names:
            setting = f'{SETTING}["{part}"]' if part else flag or SETTING
            return Protection(setting, config.level) if names[name] else None
    return _protection_of_database(config, alias)


def protection_of_database(alias: str) -> Protection | None:
    """Return why a table without a model is read-only on the database."""
    config = current_config()
    if (scope := _scope_of(None)) is not None:
        return _protection_by(scope, config)
    if config.everything is False:
        return None
    return _protection_of_database(config, alias)


def _scope_of(label: str | None) -> Scope | None:
    """Return the innermost scope that is about a model, or about all tables."""
    scopes = reversed(active_scopes())
    return next((scope for scope in scopes if scope.concerns(label)), None)


def _protection_by(scope: Scope, config: Config) -> Protection | None:
    if scope.allows:
        return None
    return Protection("forbid_writes()", scope.level or config.level)


def _protection_of_database(config: Config, alias: str) -> Protection | None:
    if config.databases.get(alias):
        return Protection(f'{SETTING}["databases"]', config.level)
    if config.everything and alias not in config.databases:
        return Protection(SETTING, config.level)
    return None


def tables_of(model: type[Model]) -> Iterator[type[Model]]:
    """Return the models to whose tables a write to `model` may go."""
    concrete = model._meta.concrete_model or model
    yield concrete
    yield from concrete._meta.get_parent_list()


def _owner(model: type[Model]) -> type[Model]:
    """Return the model that says what holds for the table.

    The table of a many-to-many field belongs to the model that has the field.
    """
    concrete: Any = model._meta.concrete_model or model
    owner: Any = concrete._meta.auto_created
    return owner if isinstance(owner, type) else concrete


def deepest_level(vendor: str) -> Level:
    """Return the deepest level that something may be protected at, by such a database.

    Never less than it is, and found quickly: each statement asks.
    """
    level = current_config().level
    for scope in active_scopes():
        if scope.level is not None and scope.level > level:
            level = scope.level
    return level if level is Level.ORM else possible(level, vendor)


def protected_models(
    alias: str, level: Level = Level.ORM
) -> Iterator[tuple[type[Model], Protection]]:
    """Return the models that are read-only on the database, at the level or deeper."""
    for model in apps.get_models():
        if model._meta.proxy:
            continue
        protection = protection_of(model, alias)
        if protection is not None and protection.level >= level:
            yield model, protection

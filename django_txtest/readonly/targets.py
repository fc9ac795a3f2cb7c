"""Which read-only tables a statement may write to: its effects, put to the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from django_txtest.exceptions import ReadOnlyViolation
from django_txtest.readonly.cascades import fields_with_database_cascade
from django_txtest.readonly.levels import Level
from django_txtest.readonly.policy import (
    Protection,
    protected_models,
    protection_of,
    protection_of_database,
)
from django_txtest.readonly.statements import Effects


class _Models:
    """The models by their tables, as long as the registry of apps is as it is."""

    def __init__(self) -> None:
        self._of: object = None
        self._by_table: dict[str, list[type[Model]]] = {}

    def by_table(self) -> dict[str, list[type[Model]]]:
        models = apps.get_models(include_auto_created=True)
        if models is not self._of:  # the registry keeps the list
            by_table: dict[str, list[type[Model]]] = {}
            for model in models:
                if not model._meta.proxy:
                    by_table.setdefault(_bare(model._meta.db_table), []).append(model)
            self._of, self._by_table = models, by_table
        return self._by_table


_models = _Models()


def _bare(name: str) -> str:
    """Return the name of a table without its schema and quotes, as effects have it."""
    return name.rpartition(".")[2].strip('"`[]').lower()


def violation_of(
    effects: Effects,
    calls: Sequence[str],
    text: str,
    connection: BaseDatabaseWrapper,
) -> ReadOnlyViolation | None:
    """Return what is wrong with a statement; None if it may be executed.

    :param calls: the functions in it that may write to any table.
    """
    alias = connection.alias
    for name in _reached(effects):
        found = _protected_table(name, alias)
        if found is not None:
            return ReadOnlyViolation(
                found[0], effects.operation, alias, found[1].setting
            )
    if effects.to_anything or calls:
        operation = effects.operation or f"{calls[0]}()"
        for model, protection in protected_models(alias, Level.SQL):
            return ReadOnlyViolation(model, operation, alias, protection.setting)
    elif effects.to_named:
        operation = effects.operation
        folded = text.lower()
        for name in _models.by_table():
            if name in folded and (found := _protected_table(name, alias)):
                return ReadOnlyViolation(found[0], operation, alias, found[1].setting)
    if effects.writes or calls:
        protection_or_none = _at_sql(protection_of_database(alias))
        if protection_or_none and (effects.to_anything or effects.to_named or calls):
            return ReadOnlyViolation(
                None, effects.operation or calls[0], alias, protection_or_none.setting
            )
    return None


def is_for_database(effects: Effects, alias: str, level: Level) -> bool:
    """Tell whether the database itself is to refuse what the statement might write.

    Not where it writes to a table that may be written to, or locks rows of one.
    """
    if level < Level.DB or effects.is_control or effects.writes:
        return False
    if _at(Level.DB, protection_of_database(alias)) is not None:
        return True
    return not effects.locks and any(protected_models(alias, Level.DB))


def reason_of_database(alias: str) -> str:
    """Return the setting by which the database was told to refuse writes."""
    protection = _at(Level.DB, protection_of_database(alias))
    if protection is None:
        _, protection = next(protected_models(alias, Level.DB))
    return protection.setting


def _protected_table(
    name: str, alias: str
) -> tuple[type[Model] | str, Protection] | None:
    models = _models.by_table().get(name)
    if models is None:
        protection = _at_sql(protection_of_database(alias))
        return (name, protection) if protection else None
    for model in models:
        protection = _at_sql(protection_of(model, alias))
        if protection is not None:
            return model, protection
    return None


def _at_sql(protection: Protection | None) -> Protection | None:
    return _at(Level.SQL, protection)


def _at(level: Level, protection: Protection | None) -> Protection | None:
    return protection if protection and protection.level >= level else None


def _reached(effects: Effects) -> Iterable[str]:
    """Return the tables it writes to, and those that the database then goes on to."""
    seen = set(effects.tables)
    waiting = [
        (name, name in effects.truncated)
        for name in effects.deleted | effects.truncated
    ]
    while waiting:
        name, is_truncated = waiting.pop()
        for model in _models.by_table().get(name, ()):
            for reached in _next(model, is_truncated):
                if reached not in seen:
                    seen.add(reached)
                    waiting.append((reached, is_truncated))
    return sorted(seen)


def _next(model: type[Model], is_truncated: bool) -> Iterator[str]:
    for field in fields_with_database_cascade(model):
        yield _bare(field.model._meta.db_table)
    if is_truncated:  # CASCADE: every table with a foreign key to it
        for relation in model._meta.related_objects:
            yield _bare(relation.related_model._meta.db_table)
        for other in _models.by_table().values():
            for one in other:
                for field in one._meta.local_fields:
                    if field.is_relation and field.related_model is model:
                        yield _bare(one._meta.db_table)

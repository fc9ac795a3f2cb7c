"""The models that are read-only by what code says of them: a mixin, or a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from django.db.models import Model

from django_txtest.readonly.hooks import install_hooks

# What readonly_models() was told: labels of models and apps, and the setting of each.
# It has to last as long as the models themselves do.
_declared: dict[str, str | None] = {}


class ReadOnlyModelMixin:
    """Makes a model read-only: ``class Job(ReadOnlyModelMixin, models.Model)``.

    It may be abstract. Nothing may write to the model unless its setting,
    `allow_writes` or ``TXTEST_READONLY`` says so. Models that inherit from it are
    read-only, too.
    """

    #: The name of a setting: where that is False, the model may be written to.
    readonly_setting: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        install_hooks()


def readonly_models(*labels: str, setting: str | None = None) -> Callable[[], None]:
    """Make models read-only that belong to somebody else.

    :param labels: ``"app.Model"``, or ``"app"`` for all of its models.
    :param setting: the name of a setting: where that is False, they may be written to.
    :returns: a function that takes it back.
    """
    install_hooks()
    added = {label.lower(): setting for label in labels}
    _declared.update(added)

    def take_back() -> None:
        for label in added:
            _declared.pop(label, None)

    return take_back


def declared_labels() -> list[str]:
    """Return the labels that `readonly_models` was told."""
    return list(_declared)


def declaration_of(model: type[Model]) -> tuple[bool, str | None]:
    """Return whether code says that the model is read-only, and by which setting."""
    if issubclass(model, ReadOnlyModelMixin):
        return True, model.readonly_setting
    label = model._meta.label_lower
    for name in (label, label.partition(".")[0]):
        if name in _declared:
            return True, _declared[name]
    return False, None

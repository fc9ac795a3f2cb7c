"""Where we reach into Django to see what the ORM is about to write. Nowhere else.

Django has no public place for it: `pre_save` is not sent by bulk operations, and a
receiver of `pre_delete` makes each deletion load its rows. Where the statement is
executed it is too late, as Django has by then begun a block that an exception spoils,
and the transaction would have to be rolled back. So methods of its base classes are
replaced by ones that ask first and then call Django's own. Whatever a model's managers
and querysets override, they end there. Reads are not touched.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import models, router, transaction
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.migrations.executor import MigrationExecutor
from django.db.models import deletion
from django.db.models.fields import related_descriptors

from django_txtest.maintenance import maintenance

# The methods that write, and what the user calls that. Those with an underscore are
# what Django's own code calls; everything else, also what is asynchronous, calls these.
_SAVE = {"save_base": "save", "delete": "delete"}
QUERYSET_WRITES = {
    "bulk_create": "bulk_create",
    "bulk_update": "bulk_update",
    "update": "update",
    "delete": "delete",
    "_insert": "insert",
    "_update": "update",
    "_raw_delete": "delete",
}
# Of related managers. Django 6.1 has set_base, for deserialisers.
_RELATED = ("add", "remove", "clear", "set", "set_base")
# Of those of many-to-many fields: they write to the other model before the table of
# the field.
_RELATED_CREATE = ("create", "get_or_create", "update_or_create")
_FACTORIES = (
    "create_reverse_many_to_one_manager",
    "create_forward_many_to_many_manager",
)
# Commands whose writes are nobody's business, by the names of their modules: an app may
# have put its own in their place.
_COMMANDS = ("migrate", "flush")
# What a test runner makes its databases with.
_TEST_DATABASES = (
    "create_test_db",
    "clone_test_db",
    "destroy_test_db",
    "deserialize_db_from_string",
)
# What loads fixtures before tests, and what resets sequences: these methods, of these
# modules. They are not replaced, as that would import django.test into each process.
_TEST_SETUP = ("setUpClass", "_fixture_setup")
_TEST_SEQUENCES = ("_reset_sequences",)
_TEST_MODULES = ("django.test.testcases",)

_MARK = "_txtest_asks_first"


def install_hooks() -> None:
    """Replace the methods, if that is not done yet; also where our app is not."""
    for name, operation in _SAVE.items():
        _replace(models.Model, name, functools.partial(_ask_of_model, operation))
    for name, operation in QUERYSET_WRITES.items():
        ask = functools.partial(_ask_of_queryset, operation)
        _replace(models.QuerySet, name, ask)
    _replace(deletion.Collector, "delete", _ask_of_collector)
    for name in _FACTORIES:
        _replace_factory(related_descriptors, name)
    _replace_by_maintenance(MigrationExecutor, "migrate")
    for name in _TEST_DATABASES:
        _replace_by_maintenance(BaseDatabaseCreation, name)
    _replace_by_maintenance(BaseCommand, "execute", _is_maintenance_command)


def install_app_hooks() -> None:
    """Replace also what can be only once all apps are loaded."""
    install_hooks()
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes import fields

        _replace_factory(fields, "create_generic_related_manager")


def is_asking(method: object) -> bool:
    """Tell whether a method is one that asks first."""
    return hasattr(method, _MARK)


def _replace(owner: Any, name: str, ask: Callable[..., None]) -> None:
    method = getattr(owner, name)
    if is_asking(method):
        return

    # Keeps what Django marks methods with: alters_data, queryset_only.
    @functools.wraps(method)
    def asks_first(self: Any, *args: Any, **kwargs: Any) -> Any:
        ask(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    setattr(asks_first, _MARK, True)
    setattr(owner, name, asks_first)


def _replace_factory(module: Any, name: str) -> None:
    make = getattr(module, name)
    if is_asking(make):
        return

    @functools.wraps(make)
    def factory(*args: Any, **kwargs: Any) -> Any:
        cls = make(*args, **kwargs)
        # Its methods begin an atomic block before they write.
        for method in _RELATED:
            if hasattr(cls, method):
                ask = functools.partial(_ask_of_related, method)
                _replace(cls, method, ask)
        if "many_to_many" in name:
            for method in _RELATED_CREATE:
                _undo_on_refusal(cls, method)
        return cls

    setattr(factory, _MARK, True)
    setattr(module, name, factory)


def _undo_on_refusal(cls: Any, name: str) -> None:
    method = getattr(cls, name)

    @functools.wraps(method)
    def in_savepoint(self: Any, *args: Any, **kwargs: Any) -> Any:
        from django_txtest.readonly.policy import protection_of

        alias = router.db_for_write(self.through, instance=self.instance)
        if protection_of(self.through, alias) is None:
            return method(self, *args, **kwargs)
        with transaction.atomic(using=alias):
            return method(self, *args, **kwargs)

    setattr(cls, name, in_savepoint)


def _replace_by_maintenance(
    owner: Any, name: str, applies: Callable[..., bool] | None = None
) -> None:
    method = getattr(owner, name)
    if is_asking(method):
        return

    @functools.wraps(method)
    def maintained(self: Any, *args: Any, **kwargs: Any) -> Any:
        if applies is not None and not applies(self):
            return method(self, *args, **kwargs)
        with maintenance():
            return method(self, *args, **kwargs)

    setattr(maintained, _MARK, True)
    setattr(owner, name, maintained)


def _is_maintenance_command(command: object) -> bool:
    name = type(command).__module__.rpartition(".")[2]
    return name in _COMMANDS or (name == "loaddata" and _is_in_test_setup())


def _is_in_test_setup() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "call_command":
        frame = frame.f_back
    caller = frame and frame.f_back
    return caller is not None and _is_of_tests(caller, _TEST_SETUP)


def is_resetting_sequences() -> bool:
    """Tell whether Django resets sequences now, for the next test."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_of_tests(frame, _TEST_SEQUENCES):
        frame = frame.f_back
    return frame is not None


def _is_of_tests(frame: FrameType, names: tuple[str, ...]) -> bool:
    module = frame.f_globals.get("__name__")
    return frame.f_code.co_name in names and module in _TEST_MODULES


# What asks


def _ask_of_model(
    operation: str, instance: models.Model, *args: Any, **kwargs: Any
) -> None:
    from django_txtest.readonly.refusing import refuse_write

    using = kwargs.get("using")
    place = 3 if operation == "save" else 0
    if len(args) > place:
        using = args[place]
    using = using or router.db_for_write(type(instance), instance=instance)
    refuse_write(type(instance), operation, using)


def _ask_of_queryset(
    operation: str, queryset: models.QuerySet[Any], *args: Any, **kwargs: Any
) -> None:
    from django_txtest.readonly.refusing import refuse_write

    model = queryset.model
    alias = kwargs.get("using") or queryset._db  # type: ignore[attr-defined]
    if operation == "delete" and args:  # _raw_delete(using)
        alias = args[0]
    if alias is None:
        hints = queryset._hints  # type: ignore[attr-defined]
        alias = router.db_for_write(model, **hints)
    refuse_write(model, operation, alias)


def _ask_of_related(operation: str, manager: Any, *args: Any, **kwargs: Any) -> None:
    from django_txtest.readonly.refusing import refuse_write

    model = getattr(manager, "through", None) or manager.model
    alias = router.db_for_write(model, instance=manager.instance)
    refuse_write(model, operation, alias)


def _ask_of_collector(collector: deletion.Collector) -> None:
    from django_txtest.readonly.cascades import refuse_deletion

    refuse_deletion(collector)

"""What the tests of read-only models share: rows, and proof that nothing changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_txtest import ReadOnlyViolation, allow_writes
from tests.vault.models import (
    Account,
    Child,
    Entry,
    Foreign,
    Mark,
    Parent,
    Review,
    SpecialEntry,
    Tag,
)

WRITES = ("INSERT", "UPDATE", "DELETE")
LEVELS = ("orm", "sql", "db")
TABLES = (Account, Entry, SpecialEntry, Mark, Review, Tag, Parent, Child, Foreign)
THROUGH = Entry.tags.through


def at_level(level: str, **parts: object) -> override_settings:
    """Return what sets the level of all that is protected."""
    return override_settings(TXTEST_READONLY={"level": level, **parts})


def make_rows() -> dict[str, object]:
    """Write a row to each table."""
    with allow_writes():
        rows: dict[str, object] = {
            "account": Account.objects.create(name="ada"),
            "lonely": Account.objects.create(name="nobody"),
            "kept": Account.objects.create(name="kept"),
            "marked": Account.objects.create(name="marked"),
            "tag": Tag.objects.create(name="old"),
            "other_tag": Tag.objects.create(name="new"),
            "child": Child.objects.create(name="c", extra="e"),
            "foreign": Foreign.objects.create(text="theirs"),
        }
        rows["entry"] = Entry.objects.create(text="first", account=rows["account"])
        rows["loose"] = Entry.objects.create(text="second")
        rows["special"] = SpecialEntry.objects.create(text="third", detail="d")
        rows["entry"].tags.add(rows["tag"])
        rows["review"] = Review.objects.create(account=rows["kept"])
        rows["mark"] = Mark.objects.create(
            content_type=ContentType.objects.get_for_model(Account),
            object_id=rows["marked"].pk,
        )
        return rows


def contents() -> list[object]:
    """Return all rows of all tables."""
    return [
        list(model._base_manager.order_by("pk").values())
        for model in (*TABLES, THROUGH)
    ]


class RefusalsMixin:
    """Tests that have rows, and see that a refusal leaves all as it was."""

    @classmethod
    def setUpTestData(cls) -> None:
        for name, row in make_rows().items():
            setattr(cls, name, row)
            cls.names = [*getattr(cls, "names", ()), name]

    def fresh(self) -> SimpleNamespace:
        """Return the rows, for an attempt that may change the instances."""
        return SimpleNamespace(
            **{name: copy.deepcopy(getattr(self, name)) for name in self.names}
        )

    @contextmanager
    def assertRefused(
        self, operation: str | None = None, model: type | None = None
    ) -> Iterator[None]:
        before = contents()
        with (
            CaptureQueriesContext(connection) as captured,
            transaction.atomic(),
            self.assertRaises(ReadOnlyViolation) as raised,
        ):
            yield
        self.assertFalse(connection.needs_rollback)
        self.assertEqual(contents(), before)  # the transaction goes on
        violation = raised.exception
        self.assertEqual(violation.alias, "default")
        if operation:
            self.assertEqual(violation.operation, operation)
        if model:
            self.assertIs(violation.model, model)
        self.captured = [query["sql"] for query in captured]

    def assertNothingWritten(self) -> None:
        writes = [sql for sql in self.captured if sql.startswith(WRITES)]
        self.assertEqual(writes, [])


class ReadOnlyTestCase(RefusalsMixin, TestCase):
    """The tests of one level, inside a transaction, as most are."""

from __future__ import annotations

import itertools

from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext

from django_txtest import allow_writes
from tests.readonly.support import (
    LEVELS,
    THROUGH,
    WRITES,
    ReadOnlyTestCase,
    at_level,
)
from tests.vault.models import (
    Account,
    Entry,
    EntryProxy,
    SpecialEntry,
)


@async_to_sync
async def wait_for(make, *args, **kwargs):
    """Those of managers are plain functions that return a coroutine."""
    return await make(*args, **kwargs)


#: Each writes to a protected model, through the ORM: what it is, and how.
ATTEMPTS = {
    # instances
    "save a new row": lambda t: Entry(text="x").save(),
    "save a row": lambda t: t.entry.save(),
    "save some fields": lambda t: t.entry.save(update_fields=["text"]),
    "save_base": lambda t: t.entry.save_base(),
    "save_base by position": lambda t: t.entry.save_base(
        False, False, False, "default"
    ),
    "save_base, raw": lambda t: models.Model.save_base(t.entry, raw=True),
    "delete a row": lambda t: t.entry.delete(),
    "delete, keep parents": lambda t: t.special.delete(keep_parents=True),
    "save a proxy": lambda t: EntryProxy(text="x").save(),
    "save a child's row": lambda t: t.special.save(),
    "save a row of the table of a field": lambda t: THROUGH(
        entry=t.loose, tag=t.tag
    ).save(),
    # managers
    "create": lambda t: Entry.objects.create(text="x"),
    "bulk_create": lambda t: Entry.objects.bulk_create([Entry(text="x")]),
    "bulk_create, ignoring conflicts": lambda t: Entry.objects.bulk_create(
        [Entry(text="x")], ignore_conflicts=True
    ),
    "bulk_update": lambda t: Entry.objects.bulk_update([t.entry], ["text"]),
    "update": lambda t: Entry.objects.update(text="x"),
    "get_or_create a new row": lambda t: Entry.objects.get_or_create(text="none"),
    "update_or_create a new row": lambda t: Entry.objects.update_or_create(text="none"),
    "update_or_create a row": lambda t: Entry.objects.update_or_create(
        text="first", defaults={"text": "x"}
    ),
    # querysets, as Procrastinate's mixin let them through
    "all().update": lambda t: Entry.objects.all().update(text="x"),
    "filter().update": lambda t: Entry.objects.filter(text="first").update(text="x"),
    "filter().delete": lambda t: Entry.objects.filter(text="first").delete(),
    "all().delete": lambda t: Entry.objects.all().delete(),
    "using().update": lambda t: Entry.objects.using("default").update(text="x"),
    # No row, as MariaDB minds those that refer to it at once.
    "_raw_delete": lambda t: Entry.objects.filter(pk=0)._raw_delete("default"),
    "_update": lambda t: Entry.objects.all()._update([]),
    "_base_manager.create": lambda t: Entry._base_manager.create(text="x"),
    "_base_manager.update": lambda t: Entry._base_manager.update(text="x"),
    "_base_manager.all().delete": lambda t: Entry._base_manager.all().delete(),
    "_default_manager.update": lambda t: Entry._default_manager.update(text="x"),
    "QuerySet().update": lambda t: models.QuerySet(Entry).update(text="x"),
    "a proxy's update": lambda t: EntryProxy.objects.update(text="x"),
    "a child's update": lambda t: SpecialEntry.objects.update(detail="x"),
    "update of a table of a field": lambda t: THROUGH.objects.update(tag=t.other_tag),
    # asynchronous
    "asave": lambda t: wait_for(t.entry.asave),
    "adelete": lambda t: wait_for(t.entry.adelete),
    "acreate": lambda t: wait_for(Entry.objects.acreate, text="x"),
    "abulk_create": lambda t: wait_for(Entry.objects.abulk_create, [Entry()]),
    "abulk_update": lambda t: wait_for(Entry.objects.abulk_update, [t.entry], ["text"]),
    "aupdate": lambda t: wait_for(Entry.objects.filter(text="first").aupdate, text="x"),
    "filter().adelete": lambda t: wait_for(Entry.objects.filter(text="first").adelete),
    "aget_or_create": lambda t: wait_for(Entry.objects.aget_or_create, text="z"),
    "aupdate_or_create": lambda t: wait_for(
        Entry.objects.aupdate_or_create, text="first", defaults={"text": "x"}
    ),
    "aadd": lambda t: wait_for(t.entry.tags.aadd, t.other_tag),
    "aset": lambda t: wait_for(t.entry.tags.aset, [t.other_tag]),
    # related managers of foreign keys
    "entries.create": lambda t: t.account.entries.create(text="x"),
    "entries.add": lambda t: t.account.entries.add(t.loose),
    "entries.add, one by one": lambda t: t.account.entries.add(t.loose, bulk=False),
    "entries.remove": lambda t: t.account.entries.remove(t.entry),
    "entries.clear": lambda t: t.account.entries.clear(),
    "entries.clear, one by one": lambda t: t.account.entries.clear(bulk=False),
    "entries.set": lambda t: t.account.entries.set([t.loose]),
    "entries.update": lambda t: t.account.entries.update(text="x"),
    "entries.all().delete": lambda t: t.account.entries.all().delete(),
    "marks.add": lambda t: t.account.marks.add(t.mark),
    "marks.set": lambda t: t.marked.marks.set([]),
    "marks.clear": lambda t: t.marked.marks.clear(),
    "marks.create": lambda t: t.account.marks.create(),
    # of many-to-many fields, from both ends
    "tags.add": lambda t: t.entry.tags.add(t.other_tag),
    "tags.remove": lambda t: t.entry.tags.remove(t.tag),
    "tags.clear": lambda t: t.entry.tags.clear(),
    "tags.set": lambda t: t.entry.tags.set([t.other_tag]),
    "tags.create": lambda t: t.entry.tags.create(name="x"),
    "tags.get_or_create": lambda t: t.entry.tags.get_or_create(name="x"),
    "tags.update_or_create": lambda t: t.entry.tags.update_or_create(name="x"),
    "the other end: add": lambda t: t.other_tag.entries.add(t.entry),
    "the other end: remove": lambda t: t.tag.entries.remove(t.entry),
    "the other end: clear": lambda t: t.tag.entries.clear(),
    "the other end: set": lambda t: t.tag.entries.set([t.loose]),
    # cascades
    "a cascade": lambda t: t.account.delete(),
    "a cascade of a queryset": lambda t: Account.objects.filter(name="ada").delete(),
    "a cascade to a generic relation": lambda t: t.marked.delete(),
    "a cascade that sets NULL": lambda t: t.kept.delete(),
    "a cascade to a table of a field": lambda t: t.tag.delete(),
    # deserialisers
    "loaddata": lambda t: call_command("loaddata", "vault", verbosity=0),
}


class AttemptTests(ReadOnlyTestCase):
    """Each way of the ORM, at each level, in the transaction of a TestCase."""

    def test_refused(self):
        for level, (name, attempt) in itertools.product(LEVELS, ATTEMPTS.items()):
            with self.subTest(name, level=level), at_level(level):
                with self.assertRefused():
                    attempt(self.fresh())
                if name not in WRITES_ELSEWHERE_FIRST:
                    self.assertNothingWritten()

    def test_allowed(self):
        """They do write: else that they are refused would say nothing."""
        for level, (name, attempt) in itertools.product(LEVELS, ATTEMPTS.items()):
            if name in CANNOT_SUCCEED:
                continue
            with self.subTest(name, level=level), at_level(level):
                with transaction.atomic():
                    with CaptureQueriesContext(connection) as captured, allow_writes():
                        attempt(self.fresh())
                    transaction.set_rollback(True)
                written = [q["sql"] for q in captured if q["sql"].startswith(WRITES)]
                self.assertNotEqual(written, [])


#: The row at the other end is written, and taken back with the savepoint.
WRITES_ELSEWHERE_FIRST = (
    "tags.create",
    "tags.get_or_create",
    "tags.update_or_create",
)
#: Calls that are refused before Django finds that something is missing.
CANNOT_SUCCEED = ("_update", "marks.create")

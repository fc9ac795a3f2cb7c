"""The models of the tests of read-only models: a vault, with all ways into it."""

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from django_txtest import ReadOnlyModelMixin


class Sealed(ReadOnlyModelMixin, models.Model):
    """An abstract model: those that inherit from it are read-only."""

    readonly_setting = "VAULT_READONLY"

    class Meta:
        abstract = True


class Tag(models.Model):
    name = models.CharField(max_length=50)


class Account(models.Model):
    """May be written to."""

    name = models.CharField(max_length=50)
    marks = GenericRelation("vault.Mark")


class Entry(Sealed):
    """A migration writes the first one."""

    text = models.CharField(max_length=50)
    account = models.ForeignKey(
        Account, models.CASCADE, null=True, related_name="entries"
    )
    tags = models.ManyToManyField(Tag, related_name="entries")


class EntryProxy(Entry):
    class Meta:
        proxy = True


class SpecialEntry(Entry):
    """Has a table of its own, and its entry's."""

    detail = models.CharField(max_length=50)


class Review(ReadOnlyModelMixin, models.Model):
    """Has no setting of its own; loses its account rather than go with it."""

    account = models.ForeignKey(Account, models.SET_NULL, null=True)
    entry = models.ForeignKey(Entry, models.DO_NOTHING, null=True)


class Mark(ReadOnlyModelMixin, models.Model):
    """Reached through a generic relation."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.BigIntegerField()
    target = GenericForeignKey()


class Parent(models.Model):
    """What is protected is what inherits, in one direction, and not in the other."""

    name = models.CharField(max_length=50)


class Child(Parent):
    extra = models.CharField(max_length=50)


class Foreign(models.Model):
    """Somebody else's: no code of it knows of protection."""

    text = models.CharField(max_length=50)
    tags = models.ManyToManyField(Tag, through="ForeignTag")


class ForeignTag(models.Model):
    foreign = models.ForeignKey(Foreign, models.CASCADE)
    tag = models.ForeignKey(Tag, models.CASCADE)

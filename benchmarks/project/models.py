"""What the calls of the benchmark read and write."""

from __future__ import annotations

from django.db import models


class Counter(models.Model):
    """A number that is incremented."""

    value = models.IntegerField(default=0)


class Note(models.Model):
    """A row that has nothing to do with it."""

    text = models.CharField(max_length=50)


class Claim(models.Model):
    """A name that can be taken once."""

    name = models.CharField(max_length=50, unique=True)

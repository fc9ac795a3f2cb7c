"""What the calls of the benchmarks read and write."""

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


class Account(models.Model):
    """Money, of which there is never less than none."""

    owner = models.CharField(max_length=50, unique=True)
    balance = models.IntegerField(default=100)
    version = models.IntegerField(default=0)
    is_open = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(balance__gte=0), name="no_debt")
        ]


class Payment(models.Model):
    """What refers to an account."""

    account = models.ForeignKey(Account, models.CASCADE)
    number = models.IntegerField(default=0)

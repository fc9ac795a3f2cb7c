"""The models that the tests use: a library, with what a reset finds difficult."""

from __future__ import annotations

from django.db import models


class Genre(models.Model):
    """A migration puts the genres in: rows that have to survive every test."""

    name = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=100)
    genre = models.ForeignKey(Genre, models.CASCADE, null=True)
    sequel_to = models.ForeignKey("self", models.CASCADE, null=True)
    copies = models.IntegerField(default=1)
    details = models.JSONField(default=dict)
    cover = models.BinaryField(default=b"")
    available = models.BooleanField(default=True)
    added = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.title


class Reader(models.Model):
    name = models.CharField(max_length=100)
    borrowed = models.ManyToManyField(Book)
    favourite = models.ForeignKey(Book, models.SET_NULL, null=True, related_name="fans")

    def __str__(self) -> str:
        return self.name


class Loan(models.Model):
    """A table that Django does not manage, and so never flushes."""

    reader = models.CharField(max_length=100)

    class Meta:
        managed = False
        db_table = "library_loan"

    def __str__(self) -> str:
        return self.reader

"""More races of everyday Django, each racy and fixed."""

from __future__ import annotations

from functools import partial

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import CheckConstraint, F, Q

from django_txtest import explore
from tests.library.models import Book, Genre, Reader
from tests.scheduler import calls
from tests.scheduler.searches import TwoBooksTestCase
from tests.utils import explores, on_postgresql


@explores
class EverydayTestCase(TwoBooksTestCase):
    def assertFound(self, *targets, **options):
        exploration = explore(*targets, **options)
        self.assertIsNotNone(exploration.failure, str(exploration))
        return str(exploration)


class LookupTests(EverydayTestCase):
    """The same row, by different lookups."""

    def lend(self, **lookup):
        book = Book.objects.only("copies").get(**lookup)
        book.copies -= 1
        book.save(update_fields=["copies"])

    def lend_locked(self, **lookup):
        with transaction.atomic():
            book = Book.objects.select_for_update().only("copies").get(**lookup)
            book.copies -= 1
            book.save(update_fields=["copies"])

    def test_by_key_and_by_title(self):
        racy = partial(self.lend, pk=self.pk), partial(self.lend, title="a")
        self.assertIn("copies is 4; there it is 3", self.assertFound(*racy))
        if connection.vendor == "postgresql":
            self.assertProved(
                partial(self.lend_locked, pk=self.pk),
                partial(self.lend_locked, title="a"),
            )

    def test_an_expression_against_a_write_of_what_was_read(self):
        self.assertFound(partial(calls.lend_f, self.pk), partial(self.lend, title="a"))
        self.assertProved(
            partial(calls.lend_f, self.pk),
            partial(Book.objects.filter(title="a").update, copies=F("copies") - 1),
        )


class GetOrCreateTests(EverydayTestCase):
    """Within a transaction that does more."""

    @transaction.atomic
    def reader(self):
        calls.lend_f(self.pk)
        reader, _ = Reader.objects.get_or_create(name="x")
        return reader.name

    @transaction.atomic
    def genre(self):
        genre, _ = Genre.objects.get_or_create(name="x")
        Book.objects.create(title="new", genre=genre)
        return genre.name

    @transaction.atomic
    def genre_after_a_look(self):
        if not Genre.objects.filter(name="x").exists():
            Genre.objects.create(name="x")

    def one_genre_and_two_books(self, results):
        return (
            Genre.objects.filter(name="x").count() == 1
            and Book.objects.filter(title="new", genre__name="x").count() == 2
        )

    @on_postgresql
    def test_with_a_unique_constraint(self):
        self.assertProved(
            self.genre, self.genre, invariant=self.one_genre_and_two_books
        )
        look = self.genre_after_a_look
        self.assertIn("IntegrityError", self.assertFound(look, look))

    @on_postgresql
    def test_where_a_snapshot_hides_the_other_one(self):
        """It is there, so that it cannot be created, and cannot be seen."""

        @transaction.atomic
        def genre():
            Book.objects.count()
            Genre.objects.get_or_create(name="x")

        self.assertFound(genre, genre, isolation_level="REPEATABLE READ")
        self.assertProved(genre, genre)

    @on_postgresql
    def test_without(self):
        @transaction.atomic
        def reader():
            Reader.objects.get_or_create(name="x")
            calls.lend_f(self.pk)

        self.assertFound(
            reader,
            reader,
            invariant=lambda results: Reader.objects.filter(name="x").count() == 1,
        )
        # The row that both write first lets one go after the other.
        self.assertProved(
            self.reader,
            self.reader,
            invariant=lambda results: Reader.objects.filter(name="x").count() == 1,
        )


@on_postgresql
class TwoLocksTests(EverydayTestCase):
    @transaction.atomic
    def lend_both(self, *pks):
        for pk in pks:
            Book.objects.select_for_update().only("pk").get(pk=pk)
        for pk in pks:
            calls.lend_f(pk)

    def lend_both_with_retry(self, *pks):
        for _ in range(3):
            try:
                return self.lend_both(*pks)
            except OperationalError:
                pass
        raise AssertionError("three deadlocks in a row")

    def test_in_opposite_order(self):
        there, back = (self.pk, self.other_pk), (self.other_pk, self.pk)
        text = self.assertFound(
            partial(self.lend_both, *there), partial(self.lend_both, *back)
        )
        self.assertIn("deadlock detected", text)
        self.assertProved(
            partial(self.lend_both, *there), partial(self.lend_both, *there)
        )
        self.assertProved(
            partial(self.lend_both_with_retry, *there),
            partial(self.lend_both_with_retry, *back),
        )


@on_postgresql
class CheckConstraintTests(EverydayTestCase):
    constraint = CheckConstraint(condition=Q(copies__gte=0), name="txtest_copies")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with connection.schema_editor() as editor:
            editor.add_constraint(Book, cls.constraint)

    @classmethod
    def tearDownClass(cls):
        with connection.schema_editor() as editor:
            editor.remove_constraint(Book, cls.constraint)
        super().tearDownClass()

    def lend_handled(self):
        try:
            with transaction.atomic():
                calls.lend_f(self.pk)
        except IntegrityError:
            return "none left"
        return "lent"

    def test_the_last_copy(self):
        Book.objects.filter(pk=self.pk).update(copies=1)
        unhandled = partial(calls.lend_by_check, self.pk)
        text = self.assertFound(unhandled, unhandled)
        self.assertIn("raises IntegrityError", text)
        self.assertProved(self.lend_handled, self.lend_handled)
        self.assertProved(
            self.lend_handled,
            self.lend_handled,
            invariant=lambda results: sorted(results) == ["lent", "none left"],
        )

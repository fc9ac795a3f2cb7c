"""The rows that lie under the tests of a class, and their way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from django.apps import apps
from django.db import Error, connections

from django_txtest.conf import settings
from django_txtest.databases import Database, Table, get_database
from django_txtest.exceptions import LeftoverSession, NestedCheckpoint
from django_txtest.maintenance import maintenance
from django_txtest.reset.base import Baseline, Level, LocksHeld, TableRows
from django_txtest.reset.baselines import get_baseline
from django_txtest.reset.leftovers import Leftovers
from django_txtest.reset.session import SessionWatch


class Layers:
    """The baselines of the databases that one test class uses.

    :param aliases: the databases, without mirrors.
    :param leftovers: the connections besides Django's own, which may be in the way.
    """

    def __init__(self, aliases: Sequence[str], leftovers: Leftovers) -> None:
        self.aliases = aliases
        self._leftovers = leftovers
        self._baselines: list[Baseline] = []
        self._has_class_data = False
        self._has_checkpoint = False
        self._session = SessionWatch()
        #: Those that could not be put back after the last test.
        self._unclean: list[Baseline] = []

    @property
    def keeps_connections(self) -> bool:
        """Whether the connections are fit for the next test."""
        return not self._session.has_changes and all(
            baseline.keeps_connection for baseline in self._baselines
        )

    @maintenance()
    def begin_class(self) -> None:
        """Start from what migrations left, also if an earlier test flushed it away."""
        _put_connections_right()
        for alias in self.aliases:
            database = get_database(connections[alias])
            baseline = get_baseline(database)
            self._put_back(database, baseline.begin_class)
            self._baselines.append(baseline)

    def adopt(self) -> Callable[[], None]:
        """In clones of the databases, take them as they were when they were cloned.

        Returns the function that puts them back to that.

        :raises DatabaseNotSupported: if a database is of a kind that cannot be.
        """
        for alias in self.aliases:
            database = get_database(connections[alias])
            baseline = get_baseline(database)
            self._put_back(database, baseline.adopt)
            self._baselines.append(baseline)
        return self._return_to_checkpoint

    def begin_test(self) -> None:
        """Before the first test, take what is there now for what all begin with.

        Before another, try again what could not be put back after the last one.
        """
        if not self._has_class_data:
            self._keep(Level.CLASS)
            self._has_class_data = True
        elif self._unclean:
            self._restore(self._unclean)
        self._session.begin()

    def end_test(self) -> None:
        """Put the class's data back as it was before the test."""
        self._session.end()
        self._restore(self._baselines)

    def end_class(self) -> None:
        """Put the databases back as migrations left them."""
        self._forget(Level.CLASS)
        self._restore(self._baselines)

    @contextmanager
    def checkpoint(self) -> Iterator[Callable[[], None]]:
        """Within the block, what is in the databases now can be put back, repeatedly.

        Yields the function that does it. Where interleavings can be explored, sequences
        are put back, too. The block ends with the databases as they are
        then; what the test changed, before or in it, `end_test` puts back.

        :raises NestedCheckpoint: within the block of another one.
        """
        if self._has_checkpoint:
            raise NestedCheckpoint
        self._has_checkpoint = True
        try:
            with self._session.looks_away():
                self._keep(Level.CHECKPOINT)
            yield self._return_to_checkpoint
        finally:
            self._has_checkpoint = False
            with self._session.looks_away():
                self._forget(Level.CHECKPOINT)

    def take_back(
        self, tables: Mapping[str, Mapping[str, Table]]
    ) -> dict[str, TableRows]:
        """Put everything back; return what the tables written to had, by alias.

        :param tables: those that are of interest, by alias and name.
        """
        told: dict[str, TableRows] = {alias: {} for alias in tables}

        def take_back(baseline: Baseline) -> None:
            alias = baseline.database.connection.alias
            if alias in tables:
                baseline.take_back(tables[alias], told[alias])
            else:
                baseline.restore()

        with self._session.looks_away():
            self._restore(self._baselines, take_back)
        return told

    def _return_to_checkpoint(self) -> None:
        with self._session.looks_away():
            self._restore(self._baselines)

    def _keep(self, level: Level) -> None:
        self._for_each(self._baselines, lambda baseline: baseline.keep(level))

    def _forget(self, level: Level) -> None:
        self._for_each(self._baselines, lambda baseline: baseline.forget(level))

    def _restore(
        self,
        baselines: Sequence[Baseline],
        act: Callable[[Baseline], None] | None = None,
    ) -> None:
        try:
            self._for_each(baselines, act or (lambda baseline: baseline.restore()))
        finally:
            _clear_caches()

    @maintenance()
    def _for_each(
        self, baselines: Sequence[Baseline], act: Callable[[Baseline], None]
    ) -> None:
        _put_connections_right()
        errors: list[Exception] = []
        self._unclean = []
        for baseline in baselines:
            try:
                self._put_back(baseline.database, partial(act, baseline))
            except LeftoverSession as error:  # put back all the same
                errors.append(error)
            except Exception as error:  # noqa: BLE001 - the others have their turn first
                errors.append(error)
                self._unclean.append(baseline)
        if errors:
            first, *others = errors
            # Not to lose the others: they have nothing to do with its own cause.
            for other in others:
                first.args = (f"{first}\nAlso: {type(other).__name__}: {other}",)
            raise first

    def _put_back(self, database: Database, restore: Callable[[], None]) -> None:
        self._leftovers.close_ended()
        try:
            restore()
        except LocksHeld as error:
            blockers = self._end_blockers(database)
            restore()
            raise _leftover(database, blockers) from error.__cause__
        except Error:
            # What the test did to its session may be the cause: try on a new one.
            database.connection.close()
            restore()

    def _end_blockers(self, database: Database) -> list[str]:
        holders = database.lock_holders()
        for holder in holders:
            database.terminate(holder.pid)
        threads = self._leftovers.end_sessions(database.connection.alias)
        return [str(holder) for holder in holders] or [
            f"a connection of thread {name!r}" for name in threads
        ]


def _put_connections_right() -> None:
    # Mirrors and all: what they hold may be in the way too.
    for connection in connections.all(initialized_only=True):
        get_database(connection).put_connection_right()


def _leftover(database: Database, blockers: Sequence[str]) -> LeftoverSession:
    return LeftoverSession(
        f"The database {database.connection.alias!r} could not be put back for "
        f"{settings.lock_timeout:g} s (TXTEST_LOCK_TIMEOUT), because a session "
        f"that the test left behind held locks: {'; '.join(blockers)}. "
        f"It was ended and the database put back, so the next test is safe. "
        f"Let the test end its threads, processes and transactions itself."
    )


def _clear_caches() -> None:
    # Both map keys to rows that a restore may have replaced.
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes.models import ContentType

        ContentType.objects.clear_cache()
    if apps.is_installed("django.contrib.sites"):
        from django.contrib.sites.models import Site

        Site.objects.clear_cache()

"""Where each execution starts from, and what it has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from django.core import mail
from django.db import connections

from django_txtest.databases import Table, get_database
from django_txtest.exceptions import ResetNotPossible
from django_txtest.reset import Layers, current_layers

#: A table, by the alias of its database and its name.
TableKey: TypeAlias = tuple[str, str]
Rows: TypeAlias = "list[tuple[Any, ...]]"


class Start:
    """The databases as they were when the exploration began, and `setup` left them."""

    def __init__(
        self,
        layers: Layers,
        put_back: Callable[[], None],
        aliases: Sequence[str],
        setup: Callable[[], object] | None,
    ) -> None:
        self._layers = layers
        self._put_back = put_back
        self._setup = setup
        self._databases = {alias: get_database(connections[alias]) for alias in aliases}
        #: Of the memory, the one thing that Django's own tests put back, too.
        self._mails = len(_outbox())
        #: The tables that an execution has changed, and the rows that they start with.
        self.tables: dict[TableKey, Table] = {}
        self._rows: dict[TableKey, Rows] = {}
        self._is_fresh = False
        self._known: dict[str, dict[str, Table]] = {}

    def begin(self) -> None:
        """Put everything back for another execution, if there was one since."""
        if not self._is_fresh:
            self.put_back()
            self._set_up()

    def finish(self) -> dict[TableKey, Rows]:
        """Return the rows of the tables written to, and put everything back."""
        tables = {alias: self._tables_of(alias) for alias in self._databases}
        changed = {}
        for alias, told in self._layers.take_back(tables).items():
            for name in sorted(told):
                self.tables[alias, name] = tables[alias][name]
                changed[alias, name] = told[name]
        self.forget_mails()
        self._set_up()
        return changed

    def _set_up(self) -> None:
        if self._setup is not None:
            self._setup()
        self._is_fresh = True

    def leave(self) -> None:
        """Note that an execution begins."""
        self._is_fresh = False

    def put_back(self) -> None:
        """Put the databases back to where they were when the exploration began."""
        self._put_back()
        self.forget_mails()

    def forget_mails(self) -> None:
        """Take those out of the outbox that were sent since the exploration began."""
        del _outbox()[self._mails :]

    def rows(self, key: TableKey) -> Rows:
        """Return the rows that a table starts with; the first time, `begin`."""
        if key not in self._rows:
            self.begin()
            database = self._databases[key[0]]
            self._rows[key] = database.read_values(self.tables[key])
        return self._rows[key]

    def all_tables(self) -> Iterator[Table]:
        """Yield the tables of the databases, written to or not."""
        for alias in self._databases:
            yield from self._tables_of(alias).values()

    def _tables_of(self, alias: str) -> dict[str, Table]:
        if alias not in self._known:
            tables = self._databases[alias].tables()
            self._known[alias] = {table.name: table for table in tables}
        return self._known[alias]


def _outbox() -> list[Any]:
    outbox: list[Any] = getattr(mail, "outbox", [])
    return outbox


@contextmanager
def started(
    aliases: Sequence[str], setup: Callable[[], object] | None
) -> Iterator[Start]:
    """Yield where each execution starts from; the databases end up there.

    :raises ResetNotPossible: where the databases cannot be put back.
    """
    layers = current_layers()
    if layers is None:
        raise ResetNotPossible(
            "Interleavings can be explored only where the databases can be put back "
            "in between. Put NoAtomicMixin first among the base classes of the test "
            "class, or derive it from TxTestCase."
        )
    with layers.checkpoint() as put_back:
        start = Start(layers, put_back, aliases, setup)
        try:
            yield start
        finally:
            start.put_back()

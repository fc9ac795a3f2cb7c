"""What there is in a database, as far as it decides what statements can collide.

From the database itself, not from models: raw SQL and tables that nobody manages count.
Pure: what asks a database is in the module of its vendor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class ForeignKey:
    """A reference from some columns to those of another table.

    The actions are those of SQL: NO ACTION, RESTRICT, CASCADE, SET NULL, SET DEFAULT.
    """

    table: str
    columns: tuple[str, ...]
    referred_table: str
    referred_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"
    #: Whether it is checked at the commit, unless a statement says otherwise.
    is_deferred: bool = False


@dataclass(frozen=True)
class Unique:
    """Columns of which no two rows have the same values.

    Without columns, it is about expressions, or excludes more than what is equal.
    """

    columns: tuple[str, ...] = ()
    is_deferred: bool = False
    #: Whether it is about all rows, so that its values tell one row.
    is_total: bool = True


@dataclass(frozen=True)
class Relation:
    """A table or a view. Names are those of `plain`."""

    name: str
    #: What each column has: "integer", "text", "uuid", "boolean", or "" for others.
    columns: Mapping[str, str] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    uniques: tuple[Unique, ...] = ()
    #: Columns that a sequence fills, with the last value that it gave.
    sequences: Mapping[str, int] = field(default_factory=dict)
    #: Columns that are computed from others.
    generated: frozenset[str] = frozenset()
    #: Columns by which some index may lead to rows; None if that is not known.
    indexed: frozenset[str] | None = None
    #: The tables that a view shows; None for a table.
    shows: frozenset[str] | None = None
    #: Whether more happens than statements say: triggers, rules, policies, defaults
    #: that call the user's functions.
    is_opaque: bool = False
    #: Whether even to read it does.
    is_opaque_to_read: bool = False


@dataclass(frozen=True)
class Catalogue:
    """Everything in a database that statements can name."""

    vendor: str = ""
    relations: Mapping[str, Relation] = field(default_factory=dict)
    foreign_keys: tuple[ForeignKey, ...] = ()
    #: Functions that may do more than return something.
    impure: frozenset[str] = frozenset()
    #: The isolation level of transactions that do not say, as "READ COMMITTED".
    isolation_level: str = ""

    def relation(self, name: str) -> Relation | None:
        """Return the table or view of a plain name."""
        return self.relations.get(name)


def plain(name: str) -> str:
    """Return a name without schema, quotes and case.

    Two tables that differ in nothing else count as one, which errs on the safe side.
    """
    return name.rpartition(".")[2].strip('"`[]').lower()


def comparable(kind: str, value: Any) -> Any:
    """Return a value such that two that differ are different for the database, too.

    :raises ValueError: if that cannot be said of it.
    """
    if value is None:
        return None
    match kind, value:
        case "boolean", bool():
            return value
        case "boolean", int() if value in (0, 1):
            return bool(value)
        case "integer", int() if not isinstance(value, bool):
            return value
        case "integer", str() if value.lstrip("-").isdecimal():
            return int(value)
        case "text", str():
            return value
        case "uuid", UUID():
            return value
        case "uuid", str():
            return UUID(value)
    raise ValueError(f"{value!r} is not comparable as {kind or 'what it is'}")

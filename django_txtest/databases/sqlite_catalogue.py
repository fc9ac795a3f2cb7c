"""What there is in a SQLite database, from its schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django_txtest.databases.catalogue import (
    Catalogue,
    ForeignKey,
    Relation,
    Unique,
    plain,
)

Rows = Iterable[tuple[Any, ...]]


def read_catalogue(ask: Callable[[str], Rows]) -> Catalogue:
    """Return what there is.

    :param ask: returns the rows of a query without parameters.
    """
    relations: dict[str, Relation] = {}
    foreign_keys: list[ForeignKey] = []
    entries = list(ask("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    triggered = {
        plain(table)
        for kind, name, table, _ in entries
        if kind == "trigger" and not name.startswith("txtest_")
    }
    for kind, name, _, sql in entries:
        if kind not in ("table", "view") or name.startswith(("sqlite_", "txtest_")):
            continue
        is_virtual = (sql or "").upper().startswith("CREATE VIRTUAL")
        relations[plain(name)] = _relation(
            name, kind, ask, is_opaque=is_virtual or plain(name) in triggered
        )
        foreign_keys += _foreign_keys(name, ask)
    return Catalogue(
        "sqlite", relations, tuple(foreign_keys), isolation_level="SERIALIZABLE"
    )


def _relation(
    name: str, kind: str, ask: Callable[[str], Rows], *, is_opaque: bool
) -> Relation:
    columns: dict[str, str] = {}
    generated: set[str] = set()
    keys: dict[int, str] = {}
    for _, column, declared, _, _, key, hidden in ask(
        f"PRAGMA table_xinfo({_q(name)})"
    ):
        columns[plain(column)] = _kind(declared)
        if hidden in (2, 3):
            generated.add(plain(column))
        if key:
            keys[key] = plain(column)
    primary_key = tuple(keys[each] for each in sorted(keys))
    uniques = [Unique(primary_key)] if primary_key else []
    for _, index, is_unique, _, is_partial in ask(f"PRAGMA index_list({_q(name)})"):
        if is_unique:
            of_index = [row[2] for row in ask(f"PRAGMA index_info({_q(index)})")]
            known = None not in of_index
            uniques.append(
                Unique(
                    tuple(map(plain, of_index)) if known else (),
                    is_total=not is_partial,
                )
            )
    is_counted = len(keys) == 1 and columns[primary_key[0]] == "integer"
    return Relation(
        plain(name),
        columns,
        primary_key,
        tuple(uniques),
        sequences={primary_key[0]: 0} if is_counted else {},
        generated=frozenset(generated),
        shows=frozenset() if kind == "view" else None,
        is_opaque=is_opaque or kind == "view",
        is_opaque_to_read=kind == "view",
    )


def _foreign_keys(name: str, ask: Callable[[str], Rows]) -> list[ForeignKey]:
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in ask(f"PRAGMA foreign_key_list({_q(name)})"):
        found.setdefault(row[0], []).append(row)
    return [
        ForeignKey(
            plain(name),
            tuple(plain(row[3]) for row in rows),
            plain(rows[0][2]),
            tuple(plain(row[4] or "id") for row in rows),
            on_delete=rows[0][6],
            on_update=rows[0][5],
            is_deferred=True,
        )
        for rows in found.values()
    ]


def _kind(declared: str) -> str:
    # The affinities of SQLite; texts may be compared without case, and so are not.
    declared = declared.upper()
    return "integer" if "INT" in declared else ""


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

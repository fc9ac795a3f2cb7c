"""What there is in a PostgreSQL database, from its system catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from django_txtest.databases.catalogue import (
    Catalogue,
    ForeignKey,
    Relation,
    Unique,
    plain,
)

Rows = Iterable[tuple[Any, ...]]

_RELATIONS = """
SELECT CASE WHEN c.relispartition OR i.inhparent IS NOT NULL
            THEN coalesce(pg_partition_root(c.oid), i.inhparent) ELSE c.oid END,
       c.oid, c.relname, c.relkind::text,
       c.relrowsecurity OR EXISTS (
         SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND n.nspname <> 'txtest')
       OR EXISTS (
         SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')
       OR EXISTS (
         SELECT FROM pg_attrdef a JOIN pg_depend d
           ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
         WHERE a.adrelid = c.oid AND d.refclassid = 'pg_proc'::regclass),
       c.relrowsecurity OR c.relkind = 'f'
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
ORDER BY c.oid
"""

# A collation that is not deterministic takes different texts for equal.
_COLUMNS = """
SELECT a.attrelid, a.attname, a.attgenerated <> '',
       CASE WHEN t.oid IN (20, 21, 23) THEN 'integer'
            WHEN t.oid IN (25, 1043) AND l.collisdeterministic IS NOT FALSE THEN 'text'
            WHEN t.oid = 2950 THEN 'uuid'
            WHEN t.oid = 16 THEN 'boolean' ELSE '' END,
       s.oid, s.value,
       EXISTS (
         SELECT FROM pg_index x WHERE x.indrelid = a.attrelid
         AND (a.attnum = ANY (x.indkey) OR x.indexprs IS NOT NULL
              OR x.indpred IS NOT NULL))
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN LATERAL (
  SELECT q.seqrelid AS oid,
         coalesce(pg_sequence_last_value(q.seqrelid), q.seqstart - q.seqincrement)
           AS value
  FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
    AND d.deptype IN ('a', 'i') AND q.seqincrement > 0 AND NOT q.seqcycle
    AND has_sequence_privilege(q.seqrelid, 'SELECT')
  LIMIT 1) s ON true
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
ORDER BY a.attrelid, a.attnum
"""

_UNIQUES = """
SELECT x.indrelid, x.indisprimary,
       CASE WHEN x.indexprs IS NULL AND x.indisunique THEN
         ARRAY(SELECT a.attname::text FROM unnest(x.indkey[:x.indnkeyatts - 1]) k
               JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k) END,
       NOT x.indimmediate, x.indpred IS NULL
FROM pg_index x
JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (x.indisunique OR x.indisexclusion)
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
ORDER BY x.indexrelid
"""

_FOREIGN_KEYS = """
SELECT k.conrelid, k.confrelid,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, i)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n
             ORDER BY u.i),
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, i)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n
             ORDER BY u.i),
       k.confdeltype::text, k.confupdtype::text, k.condeferred
FROM pg_constraint k WHERE k.contype = 'f' ORDER BY k.oid
"""

# What a view shows, and whether it calls functions of the user.
_VIEWS = """
SELECT r.ev_class, d.refclassid = 'pg_class'::regclass, d.refobjid
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND r.rulename = '_RETURN' AND d.refobjid <> r.ev_class
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'txtest')
  AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
"""

# The user's, and those of the server that write or lock, or that read tables whose
# names they are given. No others could be called by a statement.
_IMPURE = """
SELECT DISTINCT p.proname FROM pg_proc p
WHERE p.proname ~ '^(query_to_|table_to_|cursor_to_|schema_to_|database_to_)'
   OR p.pronamespace <> 'pg_catalog'::regnamespace
      AND p.pronamespace <> 'information_schema'::regnamespace
      AND (p.provolatile <> 'i' OR p.prolang <> 13)
      AND NOT EXISTS (
        SELECT FROM pg_namespace n
        WHERE n.oid = p.pronamespace AND n.nspname = 'txtest')
   OR p.pronamespace = 'pg_catalog'::regnamespace AND p.provolatile = 'v'
      AND p.prorettype <> 'trigger'::regtype AND p.proname NOT IN (
        'random', 'clock_timestamp', 'gen_random_uuid', 'setseed', 'timeofday',
        'pg_sleep', 'set_config', 'currval', 'lastval')
"""

_ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
}


def read_catalogue(ask: Callable[[str], Rows]) -> Catalogue:
    """Return what there is.

    :param ask: returns the rows of a query without parameters.
    """
    names: dict[int, str] = {}
    found: dict[int, Relation] = {}
    roots: set[int] = set()
    for root, oid, name, kind, is_opaque, is_opaque_to_read in ask(_RELATIONS):
        names[oid] = plain(name)
        found[oid] = Relation(
            plain(name),
            shows=frozenset() if kind == "v" else None,
            is_opaque=is_opaque or kind in "vf" or root != oid,
            is_opaque_to_read=is_opaque_to_read or root != oid,
        )
        if root != oid:  # the rows of a partition are its root's, too
            roots.add(root)
    for root in roots & found.keys():
        found[root] = replace(found[root], is_opaque=True, is_opaque_to_read=True)
    _add_columns(found, ask)
    _add_uniques(found, ask)
    _add_views(found, names, ask)
    foreign_keys = tuple(
        ForeignKey(
            names[child],
            tuple(map(plain, columns)),
            names[parent],
            tuple(map(plain, referred)),
            _ACTIONS[on_delete],
            _ACTIONS[on_update],
            is_deferred,
        )
        for child, parent, columns, referred, on_delete, on_update, is_deferred in ask(
            _FOREIGN_KEYS
        )
        if child in names and parent in names
    )
    [(level,)] = ask("SHOW transaction_isolation")
    return Catalogue(
        "postgresql",
        _by_name(found.values()),
        foreign_keys,
        frozenset(name.lower() for (name,) in ask(_IMPURE)),
        level.upper(),
    )


def _add_columns(found: dict[int, Relation], ask: Callable[[str], Rows]) -> None:
    columns: dict[int, dict[str, str]] = defaultdict(dict)
    sequences: dict[int, dict[str, int]] = defaultdict(dict)
    generated: dict[int, set[str]] = defaultdict(set)
    indexed: dict[int, set[str]] = defaultdict(set)
    for oid, name, is_generated, kind, sequence, last_value, has_index in ask(_COLUMNS):
        columns[oid][plain(name)] = kind
        if is_generated:
            generated[oid].add(plain(name))
        if has_index:
            indexed[oid].add(plain(name))
        if sequence is not None:
            sequences[oid][plain(name)] = last_value
    for oid, relation in found.items():
        found[oid] = replace(
            relation,
            columns=columns[oid],
            sequences=sequences[oid],
            generated=frozenset(generated[oid]),
            indexed=frozenset(indexed[oid]),
        )


def _add_uniques(found: dict[int, Relation], ask: Callable[[str], Rows]) -> None:
    for oid, is_primary, names, is_deferred, is_total in ask(_UNIQUES):
        if oid not in found:
            continue
        columns = tuple(map(plain, names or ()))
        unique = Unique(columns, is_deferred, is_total)
        relation = found[oid]
        found[oid] = replace(
            relation,
            uniques=(*relation.uniques, unique),
            primary_key=columns if is_primary else relation.primary_key,
        )


def _add_views(
    found: dict[int, Relation], names: dict[int, str], ask: Callable[[str], Rows]
) -> None:
    for view, is_relation, oid in ask(_VIEWS):
        if view not in found:
            continue
        relation = found[view]
        if is_relation and oid in names:
            shows = (relation.shows or frozenset()) | {names[oid]}
            found[view] = replace(relation, shows=shows)
        elif not is_relation or oid >= 16384:
            found[view] = replace(relation, is_opaque_to_read=True)


def _by_name(relations: Iterable[Relation]) -> dict[str, Relation]:
    by_name: dict[str, Relation] = {}
    for relation in relations:
        if relation.name in by_name:  # in another schema, and so not to be told apart
            relation = Relation(relation.name, is_opaque=True, is_opaque_to_read=True)
        by_name[relation.name] = relation
    return by_name

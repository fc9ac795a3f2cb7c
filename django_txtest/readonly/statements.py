"""What a text of SQL may write to, by sqlglot's tokens and trees; no database is asked.

Where the text is not understood, or its words are not seen as the database sees them,
the answer is "anything". So it errs on the side of a write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]

from django_txtest.readonly.lexing import (
    LITERAL,
    is_parameter,
    may_be_misread,
    parser_of,
    shortened,
    split,
    tokenize,
    with_literals,
    word_of,
)

#: The dialects, by the names that Django has for vendors.
DIALECTS = {"postgresql": "postgres", "sqlite": "sqlite"}

#: How many texts are remembered.
CACHE_SIZE = 2048
#: Longer texts have their lists of parameters shortened before they are remembered.
LONG = 2000


@dataclass(frozen=True)
class Effects:
    """What a text of SQL may do."""

    #: The first word that writes, such as "DELETE"; or what is not understood.
    operation: str = ""
    #: The tables that it writes to, by their lower-cased names without a schema.
    tables: frozenset[str] = frozenset()
    #: Of those, whose rows it deletes, so that the database may go on to others.
    deleted: frozenset[str] = frozenset()
    #: Of those, that TRUNCATE ... CASCADE begins with.
    truncated: frozenset[str] = frozenset()
    #: Whether it may write to every table that its text names.
    to_named: bool = False
    #: Whether it may write to any table.
    to_anything: bool = False
    #: Whether it locks rows that it reads.
    locks: bool = False
    #: Whether it is for the session or its transaction, and no query.
    is_control: bool = False
    #: What it may call, by lower-cased names: what is before a parenthesis.
    calls: frozenset[str] = frozenset()

    @property
    def writes(self) -> bool:
        """Whether it may write."""
        return bool(self.tables) or self.to_named or self.to_anything

    def __or__(self, other: Effects) -> Effects:
        return Effects(
            self.operation or other.operation,
            self.tables | other.tables,
            self.deleted | other.deleted,
            self.truncated | other.truncated,
            self.to_named or other.to_named,
            self.to_anything or other.to_anything,
            self.locks or other.locks,
            self.is_control and other.is_control,
            self.calls | other.calls,
        )


def analyse(text: str, vendor: str, *, has_params: bool) -> Effects:
    """Return what the text may do. Each distinct text is parsed once.

    :param vendor: as Django names it; one of `DIALECTS`.
    :param has_params: whether the driver puts parameters in the place of ``%s``.
    """
    if len(text) > LONG:
        text = shortened(text)
    return _analyse(text, vendor, has_params)


@lru_cache(maxsize=CACHE_SIZE)
def _analyse(text: str, vendor: str, has_params: bool) -> Effects:
    dialect = DIALECTS[vendor]
    # Both are spaces for the databases, and for sqlglot not in all versions.
    text = text.replace("\f", " ").replace("\v", " ")
    count = 0
    if has_params:
        text, count = with_literals(text, vendor)
    if may_be_misread(text, vendor):
        return Effects("A statement with unusual quotes", to_anything=True)
    try:
        tokens = tokenize(text, dialect)
    except SqlglotError:
        return Effects("A statement that cannot be parsed", to_anything=True)
    if has_params and count != sum(is_parameter(token, vendor) for token in tokens):
        # One is within quotes or a comment, and its value could end them.
        return Effects("A parameter within quotes", to_anything=True)
    effects = [_Statement(part, text, dialect).effects() for part in split(tokens)]
    result = effects[0] if effects else Effects(is_control=True)
    for more in effects[1:]:
        result |= more
    return result


# Statements

#: Read, but for the words of `_INNER` that are in them.
_QUERIES = {"SELECT", "WITH", "VALUES", "TABLE", "("}
_INNER = {"INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "REPLACE"}
_WRITES = {"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE"}
#: They write to nothing; what they read, the session had before.
_CONTROL = {
    "ABORT", "BEGIN", "CLOSE", "COMMIT", "DEALLOCATE", "DETACH", "DISCARD", "END",
    "FETCH", "LISTEN", "LOAD", "MOVE", "NOTIFY", "RELEASE", "RESET", "ROLLBACK",
    "SAVEPOINT", "SET", "SHOW", "START", "UNLISTEN",
}  # fmt: skip
#: Of PostgreSQL: a read-only transaction lets them through.
_UPKEEP = {"ANALYZE", "ANALYSE", "CHECKPOINT", "CLUSTER", "LOCK", "REINDEX", "VACUUM"}
#: They may write to what their text names, and to nothing else.
_DEFINITIONS = {
    "ALTER", "ANALYZE", "COMMENT", "CREATE", "DROP", "GRANT", "REFRESH", "REINDEX",
    "REPLACE", "REVOKE", "SECURITY", "VACUUM",
}  # fmt: skip
#: Of what is dropped or altered, what has tables in it.
_HOLDERS = {"DATABASE", "EXTENSION", "OWNED", "ROLE", "SCHEMA", "SYSTEM", "USER"}
#: Pragmas that write to the file when they are given a value, or do at once.
_WRITING_PRAGMAS = {
    "APPLICATION_ID", "AUTO_VACUUM", "ENCODING", "INCREMENTAL_VACUUM", "OPTIMIZE",
    "SCHEMA_VERSION", "USER_VERSION", "WRITABLE_SCHEMA",
}  # fmt: skip
#: Functions of PostgreSQL itself that write to the sequence or object they are given.
_WRITING_FUNCTIONS = {"nextval", "setval"}
_WRITING_ANYTHING = re.compile(
    r"lo_(creat|create|export|from_bytea|import|put|truncate\w*|unlink)|lowrite"
    r"|dblink\w*|pg_logical_emit_message|pg_replication_origin\w*"
    r"|pg_(create|drop|copy)_\w*slot|pg_import_system_collations|pg_restore_\w+"
    r"|pg_clear_\w+|query_to_xml\w*|cursor_to_xml\w*"
)


class _Statement:
    """One statement of a text."""

    def __init__(self, tokens: list[Token], text: str, dialect: str) -> None:
        self._tokens = tokens
        self._text = text
        self._dialect = dialect
        self._words = [word_of(token) for token in tokens]

    def effects(self) -> Effects:
        """Return what it may do."""
        calls = frozenset(self._calls())
        effects = self._by_word(self._words[0])
        if calls & _WRITING_FUNCTIONS:
            effects |= self._of_sequence(calls)
        elif writing := next(filter(_WRITING_ANYTHING.fullmatch, sorted(calls)), None):
            effects |= Effects(writing, to_anything=True)
        return replace(effects, calls=effects.calls | calls)

    def _by_word(self, word: str) -> Effects:
        if word in _QUERIES:
            return self._of_query()
        if word in _WRITES:
            return self._of_write()
        if word in _CONTROL:
            return Effects(is_control=True)
        if word in _UPKEEP and self._dialect == "postgres":
            return Effects(is_control=True)
        special = _SPECIAL.get(word)
        if special is not None:
            return special(self)
        if word in _DEFINITIONS:
            has_tables_in_it = any(one in _HOLDERS for one in self._words[1:3])
            if has_tables_in_it and word != "COMMENT":
                return Effects(word, to_anything=True)
            return Effects(word, to_named=True)
        return Effects(word or "A statement that is not known", to_anything=True)

    def _of_query(self) -> Effects:
        locks = "FOR" in self._words and bool({"UPDATE", "SHARE"} & {*self._words})
        inner = [
            word
            for number, word in enumerate(self._words)
            if word in _INNER and not self._is_harmless(number)
        ]
        if not inner:
            return Effects(locks=locks)
        return self._of_tree(inner[0]) | Effects(locks=locks)

    def _is_harmless(self, number: int) -> bool:
        """Tell whether a word that may write is something else where it is."""
        before = self._words[max(0, number - 3) : number]
        after = self._words[number + 1] if number + 1 < len(self._words) else ""
        if self._words[number] == "UPDATE":  # FOR [NO KEY] UPDATE
            return before[-1:] == ["FOR"] or before == ["FOR", "NO", "KEY"]
        # A column, or the function replace().
        return before[-1:] == ["."] or (
            self._words[number] == "REPLACE" and after == "("
        )

    def _of_write(self) -> Effects:
        return self._of_tree(self._words[0])

    def _of_tree(self, operation: str) -> Effects:
        anything = Effects(operation, to_anything=True)
        tree = self._parse()
        if tree is None:
            return anything
        writes = [node for node in tree.walk() if isinstance(node, _WRITING_NODES)]
        # Each word that writes is to have been understood as such.
        expected = sum(
            word in _INNER and not self._is_part(number)
            for number, word in enumerate(self._words)
        )
        if len(writes) < max(1, expected):
            return anything
        effects = Effects(operation)
        for node in writes:
            effects |= _of_node(node) or anything
        return effects

    def _is_part(self, number: int) -> bool:
        """Tell whether a word is part of a statement that another word begins."""
        word, before = self._words[number], self._words[number - 1] if number else ""
        if self._is_harmless(number):
            return True
        if word == "INTO":
            return any(
                one in ("INSERT", "MERGE", "REPLACE", "OR") or one in _CONFLICT
                for one in self._words[max(0, number - 1) : number]
            )
        # ON CONFLICT DO UPDATE; WHEN MATCHED THEN UPDATE, DELETE, INSERT; INSERT OR
        # REPLACE.
        return before in ("DO", "THEN", "OR")

    def _parse(self) -> exp.Expression | None:
        try:
            trees = parser_of(self._dialect)().parse(self._tokens, self._text)
        except (SqlglotError, RecursionError):
            return None
        tree: exp.Expression | None = trees[0] if len(trees) == 1 else None
        return None if isinstance(tree, exp.Command) else tree

    def _rest(self, start: int, end: int | None = None) -> Effects:
        """Return what the statement does that is a part of this one."""
        tokens = self._tokens[start:end]
        if not tokens:
            return Effects(self._words[0], to_anything=True)
        return _Statement(tokens, self._text, self._dialect).effects()

    def _of_explain(self) -> Effects:
        """EXPLAIN executes only what it analyses."""
        start, options = 1, []
        if self._words[1:2] == ["("]:
            start = self._closing(1) + 1
            options = self._words[2:start]
        while start < len(self._words) and self._words[start] in _EXPLAIN_OPTIONS:
            options.append(self._words[start])
            start += 1
        if not {"ANALYZE", "ANALYSE"} & {*options}:
            return Effects()
        return self._rest(start)

    def _of_copy(self) -> Effects:
        if self._words[1:2] == ["("]:
            end = self._closing(1)
            return self._rest(2, end) if end > 2 else Effects("COPY", to_anything=True)
        # The table, its columns, then the direction.
        depth = 0
        for number, word in enumerate(self._words):
            depth += (word == "(") - (word == ")")
            if depth == 0 and word == "TO":
                return Effects()
            if depth == 0 and word == "FROM":
                names = [token for token in self._tokens[1:number] if _is_name(token)]
                return Effects("COPY", frozenset(t.text.lower() for t in names))
        return Effects("COPY", to_anything=True)

    def _of_prepare(self) -> Effects:
        """What is prepared cannot be seen any more when it is executed."""
        if "AS" not in self._words:
            return Effects("PREPARE", to_anything=True)
        return self._rest(self._words.index("AS") + 1)

    def _of_declare(self) -> Effects:
        if "FOR" not in self._words:
            return Effects("DECLARE", to_anything=True)
        return self._rest(self._words.index("FOR") + 1)

    def _of_pragma(self) -> Effects:
        if any(word in _WRITING_PRAGMAS for word in self._words):
            return Effects("PRAGMA", to_named=True)
        return Effects(is_control=True)

    def _closing(self, start: int) -> int:
        depth = 0
        for number in range(start, len(self._words)):
            word = self._words[number]
            depth += (word == "(") - (word == ")")
            if depth == 0:
                return number
        return len(self._words)

    def _calls(self) -> list[str]:
        following = self._tokens[1:]
        return [
            token.text.lower()
            for token, after in zip(self._tokens, following, strict=False)
            if after.token_type is TokenType.L_PAREN
            and (token.text[:1].isalpha() or token.text[:1] == "_")
        ]

    def _of_sequence(self, calls: frozenset[str]) -> Effects:
        """Sequences are named after their tables; a parameter may name any."""
        [function, *_] = sorted(calls & _WRITING_FUNCTIONS)
        named = Effects(function, to_named=True)
        for number, token in enumerate(self._tokens[:-2]):
            if token.text.lower() not in _WRITING_FUNCTIONS:
                continue
            argument = self._tokens[number + 2]
            is_name = argument.token_type is TokenType.STRING
            is_lookup = argument.text.lower() == "pg_get_serial_sequence"
            if is_lookup:
                argument = self._tokens[min(number + 4, len(self._tokens) - 1)]
                is_name = argument.token_type is TokenType.STRING
            if not is_name or argument.text == LITERAL:
                return Effects(function, to_anything=True)
        return named


_CONFLICT = ("ABORT", "FAIL", "IGNORE", "REPLACE", "ROLLBACK")
_EXPLAIN_OPTIONS = {"ANALYZE", "ANALYSE", "VERBOSE", "QUERY", "PLAN"}
_SPECIAL: dict[str, Callable[[_Statement], Effects]] = {
    "EXPLAIN": _Statement._of_explain,
    "COPY": _Statement._of_copy,
    "PREPARE": _Statement._of_prepare,
    "DECLARE": _Statement._of_declare,
    "PRAGMA": _Statement._of_pragma,
}

# Trees

_WRITING_NODES = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Merge,
    exp.TruncateTable,
    exp.Into,
)


def _of_node(node: exp.Expression) -> Effects | None:
    """Return what a node of a tree writes to; None if that cannot be told."""
    targets = node.expressions if isinstance(node, exp.TruncateTable) else [node.this]
    if isinstance(node, exp.Delete) and node.args.get("tables"):
        return None
    names = [_table_name(target) for target in targets]
    if not names or None in names:
        return None
    tables = frozenset(name for name in names if name)
    is_truncate = isinstance(node, exp.TruncateTable)
    cascades = is_truncate and str(node.args.get("option")).upper() == "CASCADE"
    return Effects(
        tables=tables,
        deleted=tables if isinstance(node, (exp.Delete, exp.Merge)) else frozenset(),
        truncated=tables if cascades else frozenset(),
    )


def _table_name(target: Any) -> str | None:
    if isinstance(target, exp.Schema):
        target = target.this
    if isinstance(target, exp.Table) and isinstance(target.this, exp.Identifier):
        # What is joined to the target of an UPDATE, elsewhere, may be one, too.
        return None if target.args.get("joins") else target.name.lower()
    return None


def _is_name(token: Token) -> bool:
    return (
        token.token_type is TokenType.IDENTIFIER
        or token.text[:1].isalpha()
        or (token.text[:1] == "_")
    )

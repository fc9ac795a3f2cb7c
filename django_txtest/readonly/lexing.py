"""How a text of SQL is cut into words: sqlglot's tokens, as the database sees them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlglot.dialects.dialect import Dialect
from sqlglot.tokens import Token, TokenType  # type: ignore[attr-defined]

#: What stands for a parameter.
LITERAL = "txtest parameter"

_PARAMETER = re.compile(r"%%|%(?:\(\w+\))?[sbt]")
_LISTS = (
    (re.compile(r"%s(?:,\s*%s)+"), "%s"),
    (re.compile(r"\(%s\)(?:,\s*\(%s\))+"), "(%s)"),
)


def shortened(text: str) -> str:
    """Return a text with one parameter, or row of them, for each list of them."""
    for pattern, one in _LISTS:
        text = pattern.sub(one, text)
    return text


def with_literals(text: str, vendor: str) -> tuple[str, int]:
    """Put what parameters become in their place; return how many there are.

    Drivers of PostgreSQL put literals there, even within quotes. For SQLite, Django
    puts what SQLite itself fills in.
    """
    literal = "?" if vendor == "sqlite" else f"'{LITERAL}'"
    count = 0

    def put(match: re.Match[str]) -> str:
        nonlocal count
        if match[0] == "%%":
            return "%"
        count += 1
        return literal

    text = _PARAMETER.sub(put, text)
    return text, count


def is_parameter(token: Token, vendor: str) -> bool:
    """Tell whether a token is what `with_literals` put in."""
    if vendor == "sqlite":
        return token.token_type is TokenType.PLACEHOLDER
    return token.token_type is TokenType.STRING and token.text == LITERAL


def may_be_misread(text: str, vendor: str) -> bool:
    """Tell whether the database may see other tokens in the text than sqlglot does."""
    if "\0" in text:
        return True
    if vendor == "sqlite":
        # Its comments end at \n, and not at a \r before anything else.
        return "--" in text and "\r" in text.replace("\r\n", "")
    # Names in escapes; and strings whose backslashes older versions take literally.
    if _ESCAPED_NAME.search(text):
        return True
    return "\\" in text and bool(_ESCAPE_STRING.search(text)) and not _reads_escapes()


_ESCAPED_NAME = re.compile(r"\bu&\"", re.IGNORECASE)
_ESCAPE_STRING = re.compile(r"\be'", re.IGNORECASE)


@cache
def _reads_escapes() -> bool:
    tokens = tokenize(r"SELECT E'\''; DELETE FROM x; --'", "postgres")
    return any(token.token_type is TokenType.DELETE for token in tokens)


def tokenize(text: str, dialect: str) -> list[Token]:
    """Return the tokens of the text.

    :raises SqlglotError: if there is no end to a string, a name or a comment.
    """
    tokens: list[Token] = _tokenizer(dialect)().tokenize(text)
    return tokens


@cache
def _tokenizer(dialect: str) -> Callable[[], Any]:
    found = Dialect.get_or_raise(dialect)
    # sqlglot's own takes what follows a word of COMMANDS for one string, up to the
    # next semicolon, wherever that is.
    base: Any = found.tokenizer_class
    tokenizer: Any = type("Tokenizer", (base,), {"COMMANDS": set()})
    return lambda: tokenizer(dialect=found)


@cache
def parser_of(dialect: str) -> Callable[[], Any]:
    """Return what makes a parser of the dialect."""
    found = Dialect.get_or_raise(dialect)
    # sqlglot's own logs a warning of what it does not know, which we tell of ourselves.
    base: Any = found.parser_class
    parser: Any = type("Parser", (base,), {"_warn_unsupported": lambda self: None})
    return lambda: parser(dialect=found)


def split(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return the tokens of each statement."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def word_of(token: Token) -> str:
    """Return an unquoted word in upper case; else nothing."""
    is_quoted = token.token_type in _QUOTED
    return "" if is_quoted else token.text.upper()


_QUOTED = {
    getattr(TokenType, name)
    for name in (
        "STRING",
        "IDENTIFIER",
        "HEREDOC_STRING",
        "RAW_STRING",
        "NATIONAL_STRING",
        "UNICODE_STRING",
        "BYTE_STRING",
        "BIT_STRING",
        "HEX_STRING",
    )
    if hasattr(TokenType, name)
}

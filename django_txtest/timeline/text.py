"""Text that fits: in characters that can be shown, and in lines of a width."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from django_txtest.history import Event, Kind

#: The most lines of one event.
MAX_LINES = 8


def clean(text: str) -> str:
    """Return a text in which each character has a glyph, and may stand in XML."""
    return "".join(
        each if _is_shown(each) else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def cells(text: str) -> int:
    """Return how many columns a text takes in a font of fixed width."""
    return sum(map(_cells, text))


def wrap(text: str, width: int) -> tuple[str, ...]:
    """Return the lines of a text, none wider than `width` columns (at least 2)."""
    lines: list[str] = []
    line = ""
    for word in clean(" ".join(text.split())).split(" "):
        joined = f"{line} {word}" if line else word
        if cells(joined) <= width:
            line = joined
            continue
        lines += [line] if line else []
        *full, line = _chop(word, width)
        lines += full
    lines.append(line)
    if len(lines) > MAX_LINES:
        del lines[MAX_LINES:]
        lines[-1] = shortened(f"{lines[-1]} {'.' * width}", width)
    return tuple(lines)


def shortened(text: str, width: int) -> str:
    """Return one line, with an ellipsis for what is more than `width` columns."""
    text = clean(" ".join(text.split()))
    if cells(text) <= width:
        return text
    return next(_chop(text, width - 1), "").rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def told(event: Event, *, with_alias: bool = False) -> str:
    """Return an event as pictures say it."""
    match event.kind:
        case Kind.WAITS:
            text = f"waits for {' and '.join(event.others) or 'a lock'}"
        case Kind.GOES_ON:
            text = "goes on"
        case _:
            text = str(event)
    has_database = event.kind in (Kind.STATEMENT, Kind.COMMIT, Kind.ROLLBACK)
    return f"[{event.alias}] {text}" if with_alias and has_database else text


def _chop(text: str, width: int) -> Iterator[str]:
    piece, length = "", 0
    for each in text:
        if length + _cells(each) > width:
            yield piece
            piece, length = "", 0
        piece += each
        length += _cells(each)
    yield piece


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_shown(character: str) -> bool:
    # Controls, surrogates, what is not assigned; and what turns the direction of the
    # text, so that code is not shown as other than it is.
    return character == " " or unicodedata.category(character) not in {
        "Cc",
        "Cf",
        "Cn",
        "Co",
        "Cs",
        "Zl",
        "Zp",
    }

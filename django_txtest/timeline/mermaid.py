"""A history as a sequence diagram of Mermaid, for where text becomes pictures."""

from __future__ import annotations

from collections.abc import Sequence

from django_txtest.history import Edge, History, Kind
from django_txtest.timeline.spans import transactions
from django_txtest.timeline.text import clean, told, wrap

_COLUMNS = 40
# What ends a statement, begins an entity or a tag, or is a word of the language.
_ENTITIES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "%": "#37;"}


def to_mermaid(history: History, edges: Sequence[Edge] = ()) -> str:
    """Return a history as the text of a Mermaid diagram.

    Each session is a participant, each event a note, each transaction an activation.

    :param edges: dependencies, each of which gets an arrow, after its later event.
    :raises IndexError: for an edge between events that the history does not have.
    """
    names = {name: f"p{number}" for number, name in enumerate(history.sessions)}
    found = transactions(history)
    first = {each.first: each for each in found}
    last = {each.last: each for each in found}
    arrows: dict[int, list[str]] = {}
    for edge in edges:
        source, target = (
            names[history[end].session] for end in (edge.source, edge.target)
        )
        arrow = f"{source}-->>{target}: {_text(edge.label, 'depends')}"
        arrows.setdefault(max(edge.source, edge.target), []).append(arrow)
    several = history.has_several_aliases
    lines = [
        f"participant {code} as {_text(name, code)}" for name, code in names.items()
    ]
    for index, event in enumerate(history):
        code = names[event.session]
        if index in first:
            lines.append(f"activate {code}")
        text = told(event, with_alias=several)
        if event.kind is Kind.WAITS:
            text = f"... {text} ..."
        lines.append(f"Note over {code}: {_text(text, '-')}")
        lines += arrows.get(index, [])
        if index in last:
            lines.append(f"deactivate {code}")
    return "\n    ".join(["sequenceDiagram", *lines]) + "\n"


def _text(text: str, default: str) -> str:
    """Return a text as the language takes it, which has no place for none."""
    return "<br/>".join(
        "".join(_ENTITIES.get(each, each) for each in line)
        for line in wrap(clean(text).strip() or default, _COLUMNS)
    )

"""A history as one HTML page, which needs nothing else: no script, font or network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from django_txtest.history import Edge, Event, History, Kind
from django_txtest.timeline import style
from django_txtest.timeline.layout import Layout, lay_out
from django_txtest.timeline.markup import add
from django_txtest.timeline.svg import draw
from django_txtest.timeline.text import shortened, told

#: The longest statement that the list has in full.
_MAX_SQL = 4000
_LEGEND = (
    "Time goes downwards, and each session has a lane. A bracket is a transaction, "
    "dashed if it was rolled back. A hatched stretch is a wait. A numbered arrow is a "
    "dependency: what it comes from has to be first in a serial order. Each box leads "
    "to its line in the list, with its place in the code."
)
_DEPENDENCIES = (
    "The first is before the second in every serial order: rw, it read what the second "
    "overwrote; ww, it wrote what the second overwrote; wr, it wrote what the second "
    "read."
)


def to_html(
    history: History,
    edges: Sequence[Edge] = (),
    *,
    title: str = "Timeline",
    facts: Mapping[str, str] | None = None,
) -> str:
    """Return a page with the picture of a history, and all that is in it as a list.

    :param edges: dependencies, each of which gets an arrow.
    :param title: of the page.
    :param facts: what else is to be told, above the picture, by its heading.
    :raises IndexError: for an edge between events that the history does not have.
    """
    layout = lay_out(history, edges)
    html = ET.Element("html", {"lang": "en"})
    _head(html, title)
    body = add(html, "body")
    main = add(body, "main")
    add(main, "h1", text=title)
    if facts:
        listed = add(main, "dl")
        for number, (name, text) in enumerate(facts.items()):
            add(listed, "dt", text=name)
            kind = {"class": "verdict"} if number == 0 else {}
            add(add(listed, "dd"), "pre", kind, text)
    add(main, "h2", {"id": "picture"}, "What happened")
    region = {"class": "picture", "tabindex": "0", "role": "region"}
    region["aria-labelledby"] = "picture"
    add(main, "div", region).append(draw(layout, links=True))
    add(main, "p", {"class": "legend"}, _LEGEND)
    if edges:
        add(main, "h2", text="Dependencies")
        add(main, "p", {"class": "legend"}, _DEPENDENCIES)
        _list_edges(main, layout)
    add(main, "h2", {"id": "list"}, "In order")
    _list_events(main, history)
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html")


def _head(html: ET.Element, title: str) -> None:
    head = add(html, "head")
    add(head, "meta", {"charset": "utf-8"})
    size = "width=device-width, initial-scale=1"
    add(head, "meta", {"name": "viewport", "content": size})
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    add(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
    add(head, "title", text=title)
    add(head, "style", text=style.PAGE)


def _list_edges(main: ET.Element, layout: Layout) -> None:
    numbers = {box.index: n for n, box in enumerate(layout.boxes, start=1)}
    listed = add(main, "ol")
    for arrow in layout.arrows:
        ends = [numbers.get(end) for end in (arrow.edge.source, arrow.edge.target)]
        where = f" (from {ends[0]} to {ends[1]})" if None not in ends else ""
        add(listed, "li", text=f"{arrow.edge.label}{where}")


def _list_events(main: ET.Element, history: History) -> None:
    region = {"class": "scroll", "tabindex": "0", "role": "region"}
    region["aria-labelledby"] = "list"
    table = add(add(main, "div", region), "table")
    headings = add(add(table, "thead"), "tr")
    for name in ("", "Session", "What it did", "Where"):
        add(headings, "th", {"scope": "col"}, name)
    rows = add(table, "tbody")
    several = history.has_several_aliases
    number = 0
    for event in history:
        is_box = event.kind not in (Kind.WAITS, Kind.GOES_ON)
        number += is_box
        row = add(rows, "tr", {"id": f"event-{number}"} if is_box else {})
        add(row, "td", {"class": "number"}, str(number) if is_box else "")
        add(row, "td", {"class": "session"}, shortened(event.session, 60))
        what = add(row, "td", {"class": "what"}, told(event, with_alias=several))
        sql = _in_full(event)
        if sql:
            add(what, "code", text=sql)
        where = add(row, "td", {"class": "place"})
        if event.place is not None:
            add(where, "span", text=f"{event.place.file}:{event.place.line}")
            add(where, "span", text=f"in {event.place.function}")


def _in_full(event: Event) -> str:
    """Return the statement with all that is left out above, if something is."""
    sql = " ".join(event.sql.split())
    if "..." not in str(event) or not sql:
        return ""
    text = f"{sql} with {event.params!r}" if event.params else sql
    return text if len(text) <= _MAX_SQL else f"{text[:_MAX_SQL]} ..."

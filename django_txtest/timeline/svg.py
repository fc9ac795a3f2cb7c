"""A history as one SVG picture, which needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from django_txtest.history import Edge, History, Kind
from django_txtest.timeline import style
from django_txtest.timeline.layout import (
    BRACKET,
    CHARACTER,
    HEADER,
    LINE,
    MARGIN,
    PADDING,
    Arrow,
    Box,
    Bracket,
    Layout,
    Rect,
    Stretch,
    lay_out,
)
from django_txtest.timeline.markup import add
from django_txtest.timeline.text import told, wrap

_CLASSES = {
    Kind.START: "call",
    Kind.RETURNS: "call",
    Kind.COMMIT: "end",
    Kind.ROLLBACK: "rollback",
    Kind.CHECKPOINT: "checkpoint",
    Kind.ERROR: "error",
    Kind.RAISES: "error",
}
#: How round the corners of a box are.
_ROUND = {Kind.COMMIT: 14, Kind.ROLLBACK: 14, Kind.CHECKPOINT: 0}
#: From the middle of a line of text to what it stands on.
_BASE = 4


def to_svg(history: History, edges: Sequence[Edge] = ()) -> str:
    """Return a picture of a history, as the text of an SVG file.

    :param edges: dependencies, each of which gets an arrow.
    :raises IndexError: for an edge between events that the history does not have.
    """
    root = draw(lay_out(history, edges), captions=True)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def draw(layout: Layout, *, captions: bool = False, links: bool = False) -> ET.Element:
    """Return the element of a picture.

    :param captions: whether what the arrows mean is to stand below.
    :param links: whether each box links to the element `event-N` of the page.
    """
    lines = _captions(layout) if captions else []
    size = {
        "width": _px(layout.width),
        "height": _px(layout.height + LINE * len(lines)),
    }
    box = f"0 0 {size['width']} {size['height']}"
    root = ET.Element(
        "svg", {"class": "timeline", **size, "viewBox": box, "role": "group"}
    )
    names = [lane.session for lane in layout.lanes]
    add(root, "title", text=f"What {', '.join(names)} did, one step after the other")
    add(root, "style", text=style.SVG)
    _draw_definitions(root, len(names))
    _draw_lanes(root, layout)
    for stretch in layout.stretches:
        _draw_stretch(root, stretch)
    for bracket in layout.brackets:
        _draw_bracket(root, bracket)
    for number, each in enumerate(layout.boxes, start=1):
        _draw_box(root, each, number, links)
    for arrow in layout.arrows:
        _draw_arrow(root, arrow)
    for arrow in layout.arrows:  # above every line
        _draw_badge(root, arrow)
    for number, line in enumerate(lines):
        y = layout.height + LINE * number
        _text(root, MARGIN, y, line, {"class": "caption"})
    return root


def _captions(layout: Layout) -> list[str]:
    columns = max(24, int((layout.width - 2 * MARGIN) / CHARACTER))
    lines: list[str] = []
    for arrow in layout.arrows:
        lines += wrap(f"({arrow.number}) {arrow.edge.label}", columns)
    return [*lines, ""] if lines else []


def _draw_definitions(root: ET.Element, lanes: int) -> None:
    definitions = add(root, "defs")
    for hue in range(min(lanes, style.LANES)):
        hatch = add(
            definitions,
            "pattern",
            {
                "id": f"hatch-{hue}",
                "class": f"hue-{hue}",
                "width": "8",
                "height": "8",
                "patternUnits": "userSpaceOnUse",
                "patternTransform": "rotate(45)",
            },
        )
        add(hatch, "line", {"class": "hatch", "y2": "8"})
    head = add(
        definitions,
        "marker",
        {
            "id": "head",
            "viewBox": "0 0 10 10",
            "refX": "9",
            "refY": "5",
            "markerWidth": "11",
            "markerHeight": "11",
            "markerUnits": "userSpaceOnUse",
            "orient": "auto",
        },
    )
    add(head, "path", {"class": "head", "d": "M0,0 L10,5 L0,10 z"})


def _draw_lanes(root: ET.Element, layout: Layout) -> None:
    for number, lane in enumerate(layout.lanes):
        group = add(root, "g", {"class": f"lane {_hue(number)}"})
        add(group, "title", text=lane.session)
        add(group, "rect", {**_rect(lane.rect), "rx": "6"})
        middle = (lane.left + lane.right) / 2
        _text(group, middle, lane.rect.y + HEADER / 2, lane.title)
    for number, box in enumerate(layout.boxes, start=1):
        y = box.rect.y + box.rect.height / 2
        lane = layout.lanes[box.lane]
        ends = {"x1": MARGIN + 28.0, "x2": lane.left, "y1": y, "y2": y}
        line = {name: _px(value) for name, value in ends.items()}
        add(root, "line", {"class": "row", **line})
        _text(root, MARGIN + 22, y, str(number), {"class": "number"})


def _draw_box(root: ET.Element, box: Box, number: int, links: bool) -> None:
    event = box.event
    parent = root
    if links:
        parent = add(root, "a", {"href": f"#event-{number}"})
    names = f"box {_CLASSES.get(event.kind, 'statement')} {_hue(box.lane)}"
    group = add(parent, "g", {"class": names})
    place = f"\n{event.place}" if event.place else ""
    add(group, "title", text=f"{number}. {event.session}: {told(event)}{place}")
    corners = {"rx": str(_ROUND.get(event.kind, 4))}
    add(group, "rect", {**_rect(box.rect), **corners})
    top = box.rect.y + (box.rect.height - LINE * len(box.lines)) / 2
    for row, line in enumerate(box.lines):
        _text(group, box.rect.x + PADDING, top + LINE * (row + 0.5), line)


def _draw_bracket(root: ET.Element, bracket: Bracket) -> None:
    transaction = bracket.transaction
    ending = transaction.ending.value if transaction.ending else "open"
    names = f"bracket {ending} {_hue(bracket.lane)}"
    tick = _px(bracket.x + BRACKET - 5)
    x, top, bottom = map(_px, (bracket.x, bracket.top, bracket.bottom))
    end = f"H{tick}" if transaction.ending else ""
    path = add(
        root, "path", {"class": names, "d": f"M{tick},{top} H{x} V{bottom} {end}"}
    )
    ends = f"ends with {ending.upper()}" if transaction.ending else "does not end"
    told = f"transaction of {transaction.session} on {transaction.alias}, {ends}"
    add(path, "title", text=told)


def _draw_stretch(root: ET.Element, stretch: Stretch) -> None:
    group = add(root, "g", {"class": f"wait {_hue(stretch.lane)}"})
    texts = ", ".join(text for _, text in stretch.labels)
    add(group, "title", text=f"{stretch.wait.session} {texts}")
    fill = {"fill": f"url(#hatch-{stretch.lane % style.LANES})"}
    add(group, "rect", {"class": "hatched", **_rect(stretch.rect), **fill})
    for rect, text in stretch.labels:
        add(group, "rect", {"class": "plate", **_rect(rect), "rx": "3"})
        _text(group, rect.x + rect.width / 2, rect.y + rect.height / 2, text)


def _draw_arrow(root: ET.Element, arrow: Arrow) -> None:
    group = add(root, "g", {"class": "arrow"})
    add(group, "title", text=f"({arrow.number}) {arrow.edge.label}")
    points = " L".join(f"{_px(x)},{_px(y)}" for x, y in arrow.points)
    add(group, "path", {"d": f"M{points}"})
    line = {"class": "line", "d": f"M{points}", "marker-end": "url(#head)"}
    add(group, "path", line)


def _draw_badge(root: ET.Element, arrow: Arrow) -> None:
    group = add(root, "g", {"class": "badge"})
    add(group, "title", text=f"({arrow.number}) {arrow.edge.label}")
    x = arrow.badge.x + arrow.badge.width / 2
    y = arrow.badge.y + arrow.badge.height / 2
    radius = _px(arrow.badge.width / 2)
    add(group, "circle", {"cx": _px(x), "cy": _px(y), "r": radius})
    _text(group, x, y, str(arrow.number))


def _text(
    parent: ET.Element,
    x: float,
    middle: float,
    text: str,
    attributes: dict[str, str] | None = None,
) -> None:
    at = {"x": _px(x), "y": _px(middle + _BASE)}
    add(parent, "text", {**at, **(attributes or {})}, text)


def _rect(rect: Rect) -> dict[str, str]:
    at = {"x": rect.x, "y": rect.y, "width": rect.width, "height": rect.height}
    return {name: _px(value) for name, value in at.items()}


def _hue(lane: int) -> str:
    return f"hue-{lane % style.LANES}"


def _px(length: float) -> str:
    return f"{round(length, 1):g}"

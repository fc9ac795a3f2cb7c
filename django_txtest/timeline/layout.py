"""Where each thing of a picture is: time goes downwards, a lane for each session.

Every event has a row of its own, as one session goes at a time. So a line across the
lanes, in the middle of a row, meets no box but that row's. Lengths are in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django_txtest.history import Edge, Event, History, Kind
from django_txtest.timeline.spans import Transaction, Wait, transactions, waits
from django_txtest.timeline.text import cells, shortened, told, wrap

#: Of the font, which is fixed, at its size: rather too wide, as fonts differ.
CHARACTER = 7.5
LINE = 16
PADDING = 7
#: Between two rows.
GAP = 10
MARGIN = 16
HEADER = 30
#: For the numbers of the events.
AXIS = 34
#: For each bracket that is beside others, left of the boxes.
BRACKET = 14
#: For each arrow that is beside others, between lanes. A badge has its diameter.
TRACK = 26
BADGE = 20
#: Between two ends of arrows at a box.
PORT = 12
_NO_BOX = (Kind.WAITS, Kind.GOES_ON)


@dataclass(frozen=True)
class Rect:
    """A rectangle, by its left upper corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.y + self.height


@dataclass(frozen=True)
class Lane:
    """A session, from its header to the end of the picture."""

    session: str
    title: str
    rect: Rect
    #: Where its boxes are.
    left: float
    right: float


@dataclass(frozen=True)
class Box:
    """An event that a session does; `index` is its number in the history."""

    index: int
    event: Event
    lane: int
    rect: Rect
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Bracket:
    """A transaction, left of its boxes."""

    transaction: Transaction
    lane: int
    x: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Stretch:
    """A wait, with what is told about it on the way."""

    wait: Wait
    lane: int
    rect: Rect
    labels: tuple[tuple[Rect, str], ...]


@dataclass(frozen=True)
class Arrow:
    """A dependency, as a line through corners, with its number on it."""

    number: int
    edge: Edge
    points: tuple[tuple[float, float], ...]
    badge: Rect


@dataclass(frozen=True)
class Layout:
    """All of a picture."""

    width: float
    height: float
    lanes: tuple[Lane, ...]
    boxes: tuple[Box, ...]
    brackets: tuple[Bracket, ...]
    stretches: tuple[Stretch, ...]
    arrows: tuple[Arrow, ...]


def lay_out(history: History, edges: Sequence[Edge] = ()) -> Layout:
    """Return where everything of a picture is.

    :param edges: those that get an arrow.
    :raises IndexError: for an edge between events that the history does not have.
    """
    return _Drawing(history, edges).layout()


class _Drawing:
    def __init__(self, history: History, edges: Sequence[Edge]) -> None:
        self._history = history
        self._lane_of = {name: lane for lane, name in enumerate(history.sessions)}
        several = history.has_several_aliases
        texts = [told(event, with_alias=several) for event in history]
        self._columns = _columns(len(self._lane_of), texts)
        self._lines = [wrap(text, self._columns) for text in texts]
        self._transactions = transactions(history)
        self._indents = _indents(self._transactions)
        self._edges = edges
        self._ends = [(self._anchor(e.source), self._anchor(e.target)) for e in edges]
        self._rows = self._make_rows()
        self._bottom = self._rows[-1].bottom if self._rows else MARGIN + HEADER
        self._heights = self._make_heights()
        self._gutters = [self._gutter(*ends) for ends in self._ends]
        self._tracks = self._make_tracks()
        self._lanes = self._make_lanes()

    def layout(self) -> Layout:
        right = self._lanes[-1].rect.right if self._lanes else MARGIN + AXIS
        return Layout(
            right + self._width_of_gutter(len(self._lanes) - 1),
            self._bottom + GAP + MARGIN,
            tuple(self._lanes),
            tuple(
                self._box(index, event)
                for index, event in enumerate(self._history)
                if event.kind not in _NO_BOX
            ),
            tuple(map(self._bracket, self._transactions, self._indents)),
            tuple(map(self._stretch, waits(self._history))),
            tuple(map(self._arrow, range(len(self._edges)))),
        )

    # Down

    def _make_rows(self) -> list[Rect]:
        """Return for each event a rectangle of which only the height is of use yet."""
        ends = Counter(index for pair in self._ends for index in pair)
        rows: list[Rect] = []
        y: float = MARGIN + HEADER
        for index, event in enumerate(self._history):
            height = float(LINE + 4)
            if event.kind not in _NO_BOX:
                height = 2 * PADDING + LINE * len(self._lines[index])
                height = max(height, PORT * (ends[index] + 1))
            rows.append(Rect(0, y + GAP, 0, height))
            y = rows[-1].bottom
        return rows

    def _make_heights(self) -> list[tuple[float, float]]:
        """Return where each arrow begins and ends, one below the other at a box."""
        ends = Counter(index for pair in self._ends for index in pair)
        used = Counter[int]()

        def port(index: int) -> float:
            used[index] += 1
            row = self._rows[index]
            return row.y + row.height * used[index] / (ends[index] + 1)

        return [(port(source), port(target)) for source, target in self._ends]

    def _anchor(self, index: int) -> int:
        """Return the event whose box an arrow to this event goes to."""
        if not 0 <= index < len(self._history):
            raise IndexError(
                f"There is no event {index} in a history of {len(self._history)}."
            )
        session = self._history[index].session
        for earlier in range(index, -1, -1):
            event = self._history[earlier]
            if event.session == session and event.kind not in _NO_BOX:
                return earlier
        raise IndexError(f"Session {session} has done nothing before event {index}.")

    # Across

    def _gutter(self, source: int, target: int) -> int:
        """Return which lane the arrow goes down to the right of."""
        before, after = (
            self._lane_of[self._history[i].session] for i in (source, target)
        )
        return after - 1 if before < after else after

    def _make_tracks(self) -> list[int]:
        """Return for each arrow which line of its gutter it has to itself."""
        tracks: list[int] = []
        for number, gutter in enumerate(self._gutters):
            top, bottom = sorted(self._heights[number])
            taken = set()
            for other, track in enumerate(tracks):
                other_top, other_bottom = sorted(self._heights[other])
                is_apart = other_bottom + BADGE < top or bottom + BADGE < other_top
                if self._gutters[other] == gutter and not is_apart:
                    taken.add(track)
            tracks.append(min(set(range(len(taken) + 1)) - taken))
        return tracks

    def _width_of_gutter(self, gutter: int) -> float:
        tracks = zip(self._gutters, self._tracks, strict=True)
        count = max(
            (track + 1 for other, track in tracks if other == gutter), default=0
        )
        return MARGIN + TRACK * count

    def _make_lanes(self) -> list[Lane]:
        brackets = Counter[str]()
        for transaction, indent in zip(self._transactions, self._indents, strict=True):
            name = transaction.session
            brackets[name] = max(brackets[name], indent + 1)
        lanes: list[Lane] = []
        x: float = MARGIN + AXIS
        for number, name in enumerate(self._lane_of):
            left = x + PADDING + BRACKET * brackets[name]
            right = left + 2 * PADDING + self._columns * CHARACTER
            height = self._bottom + GAP - MARGIN
            rect = Rect(x, MARGIN, right + PADDING - x, height)
            lanes.append(Lane(name, shortened(name, self._columns), rect, left, right))
            x = rect.right + self._width_of_gutter(number)
        return lanes

    # Each thing

    def _row(self, index: int) -> Rect:
        row, lane = self._rows[index], self._lane_at(index)
        return Rect(lane.left, row.y, lane.right - lane.left, row.height)

    def _lane_at(self, index: int) -> Lane:
        return self._lanes[self._lane_of[self._history[index].session]]

    def _box(self, index: int, event: Event) -> Box:
        lane = self._lane_of[event.session]
        return Box(index, event, lane, self._row(index), self._lines[index])

    def _bracket(self, transaction: Transaction, indent: int) -> Bracket:
        lane = self._lane_of[transaction.session]
        x = self._lanes[lane].left - BRACKET * (indent + 1) + 4
        top, bottom = self._row(transaction.first).y, self._row(transaction.last).bottom
        return Bracket(transaction, lane, x, top, bottom)

    def _stretch(self, wait: Wait) -> Stretch:
        ends_it = self._history[wait.last]
        labels = list(wait.told)
        if ends_it.session != wait.session or ends_it.kind is Kind.WAITS:
            bottom = self._rows[-1].bottom
        elif ends_it.kind is Kind.GOES_ON:
            labels.append(wait.last)
            bottom = self._rows[wait.last].bottom
        else:
            bottom = self._rows[wait.last].y - GAP
        row = self._row(wait.first)
        lane = self._lane_of[wait.session]
        return Stretch(
            wait,
            lane,
            Rect(row.x, row.y, row.width, bottom - row.y),
            tuple(map(self._label, labels)),
        )

    def _label(self, index: int) -> tuple[Rect, str]:
        row, text = self._row(index), " ".join(self._lines[index])
        text = shortened(text, self._columns - 2)
        width = cells(text) * CHARACTER + 2 * PADDING
        x = row.x + (row.width - width) / 2
        return Rect(x, row.y + 2, width, row.height - 4), text

    def _arrow(self, number: int) -> Arrow:
        source, target = self._ends[number]
        gutter = self._gutters[number]
        start, end = self._heights[number]
        track = self._lanes[gutter].rect.right + MARGIN / 2
        track += TRACK * self._tracks[number] + TRACK / 2

        def side(index: int) -> float:
            lane = self._lane_at(index)
            return lane.right if lane.right < track else lane.left

        points = (
            (side(source), start),
            (track, start),
            (track, end),
            (side(target), end),
        )
        middle = (start + end) / 2
        badge = Rect(track - BADGE / 2, middle - BADGE / 2, BADGE, BADGE)
        return Arrow(number + 1, self._edges[number], points, badge)


def _columns(sessions: int, texts: Sequence[str]) -> int:
    """Return how many characters the lanes are wide: fewer where there are many."""
    most = {1: 64, 2: 52, 3: 40}.get(sessions, 34)
    return min(most, max((24, *map(cells, texts))))


def _indents(found: Sequence[Transaction]) -> list[int]:
    """Return which transactions go beside which, as they are on several databases."""
    indents: list[int] = []
    for number, each in enumerate(found):
        taken = {
            indent
            for indent, other in zip(indents, found[:number], strict=True)
            if other.session == each.session and other.last >= each.first
        }
        indents.append(min(set(range(len(taken) + 1)) - taken))
    return indents

"""A history as a table for a terminal: a column for each session."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from django_txtest.history import Event, History, Kind
from django_txtest.timeline.spans import transactions, waits
from django_txtest.timeline.text import clean, shortened, told, wrap

_STYLES = {
    Kind.START: "dim",
    Kind.RETURNS: "dim",
    Kind.COMMIT: "bold green",
    Kind.ROLLBACK: "bold yellow",
    Kind.CHECKPOINT: "magenta",
    Kind.WAITS: "italic yellow",
    Kind.GOES_ON: "italic yellow",
    Kind.ERROR: "bold red",
    Kind.RAISES: "bold red",
}
#: One for each session, again and again.
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")
#: How wide a session's column may be, in characters.
_LEAST, _MOST = 16, 80


class TerminalTimeline:
    """What rich can print: the sessions side by side, time downwards.

    Left of what a session does there is a bracket for its transaction, and a shade
    where it waits.
    """

    def __init__(self, history: History, *, places: bool = True) -> None:
        self._history = history
        self._places = places

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        names = self._history.sessions
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", justify="right", style="dim")
        # The number and the brackets, each with the space behind it.
        free = options.max_width - 6 - 5 * len(names)
        width = max(_LEAST, min(_MOST, free // max(1, len(names))))
        for name in names:
            table.add_column("", no_wrap=True)
            title = Text(shortened(name, width), _colour(names, name))
            table.add_column(title, no_wrap=True)
        marks = _marks(self._history)
        number = 0
        for index, event in enumerate(self._history):
            is_step = event.kind not in (Kind.WAITS, Kind.GOES_ON)
            number += is_step
            text = self._text(event, width)
            height = text.plain.count("\n") + 1
            cells = [Text(str(number) if is_step else "")]
            for name in names:
                mark = _mark(marks[name][index], height)
                cells.append(Text(mark, style=_colour(names, name)))
                cells.append(text if name == event.session else Text())
            table.add_row(*cells)
        yield table

    def _text(self, event: Event, width: int) -> Text:
        lines = wrap(told(event, with_alias=self._history.has_several_aliases), width)
        text = Text("\n".join(lines), style=_STYLES.get(event.kind, "none"))
        if self._places and event.place is not None:
            for line in wrap(clean(str(event.place)), width):
                text.append(f"\n{line}", style="not bold dim")
        return text


def _colour(names: Sequence[str], name: str) -> str:
    return _COLOURS[names.index(name) % len(_COLOURS)]


def _mark(mark: str, height: int) -> str:
    """Return a mark that goes on for the height of a row."""
    middle = "│" if mark in "┌└" else mark
    lines = [middle] * height
    if mark == "┌":
        lines[0] = mark
    elif mark == "└":
        lines[-1] = mark
    return "\n".join(lines)


def _marks(history: History) -> dict[str, Sequence[str]]:
    marks = {name: [" "] * len(history) for name in history.sessions}
    for transaction in transactions(history):
        column = marks[transaction.session]
        for index in range(transaction.first, transaction.last + 1):
            column[index] = "│"
        column[transaction.first] = "┌"
        if transaction.ending is not None:
            column[transaction.last] = "└"
    for wait in waits(history):
        ends = wait.last + (history[wait.last].session != wait.session)
        for index in range(wait.first, ends):
            marks[wait.session][index] = "░"
    return dict(marks)

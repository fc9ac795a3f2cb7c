"""Transcripts for people: in colour, and with the sessions side by side."""

from __future__ import annotations

import sys
from io import StringIO

from rich.console import Console
from rich.text import Text

from django_txtest.history import History, Kind
from django_txtest.timeline.terminal import TerminalTimeline

#: The narrowest column that is worth reading, and the most columns.
COLUMN = 45
COLUMNS = 3
#: How wide columns are in all where there is no terminal.
WIDTH = 120
#: One for each session, again and again.
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")
_STYLES = {
    Kind.WAITS: "bold yellow",
    Kind.GOES_ON: "yellow",
    Kind.ERROR: "bold red",
    Kind.RAISES: "bold red",
    Kind.COMMIT: "bold",
    Kind.ROLLBACK: "bold",
}


def for_terminal(history: History, layout: str = "auto") -> str:
    """Return a transcript for standard error, in colour if it is a terminal with any.

    :param layout: ``"lines"``, in order; ``"columns"``, side by side; or ``"auto"``:
        side by side on a terminal that is wide enough for that.
    """
    console = Console(stderr=True)
    is_terminal = sys.stderr.isatty()
    width = console.width - 2 if is_terminal else WIDTH  # a report is indented
    count = len(history.sessions)
    fits = is_terminal and count <= COLUMNS and width >= count * COLUMN
    in_columns = layout == "columns" or (layout == "auto" and fits)
    colour = is_terminal and console.color_system is not None and not console.no_color
    if not in_columns and not colour:
        return history.transcript()
    return render(history, in_columns=in_columns, width=width, colour=colour)


def render(
    history: History, *, in_columns: bool, width: int = WIDTH, colour: bool = False
) -> str:
    """Return a transcript.

    :param in_columns: whether sessions are side by side, instead of a line for each
        event that begins with the session's name.
    :param width: of all columns, in characters.
    :param colour: with the escape codes of a terminal.
    """
    output = StringIO()
    console = Console(
        file=output,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    if in_columns:
        console.print(TerminalTimeline(history))
    else:
        for line in _lines(history):
            console.print(line, soft_wrap=True)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


def _lines(history: History) -> list[Text]:
    names = history.sessions
    width = max(map(len, names), default=0)
    colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(names)}
    with_alias = history.has_several_aliases
    lines = []
    for event in history:
        line = Text()
        line.append(f"{event.session:<{width}}  ", colours[event.session])
        line.append(event.told(with_alias=with_alias), _STYLES.get(event.kind, ""))
        if event.place is not None:
            line.append(f"\n{' ' * (width + 6)}{event.place}", "dim")
        lines.append(line)
    return lines

"""Transcripts for people: in colour, and with the sessions side by side.

Pure: no Django is imported.
"""

from __future__ import annotations

import sys
from io import StringIO

from django_txtest.history import Event, History, Kind

#: The narrowest column that is worth reading, and the most columns.
COLUMN = 45
COLUMNS = 3
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


def render(
    history: History,
    *,
    side_by_side: bool = False,
    width: int = 120,
    colour: bool = False,
) -> str:
    """Return a transcript.

    :param side_by_side: with a column for each session, instead of a line for each
        event that begins with the session's name.
    :param width: of all columns, in characters.
    :param colour: with the escape codes of a terminal.
    """
    # Only where something failed: the import takes longer than a hundred executions.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = history.sessions
    colours = {n: _COLOURS[i % len(_COLOURS)] for i, n in enumerate(names)}
    tells_alias = history.has_several_aliases
    output = StringIO()
    console = Console(
        file=output,
        width=width if side_by_side else 10_000,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )

    def text_of(event: Event) -> Text:
        text = Text()
        text.append(event.told(with_alias=tells_alias), _STYLES.get(event.kind, ""))
        if event.place is not None:
            indent = "  " if side_by_side else " " * (max(map(len, names)) + 6)
            text.append(f"\n{indent}{event.place}", "dim")
        return text

    if side_by_side:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True)
        for name in names:
            table.add_column(
                Text(name, colours[name]), ratio=1, overflow="fold", no_wrap=False
            )
        for event in history:
            cells = [""] * len(names)
            row: list[str | Text] = list(cells)
            row[names.index(event.session)] = text_of(event)
            table.add_row(*row)
        console.print(table)
    else:
        name_width = max(map(len, names), default=0)
        for event in history:
            line = Text()
            line.append(f"{event.session:<{name_width}}  ", colours[event.session])
            line.append_text(text_of(event))
            console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def for_terminal(history: History, layout: str = "auto") -> str:
    """Return a transcript for standard error, in colour if it is a terminal with any.

    :param layout: ``"lines"``, in order; ``"columns"``, side by side; or ``"auto"``:
        side by side on a terminal that is wide enough for that.
    """
    from rich.console import Console

    console = Console(stderr=True)
    is_terminal = sys.stderr.isatty()
    width = console.width - 2 if is_terminal else 120  # a report is indented
    count = len(history.sessions)
    fits = is_terminal and count <= COLUMNS and width >= count * COLUMN
    side_by_side = layout == "columns" or (layout == "auto" and fits)
    colour = is_terminal and console.color_system is not None and not console.no_color
    if not side_by_side and not colour:
        return history.transcript()
    return render(history, side_by_side=side_by_side, width=width, colour=colour)

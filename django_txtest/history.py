"""What each session of an execution did, in order, and a transcript of it.

Pure: no Django is imported, so that a history can be read anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

#: The longest statement, and the longest parameter, that a transcript shows in full.
SQL_LENGTH = 150
VALUE_LENGTH = 40

_QUOTED_NAME = re.compile(r'"([A-Za-z_][A-Za-z0-9_]*)"')
# Django names savepoints after the thread, which says nothing and always differs.
_SAVEPOINT = re.compile(r"\bs\d+_x(\d+)\b")
_PLACEHOLDER = re.compile(r"%(?:\((?P<name>[^)]*)\))?(?P<kind>[s%])")
_SELECT_LIST = re.compile(r"^(SELECT (?:DISTINCT )?)(?P<list>.+?)(?= FROM )", re.DOTALL)


class Kind(Enum):
    """What an event is."""

    START = "start"
    STATEMENT = "statement"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    CHECKPOINT = "checkpoint"
    #: A step has to wait, for the sessions in `others`.
    WAITS = "waits"
    #: A step that waited goes on.
    GOES_ON = "goes on"
    #: What the database answered to a step was an error.
    ERROR = "error"
    RETURNS = "returns"
    RAISES = "raises"


@dataclass(frozen=True)
class Place:
    """A line of the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Event:
    """One thing that a session did, or that happened to it.

    `text` is the label of a checkpoint, what a call returned, or which error it was.
    `in_transaction` says that a statement does not commit by itself, `many` that
    `params` has those of each time that it is made, as `executemany` takes them.
    """

    session: str
    kind: Kind
    alias: str = "default"
    sql: str = ""
    params: Any = None
    text: str = ""
    place: Place | None = None
    others: tuple[str, ...] = ()
    in_transaction: bool = False
    many: bool = False

    @property
    def shape(self) -> tuple[Any, ...]:
        """What is the same whenever the same thing is done again.

        Neither parameters, where there may be a time of day, nor what was returned.
        """
        text = self.text if self.kind is Kind.CHECKPOINT else ""
        if self.kind in (Kind.ERROR, Kind.RAISES):
            text = self.text.partition(":")[0]
        others = frozenset(self.others)
        sql = normalize_savepoints(self.sql)
        return self.session, self.kind, self.alias, sql, text, others

    def told(self, *, with_alias: bool = False) -> str:
        """Return a line about it, with the alias of its database where that is wanted.

        What happened to a session, and is no step of its own, is indented.
        """
        text = str(self)
        if with_alias and self.kind in (Kind.STATEMENT, Kind.COMMIT, Kind.ROLLBACK):
            text = f"[{self.alias}] {text}"
        if self.kind in (Kind.WAITS, Kind.GOES_ON, Kind.ERROR):
            text = f"  {text}"
        return text

    def __str__(self) -> str:
        match self.kind:
            case Kind.STATEMENT:
                return shorten(self.sql, self.params, many=self.many)
            case Kind.COMMIT | Kind.ROLLBACK:
                return self.kind.name
            case Kind.CHECKPOINT:
                return f"checkpoint {self.text!r}"
            case Kind.WAITS:
                return f"<waiting for {' and '.join(self.others) or 'a lock'}>"
            case Kind.GOES_ON:
                return "<goes on>"
            case Kind.ERROR:
                return f"! {self.text}"
            case Kind.START:
                return f"begins {self.text}".rstrip()
            case _:
                return f"{self.kind.value} {self.text}"


@dataclass(frozen=True)
class Edge:
    """A dependency between two events of a history, as Adya draws it.

    What `source` did has to come first in a serial order, though it may have come last
    here; both are numbers in the history, from 0. `label` says in a few words why.
    """

    source: int
    target: int
    label: str = ""


class History(Sequence[Event]):
    """The events of one execution, in order."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events = list(events)

    def add(self, event: Event) -> None:
        """Add what has just happened."""
        self._events.append(event)

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: Any) -> Any:
        return self._events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._events == other._events

    __hash__ = None  # type: ignore[assignment]

    @property
    def sessions(self) -> list[str]:
        """The names of the sessions, in the order in which they began."""
        return list(dict.fromkeys(event.session for event in self._events))

    @property
    def has_waits(self) -> bool:
        """Whether a session had to wait for another."""
        return any(event.kind is Kind.WAITS for event in self._events)

    @property
    def has_several_aliases(self) -> bool:
        """Whether there are steps on more than one database."""
        steps = (Kind.STATEMENT, Kind.COMMIT, Kind.ROLLBACK)
        return len({each.alias for each in self._events if each.kind in steps}) > 1

    def of(self, session: str) -> list[Event]:
        """Return what one session did."""
        return [event for event in self._events if event.session == session]

    def first_difference(self, other: History) -> str | None:
        """Say where the other history takes another way, or return None."""
        for number in range(max(len(self), len(other))):
            mine, its = (
                history[number] if number < len(history) else None
                for history in (self, other)
            )
            if mine is None or its is None or mine.shape != its.shape:
                return (
                    f"event {number + 1} was {_told(mine)}, and then it was "
                    f"{_told(its)}"
                )
        return None

    def transcript(self) -> str:
        """Return a line for each event: the session, what it did, and from where."""
        width = max((len(name) for name in self.sessions), default=0)
        with_alias = self.has_several_aliases
        lines = []
        for event in self._events:
            text = event.told(with_alias=with_alias)
            lines.append(f"{event.session:<{width}}  {text}")
            if event.place is not None:
                lines.append(f"{'':<{width}}      {event.place}")
        return "\n".join(lines)

    __str__ = transcript

    def __repr__(self) -> str:
        by = f" by {', '.join(self.sessions)}" if self._events else ""
        return f"<History of {len(self)} events{by}>"


def normalize_savepoints(sql: str) -> str:
    """Return SQL in which savepoints are not named after a thread."""
    return _SAVEPOINT.sub(r"s\1", sql) if "_x" in sql else sql


def shorten(sql: str, params: Any = None, *, many: bool = False) -> str:
    """Return SQL in one line that can be read, with its parameters in their places.

    :param many: whether `params` has those of each time; the first ones are shown.
    """
    more = ""
    if many:
        # An iterator is used up.
        times = params if isinstance(params, Sequence) else ()
        more = f" (and {len(times) - 1} more)" if len(times) > 1 else ""
        params = times[0] if times else None
    text = normalize_savepoints(" ".join(sql.split()))
    text = _QUOTED_NAME.sub(r"\1", text)
    text = _SELECT_LIST.sub(_shorter_list, text)
    if params:
        text = _fill(text, params)
    if len(text) > SQL_LENGTH:
        half = (SQL_LENGTH - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text + more


def _shorter_list(match: re.Match[str]) -> str:
    columns = match["list"].split(", ")
    # A "%" might be a parameter, which the rest has to be filled in after.
    if len(columns) < 3 or "%" in match["list"] or "(" in match["list"]:
        return match[0]
    return f"{match[1]}{columns[0]}, ..."


def _fill(text: str, params: Any) -> str:
    values = iter(()) if isinstance(params, Mapping) else iter(params)

    def value(match: re.Match[str]) -> str:
        if match["kind"] == "%":
            return "%"
        if match["name"] is not None and isinstance(params, Mapping):
            return _show(params.get(match["name"]))
        return _show(next(values, None))

    return _PLACEHOLDER.sub(value, text)


def _show(value: Any) -> str:
    # How the drivers wrap JSON and bytes.
    value = getattr(value, "adapted", getattr(value, "obj", value))
    if isinstance(value, memoryview):
        value = value.tobytes()
    if value is None:
        return "NULL"
    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    if len(text) > VALUE_LENGTH:
        text = f"{text[: VALUE_LENGTH - 3]}..."
    return text


def _told(event: Event | None) -> str:
    return "the end" if event is None else f"{event.session}: {event}"

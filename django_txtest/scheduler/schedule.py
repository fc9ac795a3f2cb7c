"""A schedule: which session goes next, from the first step to the last."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from django_txtest.exceptions import InvalidSchedule

_LETTERS = string.ascii_lowercase + string.ascii_uppercase
#: How many sessions one execution can have.
MAX_SESSIONS = len(_LETTERS)
_RUN = re.compile(r"([a-zA-Z])([1-9][0-9]{0,5})?")


@dataclass(frozen=True)
class Schedule:
    """The choices of one execution, each the number of a session, from 0.

    Its text has a letter for each session and how many steps it makes in a row: in
    ``a2ba3`` the first session makes two steps, the second one, the first three.
    """

    choices: tuple[int, ...] = ()

    def __init__(self, choices: Iterable[int] = ()) -> None:
        object.__setattr__(self, "choices", tuple(choices))
        for choice in self.choices:
            if not 0 <= choice < MAX_SESSIONS:
                raise InvalidSchedule(
                    f"{choice} is not the number of a session: they go from 0 to "
                    f"{MAX_SESSIONS - 1}."
                )

    def encode(self) -> str:
        """Return the schedule as a short text that can be printed and kept."""
        runs = ((choice, len(list(run))) for choice, run in groupby(self.choices))
        return "".join(
            f"{letter(choice)}{length if length > 1 else ''}" for choice, length in runs
        )

    @classmethod
    def decode(cls, text: str) -> Schedule:
        """Return the schedule that was encoded as `text`.

        :raises InvalidSchedule: if none was.
        """
        choices: list[int] = []
        position = 0
        while position < len(text):
            run = _RUN.match(text, position)
            if run is None:
                raise InvalidSchedule(
                    f"{text!r} is not a schedule, from {text[position:]!r} on: after "
                    f"the letter of each session comes a number of steps, or nothing "
                    f"for one. Copy what the failure printed."
                )
            choices += [_LETTERS.index(run[1])] * int(run[2] or 1)
            position = run.end()
        return cls(choices)

    def __len__(self) -> int:
        return len(self.choices)

    def __str__(self) -> str:
        return self.encode()

    def __repr__(self) -> str:
        return f"Schedule.decode({self.encode()!r})"


def letter(session: int) -> str:
    """Return what the text of a schedule calls the session of a number, from 0."""
    return _LETTERS[session]

"""An exploration, part of whose executions others have made ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django_txtest.history import History
from django_txtest.outcomes import Results
from django_txtest.scheduler.ahead import Ahead
from django_txtest.scheduler.base import Scheduler
from django_txtest.scheduler.explorer import Explorer, Made
from django_txtest.scheduler.parts import Follower
from django_txtest.scheduler.remote import turn
from django_txtest.scheduler.walk import Execution


class SpreadExplorer(Explorer):
    """Asks its scheduler for every execution, and makes what nobody else has made.

    The scheduler is told of all executions in its own order, and cannot tell who made
    them; so what comes of it is what would come of it alone. One that failed is made
    here again.
    """

    ahead: Ahead

    def _make(self, scheduler: Scheduler) -> Made | None:
        ahead = self.ahead
        follower = Follower(scheduler, ahead.records, partial(ahead.more, scheduler))
        record = follower.find()
        if scheduler.lost is not None:
            return None
        if record is None:
            made = self._make_by(scheduler, follower.choose)
        else:
            ahead.used += 1
            history = History(record.events)
            scheduler.end(history)
            self._engine.was_bounded |= record.was_bounded
            made = Made(history, len(record.choices))
        if scheduler.lost is None:
            ahead.go_on(scheduler)
        return made

    # Others may explore in this process, too.

    def _execute(self, *args: Any) -> tuple[Execution, Exception | None]:
        with turn():
            return super()._execute(*args)

    def _execute_serially(self, order: Sequence[int]) -> Results:
        with turn():
            return super()._execute_serially(order)

    def _add_failure(self, *args: Any) -> None:
        with turn():
            super()._add_failure(*args)

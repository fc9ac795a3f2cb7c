"""A pool of forked processes that make batch after batch of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django_txtest.concurrency import measuring
from django_txtest.concurrency.batch import conduct
from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.forking import ForkedProcess, Lifeline, Origin
from django_txtest.concurrency.processes import end_all, end_late
from django_txtest.concurrency.travel import pack_jobs
from django_txtest.exceptions import InvalidCall
from django_txtest.outcomes import Outcome


class Pool:
    """Forks when there is a call to make; what it forked stays until it is closed.

    :param known: calls that need not travel, as they are known before the fork.
    """

    def __init__(self, aliases: Sequence[str], known: Sequence[Call] = ()) -> None:
        self._aliases = aliases
        self._known = known
        self._lifeline = Lifeline()
        self._processes: list[ForkedProcess] = []
        self._is_closed = False

    def run_known(
        self, meet: str | None, timeout: float, *, last: bool = False
    ) -> list[Outcome]:
        """Make the known calls.

        :param last: end the processes, as the pool will not be needed any more.
        """
        plan = measuring.plan()
        jobs = [(number, meet, plan, last) for number in range(len(self._known))]
        return self._run(self._known, jobs, meet, timeout, last)

    def run(
        self, calls: Sequence[Call], meet: str | None, timeout: float
    ) -> list[Outcome]:
        """Make calls that may be new.

        :raises PicklingError: if a call cannot be sent to a process.
        :raises InvalidCall: if the pool is closed.
        """
        if self._is_closed:
            raise InvalidCall("These workers have ended: their with block is over.")
        return self._run(calls, pack_jobs(calls, meet), meet, timeout)

    def close(self) -> None:
        """End the processes."""
        self._is_closed = True
        self._end(processes := self._processes)
        for process in processes:
            process.close()
        self._lifeline.close()

    def _run(
        self,
        calls: Sequence[Call],
        jobs: Sequence[Any],
        meet: str | None,
        timeout: float,
        last: bool = False,
    ) -> list[Outcome]:
        processes = self._processes[: len(calls)]
        try:
            if new := calls[len(processes) :]:
                origin = Origin(self._aliases, self._known, self._lifeline)
                for call in new:
                    processes.append(ForkedProcess(call, origin))
                self._processes = processes
            for process, call, job in zip(processes, calls, jobs, strict=True):
                process.begin(call, timeout)
                process.give(job)  # it connects while the next ones are forked
            conduct(processes, meet, timeout)
            end_late(processes)
        except BaseException:  # what they say of this batch is not for the next one
            self._end(processes)
            for process in processes:
                process.close()
            raise
        ended = [process for process in processes if last or not process.is_done]
        self._end(ended)
        outcomes = [process.outcome() for process in processes]
        for process in ended:
            process.close()
        return outcomes

    def _end(self, processes: Sequence[ForkedProcess]) -> None:
        forked = [process for process in processes if process.pid]
        for process in forked:
            if process.is_over:  # else it would take this for the word to begin
                process.send(None)
        end_all(forked, self._aliases)
        self._processes = [p for p in self._processes if p not in processes]

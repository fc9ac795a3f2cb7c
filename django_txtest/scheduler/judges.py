"""Decides whether an execution failed, and how it differs from the serial orders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from textwrap import indent
from typing import Any

from django_txtest.exceptions import CallError, TxTestError
from django_txtest.outcomes import Results
from django_txtest.scheduler.calls import name_of
from django_txtest.scheduler.exchanges import exchanged, exchanges
from django_txtest.scheduler.exploration import summary
from django_txtest.scheduler.oracle import MAX_SERIAL, Final, SerialOracle
from django_txtest.scheduler.start import Start

#: Makes an execution in which the sessions of these numbers go one by one.
RunSerially = Callable[[Sequence[int]], Results]


class Judge(ABC):
    """Judges the executions of one exploration."""

    #: Whether it had the sessions do what they did not come back from.
    is_stuck = False
    #: What the last execution that failed came to.
    failed: Final | None = None

    def __init__(
        self,
        start: Start,
        names: Sequence[str],
        run: RunSerially,
        ignore: Collection[str],
        allow: tuple[type[BaseException], ...],
    ) -> None:
        self._run_serially = run
        self._oracle = SerialOracle(start, names, self._serial, ignore, allow)

    def prepare(self) -> None:  # noqa: B027 - one of the two needs it
        """Do what is done once, before the first execution."""

    @abstractmethod
    def judge(self, results: Results) -> Exception | None:
        """Return why the execution that has just been made failed, if it did."""

    def exchange(
        self, results: Results, twins: Sequence[int | None]
    ) -> tuple[Sequence[int], Exception] | None:
        """Return how an execution that is well fails if twins change places.

        That is for every session whose result it has then, and the error.
        """
        return None

    def change(self, before: Final | None) -> str | None:
        """Say what was otherwise when an execution failed before, where that counts."""
        return None

    def recheck(self) -> str | None:
        """Make again what it compares with; return what differs from the first time."""
        return None

    def doubt(self) -> str:
        """Say what speaks against a verdict that all is well."""
        return self._oracle.doubt()

    def compare(self) -> str:
        """Say how what failed last differs from the serial orders.

        Nothing is said where the error says it.
        """
        return ""

    def _serial(self, order: Sequence[int]) -> Final:
        return self._oracle.final(self._run_serially(order))


class SerialJudge(Judge):
    """An execution fails that comes to what no serial order comes to."""

    def prepare(self) -> None:
        """Make the serial orders."""
        self._oracle.prepare()

    def judge(self, results: Results) -> Exception | None:
        """Return how it differs from the nearest serial order, as an error."""
        final = self._oracle.final(results)
        problem = self._oracle.problem(final)
        if problem is None:
            return None
        self.failed = final
        return AssertionError(problem)

    def recheck(self) -> str | None:
        """Make serial orders again."""
        return self._oracle.recheck()

    def change(self, before: Final | None) -> str | None:
        """Say what differs: with that, it would differ from the serial orders, too."""
        if before is None or self.failed is None:
            return None
        return self._oracle.difference(self.failed, before)


class InvariantJudge(Judge):
    """An execution fails in which an invariant does not hold, or a call raises.

    The serial orders are made only when there is a failure to be told of.
    """

    def __init__(
        self,
        start: Start,
        names: Sequence[str],
        run: RunSerially,
        ignore: Collection[str],
        allow: tuple[type[BaseException], ...],
        invariant: Callable[[Results], Any],
    ) -> None:
        # To compare with, all calls are made: the invariant is about all of them.
        super().__init__(start, names, run, ignore, ())
        self._invariant = invariant
        self._allow = allow
        self._names = names
        #: What is wrong with each serial order.
        self._problems: dict[tuple[int, ...], Exception | None] = {}

    def judge(self, results: Results) -> Exception | None:
        """Return what a call or the invariant raised."""
        problem = self._problem(results)
        if problem is not None:
            self.failed = self._oracle.final(results)
        return problem

    def exchange(
        self, results: Results, twins: Sequence[int | None]
    ) -> tuple[Sequence[int], Exception] | None:
        """Ask the invariant, which may ask who did what, of every other order."""
        for order in exchanges(results, twins):
            problem = self._problem(exchanged(results, order, self._names))
            if problem is not None:
                return order, problem
        return None

    def _problem(self, results: Results) -> Exception | None:
        for result in results:
            is_error = isinstance(result, CallError)
            if is_error and not isinstance(result.original, self._allow):
                return result  # type: ignore[no-any-return]
        try:
            if self._invariant(results) is False:
                return AssertionError(
                    f"The invariant {name_of(self._invariant)} does not hold."
                )
        except Exception as error:  # noqa: BLE001 - whatever means that it failed
            return error
        return None

    def compare(self) -> str:
        """Say how it differs from the nearest serial order in which all is well."""
        if self.failed is None or len(self._names) > MAX_SERIAL or self.is_stuck:
            return ""
        try:
            self._oracle.prepare()
        except TxTestError as error:
            self.is_stuck = True
            return f"The serial orders, to compare with, cannot be made: {error}"
        wrong = [order for order, problem in self._problems.items() if problem]
        told = self._oracle.order_told
        if len(wrong) == len(self._problems):
            return (
                f"Every serial order of the calls fails, too, so it is no race. What "
                f"is wrong after {told(wrong[0])}:\n"
                f"{indent(summary(self._problems[wrong[0]]), '  ')}"
            )
        nearest = self._oracle.nearest(
            self.failed, lambda order: self._problems[tuple(order)] is None
        )
        assert nearest is not None
        if nearest.differences:
            text = (
                f"What is different after {nearest.order}, where it holds:\n"
                f"{nearest.told}"
            )
        else:
            text = (
                f"Results and rows are those of {nearest.order}, where it holds: what "
                f"differs is not in the databases."
            )
        if wrong:
            text += f"\nIt fails, too, after {', and after '.join(map(told, wrong))}."
        return text

    def _serial(self, order: Sequence[int]) -> Final:
        results = self._run_serially(order)
        self._problems[tuple(order)] = self._problem(results)
        return self._oracle.final(results)

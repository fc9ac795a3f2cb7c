"""The functions that users call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

from django.db import connections

from django_txtest.concurrency.calls import Call, CallSpec, Target, parse_calls
from django_txtest.concurrency.options import (
    check_meet,
    check_mode,
    check_timeout,
    default_mode,
    is_in_event_loop,
    usable_aliases,
)
from django_txtest.concurrency.pool import Pool
from django_txtest.concurrency.repeating import Check, repeat_runs
from django_txtest.concurrency.spawning import run_spawned
from django_txtest.concurrency.threads import run_in_threads
from django_txtest.conf import settings
from django_txtest.exceptions import InvalidCall
from django_txtest.outcomes import Results


def run_concurrently(
    calls: Iterable[CallSpec],
    *,
    using: str | None = None,
    meet: str | None = "writes",
    timeout: float | None = None,
    repeat: int = 1,
    check: Check | None = None,
) -> Results:
    """Make the calls at the same time and return their results.

    Each call has database connections of its own, which are open before any call
    starts; then all start together. They use the databases that the running test
    uses, and no others.

    :param calls: each is a target, ``(target, kwargs)`` or ``(target, args, kwargs)``.
        A target is a callable, also a coroutine function, or
        ``"package.module:function"``.
    :param using: ``"fork"``, a copy of this process for each call; ``"threads"``;
        ``"spawn"``, a fresh process for each call; or ``"inline"``, one call after the
        other in this thread, for a debugger. The default is the setting
        ``TXTEST_CALL_USING``, else ``"fork"`` on Linux and ``"threads"`` elsewhere.
        Where that is ``"fork"``, but other threads are running, which makes forking
        unsafe, threads are used with a `RuntimeWarning`.
    :param meet: ``"writes"``: before each of its writes a call waits until all others
        have come to as many writes, have finished, or wait for a lock, so that nearly
        every race is seen. ``"start"``: they only start together. None: each starts as
        soon as it can.
    :param timeout: how long, in seconds from the common start, a call may take before
        it is ended. The default is the setting ``TXTEST_CALL_TIMEOUT``, else 30.
        Inline calls cannot be ended. Before the start, all get 120 s to connect.
    :param repeat: how often to make all the calls, each time on the databases as they
        are now. The results are those of the first run that went wrong, else of the
        last; `Results.runs` has all. The databases are left as after the last run.
    :param check: called with the results of each run. The run went wrong if it returns
        False, or what is false but for None, or raises; without it, if a call raised.
    :raises AtomicBlockError: inside an atomic block, whatever `using` is.
    :raises DatabaseNotSupported: if a database cannot be shared between calls.
    :raises InvalidCall: if something in `calls` is not a call.
    :raises PicklingError: if a call cannot be sent to a fresh process.
    :raises ResetNotPossible: to repeat where the running test is not one with
        `NoAtomicMixin`.
    """
    parsed = parse_calls(calls)
    check_mode(using)
    check_meet(meet)
    timeout = check_timeout(timeout)
    if not isinstance(repeat, int) or repeat < 1:
        raise InvalidCall(f"repeat={repeat!r} is not a positive number of times.")
    if check is not None and not callable(check):
        raise InvalidCall(f"check={check!r} is not a function of the results.")

    def run() -> Results:
        aliases = usable_aliases(shared=(using or settings.call_using) != "inline")
        mode = using or default_mode()
        with _runner(parsed, mode, aliases, is_last=repeat == 1) as run_once:
            return repeat_runs(lambda: run_once(meet, timeout), repeat, check)

    if not is_in_event_loop():
        return run()
    using = using or default_mode()
    # Django lets no code of such a thread use the database.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_and_close, run).result()


@contextmanager
def _runner(
    calls: Sequence[Call], using: str, aliases: Sequence[str], *, is_last: bool
) -> Iterator[Callable[[str | None, float], Results]]:
    """Yield what makes the calls once, and can do so again unless `is_last`."""
    if using == "fork":
        with closing(Pool(aliases, calls)) as pool:
            yield lambda meet, timeout: Results(
                pool.run_known(meet, timeout, last=is_last)
            )
    elif using == "threads":
        yield lambda meet, timeout: Results(
            run_in_threads(calls, aliases, meet, timeout)
        )
    elif using == "spawn":
        yield lambda meet, timeout: Results(run_spawned(calls, aliases, meet, timeout))
    else:
        yield lambda meet, timeout: Results(
            call.make(interactive=True) for call in calls
        )


def _and_close(run: Callable[[], Results]) -> Results:
    try:
        return run()
    finally:
        connections.close_all()


def call_concurrently(n: int, target: Target, /, *args: Any, **kwargs: Any) -> Results:
    """Make the same call `n` times at the same time; see `run_concurrently`.

    There are no options: all arguments go to the target.
    """
    return run_concurrently(_same_calls(n, target, args, kwargs))


def make_concurrent_calls(*calls: CallSpec) -> Results:
    """Make different calls at the same time; see `run_concurrently`."""
    return run_concurrently(calls)


def _same_calls(
    n: int, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[CallSpec]:
    if not isinstance(n, int):
        raise InvalidCall(f"The first argument is the number of calls, not {n!r}.")
    if n < 1:
        raise InvalidCall(f"A call cannot be made {n} times.")
    return [(target, args, kwargs)] * n


class Workers:
    """Makes batch after batch of calls, in processes that are there already.

    What `workers` yields.
    """

    def __init__(self, n: int, using: str, pool: Pool | None) -> None:
        self._n = n
        self._using = using
        self._pool = pool

    def run_concurrently(
        self,
        calls: Iterable[CallSpec],
        *,
        meet: str | None = "writes",
        timeout: float | None = None,
    ) -> Results:
        """Make the calls at the same time; see `run_concurrently`.

        :raises InvalidCall: if they are more than there are workers.
        :raises PicklingError: if a call cannot be sent to a process.
        """
        parsed = parse_calls(calls := list(calls))
        if len(parsed) > self._n:
            raise InvalidCall(
                f"There are {len(parsed)} calls for {self._n} workers. Ask for more: "
                f"workers({len(parsed)})."
            )
        if self._pool is None:
            return run_concurrently(
                calls, using=self._using, meet=meet, timeout=timeout
            )
        check_meet(meet)
        usable_aliases(shared=True)  # not inside an atomic block
        return Results(self._pool.run(parsed, meet, check_timeout(timeout)))

    def call_concurrently(
        self, n: int, target: Target, /, *args: Any, **kwargs: Any
    ) -> Results:
        """Make the same call `n` times at the same time."""
        return self.run_concurrently(_same_calls(n, target, args, kwargs))

    def make_concurrent_calls(self, *calls: CallSpec) -> Results:
        """Make different calls at the same time."""
        return self.run_concurrently(calls)


@contextmanager
def workers(n: int, *, using: str | None = None) -> Iterator[Workers]:
    """Keep `n` processes, with connections, for batch after batch of calls.

    They are copies of this process as it is now. What changes later they do not know,
    but for overridden settings; so calls are sent to them, and must be such that
    cloudpickle can pickle them. A batch takes milliseconds.

    :param using: as for `run_concurrently`. Only forked processes stay: where that is
        not ``"fork"``, threads or processes are made anew for each batch.
    :raises AtomicBlockError: inside an atomic block.
    :raises DatabaseNotSupported: if a database cannot be shared between calls.
    """
    if not isinstance(n, int) or n < 1:
        raise InvalidCall(f"{n!r} is not a positive number of workers.")
    check_mode(using)
    using = using or default_mode()
    if using != "fork":
        yield Workers(n, using, None)
        return
    with closing(Pool(usable_aliases(shared=True))) as pool:
        made = Workers(n, using, pool)
        # Its processes are made, and connect, with the first batch: here.
        made.call_concurrently(n, int).raise_errors()
        yield made

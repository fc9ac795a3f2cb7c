"""The one tree of errors: everything that django-txtest raises by itself.

A class's docstring is its default message: it names the fact and the remedy.
"""

from __future__ import annotations

import inspect
import signal
import textwrap
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn


class TxTestError(Exception):
    """Something went wrong in django-txtest."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class MixinError(TxTestError, TypeError):
    """A test class is built in a way that cannot work; raised when it is made."""


class AtomicBlockError(TxTestError):
    """Concurrent calls cannot see the rows of the atomic block that they are made in.

    In a TestCase, put NoAtomicMixin first among the base classes, so that the test
    really commits; in a pytest function, use django_db(transaction=True); elsewhere,
    leave the atomic block before the call.
    """


class DatabaseNotSupported(TxTestError):
    """The database cannot do what was asked of it."""


class DatabaseNotAllowed(TxTestError):
    """A concurrent call used a database that the test which made it may not use."""


class ResetNotPossible(TxTestError):
    """Calls can be repeated only where the databases can be put back in between.

    Put NoAtomicMixin first among the base classes of the test class. (A function of
    pytest has none: write a class.)
    """


class RunsWentWrong(TxTestError, AssertionError):
    """Concurrent calls were repeated, or checked, and went wrong.

    The cause is what the check raised in the first run that did.
    """


class InvalidCall(TxTestError, ValueError):
    """A call is not of a form that can be run."""


class PicklingError(TxTestError):
    """Something that has to travel between processes cannot be pickled."""


class SchemaChanged(TxTestError):
    """A test dropped or altered a table, which cannot be undone."""


class NestedCheckpoint(TxTestError):
    """A checkpoint of the databases was asked for within another one.

    There is one at a time: leave the first before the next one begins.
    """


class LeftoverSession(TxTestError):
    """A session that a test left behind held a lock which the reset had to wait for."""


class PostgresUnavailable(TxTestError):
    """No PostgreSQL could be found or started."""


class InvalidSchedule(TxTestError, ValueError):
    """A text is not a schedule, or the calls cannot follow it."""


class ReplayRefused(TxTestError):
    """It is not clear which exploration a schedule is to be replayed in place of."""


class NotDeterministic(TxTestError):
    """The same calls in the same order went another way, or came to something else."""

    REMEDY = (
        "The calls are not deterministic: look for what depends on the time or on "
        "random numbers (pin=True lets both be the same each time), on the order of a "
        "set, or of rows without order_by(), on threads of their own, or on what an "
        "earlier execution left in memory, and let `setup` put that back."
    )


class PinNotPossible(TxTestError):
    """Time and random numbers can be pinned only with time-machine.

    It is not installed: pip install "django-txtest[pin]".
    """


class SessionStuck(TxTestError):
    """A session of an execution did not come back from a step in time.

    It is not waiting for another session in the database. `stacks` has, for each
    session that did not, where it is.
    """

    def __init__(self, message: str, stacks: dict[str, str] | None = None) -> None:
        self.stacks = stacks or {}
        told = [
            f"\n{name} is here{_tail(stack)}" for name, stack in self.stacks.items()
        ]
        super().__init__(message + "".join(told))


class TooManySteps(TxTestError):
    """A session made more steps than one execution may have."""


class ExplorationCutShort(TxTestError):
    """A limit that nobody asked for ended an exploration, so that it proves nothing."""


class ExecutorFailed(TxTestError):
    """The executor that an exploration was to use did not do what it was given."""


class InterleavingFailed(TxTestError, AssertionError):
    """An order of the calls' steps gives what it must not."""


class ScriptError(TxTestError):
    """A session of a scripted interleaving cannot do what the script has it do."""


class ReadOnlyViolation(TxTestError):
    """A write to a model, or a table, that is read-only. No statement was executed.

    It is no DatabaseError, and the transaction goes on. `model` is the class, or for a
    table without one its name, if that is known; `operation` what was tried, as
    ``"update"``; `alias` the database; `setting` what makes the model read-only.
    """

    def __init__(self, model: Any, operation: str, alias: str, setting: str) -> None:
        self.model = model
        self.operation = operation
        self.alias = alias
        self.setting = setting
        name = getattr(getattr(model, "_meta", None), "label", model)
        what = f"{name} is" if name else "Some table that this may write to is"
        # The table of a many-to-many field belongs to the model that has the field.
        owner = getattr(getattr(model, "_meta", None), "auto_created", None) or model
        owned = getattr(getattr(owner, "_meta", None), "label", owner)
        scope = getattr(owner, "__name__", "")
        super().__init__(
            f"{operation}: {what} read-only on the database {alias!r}, by {setting}. "
            f"{_readonly_remedy(setting, owned)}, or write within "
            f"allow_writes({scope})."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self.operation, self.alias, self.setting)


class RemoteError(TxTestError):
    """Stands for an exception of another process that could not be pickled.

    Its message has the type, the message and the traceback of that exception.
    """


class CallError(TxTestError):
    """A concurrent call raised an exception.

    `call` says which call it was. `original` is the exception, with the traceback
    that it had in the thread or the process which made the call. `others` are the
    errors of the same batch, where `Results.raise_errors` raised this one for all.
    """

    others: Sequence[CallError] = ()

    def __init__(self, call: str, original: BaseException) -> None:
        self.call = call
        self.original = original
        super().__init__(f"{call} raised {_summary(original)}")

    def reraise(self) -> NoReturn:
        """Raise the original exception, as if the call had been made here."""
        raise self.original

    def __str__(self) -> str:
        also = [f"\n  also: {other}" for other in self.others]
        return super().__str__() + "".join(also)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.call, self.original)


class ChildCrashed(CallError):
    """The process of a concurrent call died before it had a result to give.

    `exitcode` is as `subprocess` has it, negative for a signal. `stderr` is the
    tail of what the process wrote there. `original` is this error itself.
    """

    def __init__(self, call: str, exitcode: int | None, stderr: str = "") -> None:
        self.call = call
        self.original = self
        self.exitcode = exitcode
        self.stderr = stderr
        message = f"{call} died: {_exit_reason(exitcode)}"
        TxTestError.__init__(self, message + _tail(stderr))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.call, self.exitcode, self.stderr)


class CallTimeout(CallError):
    """A concurrent call had no result within its time, and was ended.

    `timeout` is in seconds. `stack` is where the call was when it was ended, as far
    as it can be known, the most recent call last. `started` is False if it was not
    the call that took too long, but its thread or process in getting ready for it.
    `goes_on` is True if it is a thread that could not be ended, as it is not waiting
    for a database. `original` is this error itself.
    """

    def __init__(
        self,
        call: str,
        timeout: float,
        stack: str = "",
        *,
        started: bool = True,
        goes_on: bool = False,
    ) -> None:
        self.call = call
        self.original = self
        self.timeout = timeout
        self.stack = stack
        self.started = started
        self.goes_on = goes_on
        took = "took longer than the timeout of" if started else "did not start within"
        end = "its thread cannot be ended and goes on" if goes_on else "was ended"
        message = f"{call} {took} {timeout:g} s and {end}"
        TxTestError.__init__(self, message + _tail(stack))

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(type(self), started=self.started, goes_on=self.goes_on)
        return make, (self.call, self.timeout, self.stack)


def _readonly_remedy(setting: str, name: Any) -> str:
    if setting == "forbid_writes()":
        return "Write outside of that"
    if setting.isidentifier() and setting != "TXTEST_READONLY":
        return f"Set {setting} = False"
    if setting == 'TXTEST_READONLY["models"]':
        return f"Take {name} out of {setting}"
    if name and "." in str(name):
        return f'Add {{"{name}": False}} to TXTEST_READONLY["models"]'
    return "Change TXTEST_READONLY"


def _summary(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _tail(text: str) -> str:
    lines = text.rstrip().splitlines()
    crash = next((n for n, line in enumerate(lines) if "Fatal Python" in line), None)
    # Of a crash, faulthandler writes where it was first.
    lines = lines[-20:] if crash is None else lines[crash : crash + 20]
    return ":\n" + textwrap.indent("\n".join(lines), "    ") if lines else ""


def _exit_reason(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its process exited with status {exitcode} and without a result"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"its process was killed by {name}"

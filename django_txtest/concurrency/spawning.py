"""Calls in fresh processes, each a `manage.py concurrent_call_wrapper`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from django.apps import apps

from django_txtest.concurrency.batch import conduct
from django_txtest.concurrency.calls import Call
from django_txtest.concurrency.processes import ProcessParticipant, end_all, end_late
from django_txtest.concurrency.travel import (
    pack_jobs,
    pack_surroundings,
    settings_module,
)
from django_txtest.exceptions import TxTestError
from django_txtest.outcomes import Outcome


def run_spawned(
    calls: Sequence[Call], aliases: Sequence[str], meet: str | None, timeout: float
) -> list[Outcome]:
    """Make each call in a process that knows only what it is sent."""
    _check_can_spawn()
    # All are packed before the first process starts: nothing to undo on an error.
    surroundings = pack_surroundings(aliases)
    packed = [surroundings + pickle.dumps(job) for job in pack_jobs(calls, meet)]
    lifeline, own_end = os.pipe()
    processes: list[SpawnedProcess] = []
    try:
        for call, job in zip(calls, packed, strict=True):
            processes.append(SpawnedProcess(call, job, lifeline))
            processes[-1].begin(call, timeout)
        conduct(processes, meet, timeout)
        end_late(processes)
        end_all(processes, aliases)
        return [process.outcome() for process in processes]
    finally:
        end_all(processes, aliases)
        os.close(own_end)
        os.close(lifeline)
        for process in processes:
            process.close()


class SpawnedProcess(ProcessParticipant):
    """A process that imports everything anew."""

    def __init__(self, call: Call, job: bytes, lifeline: int) -> None:
        super().__init__(call)
        fds = [self._childs_channel.fileno(), lifeline, self._stack_file.fileno()]
        with self._childs_channel, tempfile.TemporaryFile() as file:
            file.write(job)
            file.seek(0)
            self._process = subprocess.Popen(
                _command(fds),
                stdin=file,
                stdout=self._stdout,
                stderr=self._stderr,
                env={**_environment(), "PGAPPNAME": self.application_name},
                pass_fds=fds,
                # Ctrl-C is for this process, which then ends the others; and a
                # group of its own, so that what the call starts ends with it.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return how the process ended; None if it has not."""
        return self._process.poll()


def _check_can_spawn() -> None:
    if os.name != "posix":
        raise TxTestError(
            "Calls in processes need a POSIX system. Use using='threads', or set "
            "TXTEST_CALL_USING = 'threads'."
        )
    if not apps.is_installed("django_txtest"):
        raise TxTestError(
            "Calls in fresh processes need a management command of django-txtest. Add "
            "'django_txtest' to INSTALLED_APPS, or use using='threads'."
        )
    if settings_module() is None:
        raise TxTestError(
            "Calls in fresh processes need a settings module to import, but the "
            "settings were set by settings.configure(). Use using='threads'."
        )


def _command(fds: Sequence[int]) -> list[str]:
    # Private: there is no public way to hand on this interpreter's -W, -X and so on.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    django = [sys.executable, *flags, "-m", "django"]
    return [*django, "concurrent_call_wrapper", "--fds", *map(str, fds)]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings_module() or "",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }

"""The life of a throw-away server, in the one process that owns it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from django_txtest.embedded.account import Account
from django_txtest.embedded.address import Address
from django_txtest.embedded.cluster import Cluster
from django_txtest.embedded.errors import Ended, ServerError
from django_txtest.embedded.folders import cluster_folder, reachable_binaries
from django_txtest.embedded.lifeline import Lifeline


def guard(
    bin_folder: Path, lifeline: Lifeline, announce: Callable[[Address], None]
) -> None:
    """Run a server until the lifeline ends, and leave nothing behind.

    ``announce`` is called once, when the server is ready.
    """
    with ExitStack() as cleanup:
        try:
            _run(bin_folder, lifeline, announce, cleanup)
        except Ended:
            pass
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerError(f"{type(error).__name__}: {error}") from error


def _run(
    bin_folder: Path,
    lifeline: Lifeline,
    announce: Callable[[Address], None],
    cleanup: ExitStack,
) -> None:
    if lifeline.ended:
        return
    account = Account.choose()
    programs = reachable_binaries(bin_folder, account, cleanup)
    cluster = Cluster(programs, cluster_folder(account, cleanup), account, lifeline)
    cleanup.callback(cluster.stop)
    cluster.initialise()
    announce(cluster.start())
    while cluster.is_running and not lifeline.wait(1):
        pass

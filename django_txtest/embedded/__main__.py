"""Run a throw-away PostgreSQL until Ctrl-C or the end of the input.

It prints the URL to connect to. Data and server are gone afterwards.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from django_txtest.embedded.address import Address
from django_txtest.embedded.binaries import Found, search
from django_txtest.embedded.errors import ServerError
from django_txtest.embedded.lifeline import Lifeline
from django_txtest.embedded.watchdog import guard
from django_txtest.exceptions import PostgresUnavailable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m django_txtest.embedded", description=__doc__
    )
    parser.add_argument(
        "--bin",
        type=Path,
        metavar="FOLDER",
        help="the folder of initdb and postgres (by default the best one found)",
    )
    # For a process that starts us: it gets an address to parse, and we end with it.
    parser.add_argument("--owner", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    lifeline = Lifeline(options.owner)
    try:
        folder = options.bin or _first_found()
        guard(folder, lifeline, _announce if options.owner else _show)
    except (PostgresUnavailable, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _first_found() -> Path:
    misses = []
    for place in search():
        if isinstance(place, Found):
            return place.folder
        misses.append(f"{place.source}: {place.cause}")
    raise PostgresUnavailable("No PostgreSQL was found: " + "; ".join(misses))


def _show(address: Address) -> None:
    print(address.url(), flush=True)


def _announce(address: Address) -> None:
    print(address.dumps(), flush=True)
    # The owner reads no further: whatever is written now must not fail on its pipe.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


if __name__ == "__main__":
    sys.exit(main())

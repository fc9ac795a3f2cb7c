"""Makes one call in this process: for `using="spawn"`, and for a shell."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import quote

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.core.serializers.json import DjangoJSONEncoder
from django.db import OperationalError, connections
from django.test.utils import setup_test_environment

from django_txtest.concurrency.calls import parse_calls
from django_txtest.concurrency.child import serve_spawned
from django_txtest.databases import get_database
from django_txtest.exceptions import CallError, InvalidCall

HELP = """\
Make the call that standard input describes, in this process, and print its result as
JSON. The description is JSON too:

    {"target": "package.module:function", "args": [1, 2], "kwargs": {"code": "X"}}

"args" and "kwargs" may be left out. The call uses the test databases, as a test run
with --keepdb leaves them. What it prints goes to standard error. If it raises, the
traceback goes there too, and the exit status is 1.
"""


class _Formatter(DjangoHelpFormatter):
    """Keeps the line breaks of the description."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text


class Command(BaseCommand):
    """Make the call that standard input describes."""

    help = HELP
    requires_system_checks = []

    def create_parser(
        self, prog_name: str, subcommand: str, **kwargs: Any
    ) -> CommandParser:
        """Create the parser, with the line breaks of the help as they are."""
        return super().create_parser(
            prog_name, subcommand, formatter_class=_Formatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--no-test-db",
            action="store_true",
            help="use the databases of the settings, instead of the test databases",
        )
        parser.add_argument(
            "--clone",
            metavar="N",
            help="use clone N of the test databases, as made by test --parallel",
        )
        parser.add_argument(
            "--fds",
            type=int,
            nargs=3,
            metavar="FD",
            help="for run_concurrently(): talk with it over these file descriptors; "
            "standard input then has what it wrote there",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the call."""
        if options["fds"]:
            serve_spawned(*options["fds"])
        if not options["no_test_db"]:
            setup_test_environment()
            _use_test_databases(options["clone"])
        spec = _read_spec(sys.stdin.read())
        try:
            [call] = parse_calls([spec])
        except InvalidCall as error:
            raise CommandError(str(error)) from error
        with redirect_stdout(sys.stderr):
            outcome = call.make(interactive=True)
        if outcome.error is not None:
            self._report(outcome.error)
        try:
            result = json.dumps(outcome.value, cls=DjangoJSONEncoder)
        except TypeError as error:
            raise CommandError(
                f"The result cannot be printed as JSON: {error}"
            ) from error
        self.stdout.write(result)

    def _report(self, error: CallError) -> None:
        self.stderr.write("".join(traceback.format_exception(error.original)))
        if isinstance(error.original, OperationalError):
            self.stderr.write(
                "If it is that a test database does not exist: test --keepdb keeps "
                "them, and --no-test-db uses the databases of the settings."
            )
        sys.exit(1)


def _use_test_databases(clone: str | None) -> None:
    for connection in connections.all():
        mirrored = connection.settings_dict["TEST"]["MIRROR"]
        source = connections[mirrored] if mirrored else connection
        # Private, but the one place that knows how Django names test databases.
        name = source.creation._get_test_db_name()  # type: ignore[attr-defined]
        connection.settings_dict["NAME"] = name
        if clone:
            connection.settings_dict.update(
                connection.creation.get_test_db_clone_settings(clone)
            )
        obstacle = get_database(connection).concurrency_obstacle()
        if obstacle:
            raise CommandError(f"This process has no way to it: {obstacle}")
        if connection.vendor == "sqlite":
            # Else SQLite would make the file.
            path = quote(str(connection.settings_dict["NAME"]))
            connection.settings_dict["NAME"] = f"file:{path}?mode=rw"


def _read_spec(text: str) -> Any:
    try:
        description = json.loads(text)
    except ValueError as error:
        raise CommandError(f"Standard input is not JSON: {error}") from error
    if not isinstance(description, dict) or "target" not in description:
        raise CommandError("Standard input is not a JSON object with a 'target'.")
    unknown = description.keys() - {"target", "args", "kwargs"}
    if unknown:
        raise CommandError(f"Unknown in the description: {', '.join(sorted(unknown))}.")
    return (
        description["target"],
        description.get("args", []),
        description.get("kwargs", {}),
    )

"""Runs one test with one schedule in place of its exploration, and shows it."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.utils import get_command_line_option
from django.test.utils import get_runner
from rich.console import Console
from rich.text import Text

from django_txtest.exceptions import InvalidSchedule
from django_txtest.history import History
from django_txtest.scheduler.exploration import Exploration
from django_txtest.scheduler.pictures import write_picture
from django_txtest.scheduler.request import ReplayRequest, requested
from django_txtest.scheduler.schedule import Schedule
from django_txtest.timeline.terminal import TerminalTimeline


class Command(BaseCommand):
    """Run a test with one schedule in place of its exploration, and show it."""

    help = (
        "Run a test with one schedule in place of its exploration, and show what "
        "happened. The test runner and its options are those of the test command. The "
        "exit status is 0 if the execution did not fail, 1 if it failed, and 2 if the "
        "schedule could not be replayed."
    )
    # The runner makes them, once there are databases.
    requires_system_checks = []
    test_runner: str | None = None

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the options of the runner that is named, as the test command does."""
        self.test_runner = get_command_line_option(argv, "--testrunner")
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ours, and those of the test runner."""
        parser.add_argument(
            "schedule", help="which session goes when, as a failure printed it: ba2b"
        )
        parser.add_argument(
            "label",
            help="the test, as module.TestCase.test_method; it has to call "
            "assertSerializable, assertInvariant, explore or replay",
        )
        parser.add_argument(
            "--exploration",
            type=int,
            metavar="N",
            help="which exploration of the test is meant, from 1, where it has several",
        )
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="do not ask, as before an old test database is destroyed",
        )
        parser.add_argument(
            "--testrunner",
            help="the test runner, if not that of the TEST_RUNNER setting",
        )
        runner = get_runner(settings, self.test_runner)
        if hasattr(runner, "add_arguments"):
            runner.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the test, show the execution, and exit with the status that tells."""
        try:
            schedule = Schedule.decode(options.pop("schedule"))
        except InvalidSchedule as error:
            raise CommandError(str(error), returncode=2) from error
        number = options.pop("exploration")
        if number is not None and number < 1:
            raise CommandError("--exploration counts from 1.", returncode=2)
        label = options.pop("label")
        if "parallel" in options:
            options["parallel"] = 0  # what comes of it is wanted in this process
        runner = get_runner(settings, options["testrunner"])(**options)
        with requested(schedule, number) as request:
            runner.run_tests([label])
        exploration = _result(request, label)
        self._show(request, exploration, no_color=options["no_color"])
        if exploration.failure is not None:
            sys.exit(1)

    def _show(
        self, request: ReplayRequest, exploration: Exploration, *, no_color: bool
    ) -> None:
        console = Console(
            force_terminal=self.stdout.isatty() and not no_color, no_color=no_color
        )
        history = exploration.history or History()
        failure = exploration.failure
        if failure is not None:
            told, picture = failure.summary, failure.picture
            verdict = f"The schedule {request.schedule} fails"
        else:
            verdict = f"The schedule {request.schedule} does not fail"
            told = "This execution did not fail."
            facts = {"What came of it": told}
            name = f"{request.tests[-1]}.{request.schedule}"
            picture = write_picture(name, request.tests[-1], history, facts)
        with console.capture() as captured:
            console.print(TerminalTimeline(history))
            console.print()
            style = "bold red" if failure else "bold green"
            console.print(Text(verdict, style=style), end="")
            console.print(Text(f": {told}" if failure else "."), soft_wrap=True)
        self.stdout.write(captured.get())
        if picture is not None:
            self.stdout.write(f"Picture: {picture}")


def _result(request: ReplayRequest, label: str) -> Exploration:
    count = len(request.tests)
    if request.exploration is not None and request.problem is None:
        return request.exploration
    if request.problem is not None:
        hint = (
            " If the test has several explorations, choose another one with "
            "--exploration N."
            if isinstance(request.problem, InvalidSchedule)
            else ""
        )
        problem = f"{request.problem}{hint}"
    elif count:
        problem = (
            f"There is no exploration {request.number}: {label} ended after {count}. "
            f"The report of the run is above."
        )
    else:
        problem = (
            f"{label} made no exploration: give the label of one test that calls "
            f"assertSerializable, assertInvariant, explore or replay, and that comes "
            f"to it. The report of the run is above."
        )
    raise CommandError(problem, returncode=2)

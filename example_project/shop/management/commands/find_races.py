"""``manage.py find_races``: shows each race of the shop, and that its cure holds."""

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from django.template.defaultfilters import pluralize

from django_txtest import Results, run_concurrently
from shop.exceptions import Refused
from shop.races import NOT_ON_SQLITE, RACES, Race
from shop.services import fixed, racy
from shop.throwaway import throwaway_database

NAMES = [race.name for race in RACES]
MEETINGS = {"writes": "writes", "start": "start", "none": None}


def at_least(minimum: int) -> Callable[[str], int]:
    """Return an argument type: a whole number that is no smaller."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise ArgumentTypeError(f"{text!r} is no number from {minimum} up")
        return int(text)

    return number


@dataclass
class Tally:
    """What came of the batches of one service, each in words."""

    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    #: Batches that say nothing, as a call failed in a way that nobody expected.
    failed: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.broken and not self.failed

    def add(self, race: Race, results: Results) -> None:
        for error in results.errors:
            cause = error.original or error
            if not isinstance(cause, (Refused, *race.symptoms)):
                self.failed.append(f"{type(cause).__name__}: {cause}")
                return
        verdict = race.judge(results)
        (self.kept if verdict.kept else self.broken).append(verdict.words)


class Command(BaseCommand):
    help = (
        "Runs the shop's services concurrently, first as they were first written and "
        "then fixed, and tells what went wrong. It does so in a new database that is "
        "dropped at the end: on the server that DATABASE_URL names, or else on a "
        "throw-away PostgreSQL. Exits with 0 if every race was caught and every fix "
        "held, else with 1."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "races",
            nargs="*",
            metavar="race",
            help=f"run only these races: {', '.join(NAMES)} (default: all)",
        )
        parser.add_argument(
            "--calls",
            type=at_least(2),
            default=5,
            metavar="N",
            help="calls at the same time in each batch (default: 5)",
        )
        parser.add_argument(
            "--batches",
            type=at_least(1),
            default=5,
            metavar="N",
            help="batches of each service (default: 5)",
        )
        parser.add_argument(
            "--using",
            choices=["fork", "threads", "spawn", "inline"],
            default="fork" if sys.platform == "linux" else "threads",
            help="how the calls are made: in copies of this process, in threads, in "
            "fresh processes, or inline, one after another, where no race can show "
            "(default: %(default)s)",
        )
        parser.add_argument(
            "--meet",
            choices=MEETINGS,
            default="writes",
            help="when the calls wait for one another: before each of their writes "
            "(the default), at the start only, or never. Then see how many of the "
            "batches still go wrong",
        )

    def handle(self, *, races, calls, batches, using, meet, **options):
        if unknown := set(races) - set(NAMES):
            raise CommandError(
                f"No such race: {', '.join(sorted(unknown))}. "
                f"There are {', '.join(NAMES)}."
            )
        self.n, self.batches, self.using = calls, batches, using
        self.meet = MEETINGS[meet]
        chosen = [race for race in RACES if race.name in races or not races]
        try:
            with throwaway_database():
                ok = self.show_all(chosen)
        except OperationalError as error:
            raise CommandError(f"The database is out of order: {error}") from error
        except KeyboardInterrupt:
            self.progress("")
            self.stderr.write("Interrupted; the database is dropped.")
            sys.exit(130)
        if not ok:
            sys.exit(1)

    def show_all(self, races: list[Race]) -> bool:
        """Show each race; return whether all went as this demonstration promises."""
        version = ".".join(map(str, connection.get_database_version()))
        self.stdout.write(
            f"{connection.display_name} {version}, {self.batches} "
            f"batch{pluralize(self.batches, 'es')} of {self.n} concurrent calls "
            f"of each service ({self.using})\n\n"
        )
        started = time.monotonic()
        caught, held, surprises = 0, 0, []
        for race in races:
            self.stdout.write(
                self.style.MIGRATE_HEADING(f"{race.name}: {race.anomaly}")
            )
            self.stdout.write(f"  promise  {race.promise}")
            racy_tally = self.run(race, racy)
            if not self.report("racy", racy_tally, should_hold=not race.can_show()):
                surprises.append(f"racy {race.name}")
            fixed_tally = self.run(race, fixed)
            if not self.report("fixed", fixed_tally, should_hold=True):
                surprises.append(f"fixed {race.name}")
            caught += bool(racy_tally.broken)
            held += fixed_tally.held
            self.stdout.write()
        style = self.style.ERROR if surprises else self.style.SUCCESS
        summary = (
            f"{caught} of {len(races)} racy services went wrong, "
            f"{held} of {len(races)} fixed ones held."
        )
        calls = len(races) * 2 * self.batches * self.n
        seconds = time.monotonic() - started
        self.stdout.write(f"{style(summary)} {calls} calls, {seconds:.1f} s.")
        if surprises:
            self.stdout.write(
                self.style.ERROR(f"Not as it should be: {', '.join(surprises)}.")
            )
        return not surprises

    def run(self, race: Race, services: ModuleType) -> Tally:
        """Run the batches of one service."""
        tally = Tally()
        version = services.__name__.rpartition(".")[2]
        for batch in range(1, self.batches + 1):
            self.progress(f"  {version:7}  batch {batch} of {self.batches} ...")
            calls = race.calls(services, self.n)
            tally.add(race, run_concurrently(calls, using=self.using, meet=self.meet))
        self.progress("")
        return tally

    def report(self, version: str, tally: Tally, *, should_hold: bool) -> bool:
        """Say how a service did; return whether that is what it should have done."""
        batches = f"{self.batches} batch{pluralize(self.batches, 'es')}"
        if tally.broken:
            wrong, words = len(tally.broken), tally.broken[0]
            headline = f"went wrong in {wrong} of {batches}"
            style = self.style.ERROR if should_hold else self.style.WARNING
        else:
            headline = f"held in {len(tally.kept)} of {batches}"
            style = self.style.SUCCESS if should_hold else self.style.ERROR
            words = tally.kept[0] if tally.kept else ""
        self.stdout.write(f"  {version:7}  {style(headline)}")
        if words:
            self.stdout.write(f"           {words}")
        if should_hold and version == "racy":
            self.stdout.write(f"           (it cannot go wrong here: {NOT_ON_SQLITE})")
        if tally.failed:
            self.stdout.write(
                f"  {version:7}  "
                + self.style.ERROR(f"failed in {len(tally.failed)} of {batches}")
                + f"\n           {tally.failed[0]}"
            )
        return tally.held if should_hold else bool(tally.broken)

    def progress(self, line: str) -> None:
        """Overwrite the last line, on a terminal."""
        if self.stdout.isatty():
            self.stdout.write(f"\r\033[K{line}", ending="")
            self.stdout.flush()

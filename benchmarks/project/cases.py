"""The cases whose interleavings `benchmarks/explore.py` explores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction

from benchmarks.project import everyday


@dataclass(frozen=True)
class Case:
    """Calls of one kind, and what has to hold after them in any order."""

    name: str
    version: str
    call: Callable[[int], Any]
    holds: Callable[[list[Any]], bool]
    isolation_level: str | None = None
    #: Whether that is more, or less, than what the serial orders say.
    by_invariant: bool = False

    @property
    def is_racy(self) -> bool:
        """Whether there is a race to be found."""
        return self.version.startswith("racy")

    def calls(self, sessions: int) -> list[Callable[[], Any]]:
        """Return what each of so many sessions does."""
        return [partial(self.call, number) for number in range(sessions)]

    def __str__(self) -> str:
        return f"{self.name}: {self.version}"


RR, SERIALIZABLE = "REPEATABLE READ", "SERIALIZABLE"
atomic = transaction.atomic
CASES = [
    Case("update", "racy", everyday.read_modify_write, everyday.each_took_one),
    Case(
        "update",
        "racy, atomic",
        atomic(everyday.read_modify_write),
        everyday.each_took_one,
    ),
    Case("update", "F()", everyday.take_in_the_database, everyday.each_took_one),
    Case("update", "select_for_update", everyday.take_locked, everyday.each_took_one),
    Case(
        "two lookups",
        "racy, with F()",
        everyday.take_either_way,
        everyday.each_took_one,
    ),
    Case(
        "two lookups",
        "locked",
        everyday.take_locked_by_another_lookup,
        everyday.each_took_one,
    ),
    Case("version", "racy", everyday.take_by_version_seen, everyday.each_took_one),
    Case("version", "in the write", everyday.take_by_version, everyday.each_took_one),
    Case("coupon", "racy", everyday.redeem, everyday.one_succeeded),
    Case("coupon", "locked", everyday.redeem_locked, everyday.one_succeeded),
    Case(
        "coupon", "by condition", everyday.redeem_by_condition, everyday.one_succeeded
    ),
    Case("get_or_create", "racy", everyday.note_once, everyday.one_claim),
    Case(
        "get_or_create",
        "racy, in atomic",
        atomic(everyday.note_once),
        everyday.one_claim,
    ),
    Case("get_or_create", "unique", everyday.claim_once, everyday.one_claim),
    Case(
        "get_or_create",
        "unique, in atomic",
        atomic(everyday.claim_once),
        everyday.one_claim,
    ),
    Case("write skew", "racy", everyday.close_unless_last, everyday.three_are_open),
    Case(
        "write skew",
        "racy, " + RR,
        everyday.close_unless_last,
        everyday.three_are_open,
        RR,
    ),
    Case(
        "write skew",
        "racy, no retry",
        everyday.close_unless_last,
        everyday.anything,
        SERIALIZABLE,
    ),
    Case(
        "write skew",
        "SERIALIZABLE, retry",
        everyday.until_it_works(everyday.close_unless_last),
        everyday.three_are_open,
        SERIALIZABLE,
    ),
    Case("two locks", "racy", everyday.lock_both, everyday.each_took_one),
    Case("two locks", "in order", everyday.lock_both_in_order, everyday.each_took_one),
    Case(
        "two locks",
        "retry",
        everyday.until_it_works(everyday.lock_both),
        everyday.each_took_one,
    ),
    Case("two updates", "racy", everyday.update_both, everyday.each_took_one),
    Case(
        "two updates",
        "retry",
        everyday.until_it_works(everyday.update_both),
        everyday.each_took_one,
    ),
    Case("check", "racy", everyday.withdraw_if_it_looks_enough, everyday.one_succeeded),
    Case("check", "handled", everyday.withdraw_handled, everyday.one_succeeded),
    Case(
        "foreign key",
        "locked parent",
        everyday.pay_or_rename,
        everyday.balance_was_changed,
    ),
    Case("queue", "racy", everyday.take_the_next, everyday.numbers_differ),
    Case(
        "queue", "skip_locked", everyday.take_the_next_skipping, everyday.numbers_differ
    ),
    Case(
        "skip_locked",
        "racy, dropped",
        everyday.take_unless_locked,
        everyday.who_said_so_took_one,
    ),
    Case(
        "nowait", "racy, dropped", everyday.take_at_once, everyday.who_said_so_took_one
    ),
    Case(
        "nowait",
        "told",
        everyday.take_at_once_or_tell,
        everyday.who_said_so_took_one,
        by_invariant=True,
    ),
    Case("numbers", "racy", everyday.number_by_max, everyday.numbers_differ),
    Case("numbers", "locked", everyday.number_by_lock, everyday.numbers_differ),
    Case(
        "on_commit",
        "racy",
        everyday.close_and_tell,
        everyday.one_mail,
        by_invariant=True,
    ),
    Case(
        "on_commit",
        "locked",
        everyday.close_and_tell_locked,
        everyday.one_mail,
        by_invariant=True,
    ),
    Case("view", "racy", everyday.post_redeem, everyday.one_succeeded),
    Case("view", "locked", everyday.post_redeem_locked, everyday.one_succeeded),
    Case("signal", "racy", everyday.create_and_count, everyday.all_were_counted),
    Case("signal", "F()", everyday.create_and_count_at_once, everyday.all_were_counted),
]

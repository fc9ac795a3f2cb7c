"""Calls of everyday Django, racy and fixed, and what has to hold after them.

Nothing here knows who explores them. Session `number` makes its call with that number,
from 0. What has to hold is asked afterwards, of what the calls returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F, Max
from django.db.models.signals import post_save
from django.test import Client

from benchmarks.project.models import Account, Claim, Counter, Note, Payment

BALANCE = 100
#: Where a mail goes: neither a row nor a result.
sent: list[int] = []


def prepare() -> None:
    """Put the rows in place that every case begins with, and no others."""
    sent.clear()
    for model in (Payment, Account, Claim, Counter, Note):
        model.objects.all().delete()
    for pk, owner in enumerate(("ada", "bob", "cyd", "dan"), start=1):
        Account.objects.create(pk=pk, owner=owner, balance=BALANCE)
    Counter.objects.create(pk=1)


# What has to hold


def balance(pk: int = 1) -> int:
    """Return what is in an account."""
    return Account.objects.get(pk=pk).balance


def each_took_one(results: list[Any]) -> bool:
    """Tell whether no update was lost."""
    return balance() == BALANCE - len(results)


def who_said_so_took_one(results: list[Any]) -> bool:
    """Tell whether as much was taken as the calls say."""
    return balance() == BALANCE - results.count("taken")


def one_succeeded(results: list[Any]) -> bool:
    """Tell whether there is one winner."""
    return results.count("done") == 1


def one_claim(results: list[Any]) -> bool:
    """Tell whether there is one row with the name."""
    return Claim.objects.count() + Note.objects.count() == 1


def three_are_open(results: list[Any]) -> bool:
    """Tell whether not too many accounts were closed."""
    return Account.objects.filter(is_open=True).count() >= 3


def numbers_differ(results: list[Any]) -> bool:
    """Tell whether each payment has a number of its own."""
    return len(set(results)) == len(results)


def all_were_counted(results: list[Any]) -> bool:
    """Tell whether the counter is right."""
    return Counter.objects.get(pk=1).value == len(results)


def each_paid(results: list[Any]) -> bool:
    """Tell whether there is a payment of each call."""
    return Payment.objects.count() == len(results)


def one_mail(results: list[Any]) -> bool:
    """Tell whether the mail was sent once."""
    return len(sent) == 1


def anything(results: list[Any]) -> bool:
    """Hold, unless a call raises."""
    return True


# The calls


def read_modify_write(number: int) -> None:
    """Take one: read, subtract, save."""
    account = Account.objects.get(pk=1)
    account.balance -= 1
    account.save(update_fields=["balance"])


def take_in_the_database(number: int) -> None:
    """Take one in a single statement."""
    Account.objects.filter(pk=1).update(balance=F("balance") - 1)


@transaction.atomic
def take_locked(number: int) -> None:
    """Take one of a row that is locked from the read to the write."""
    account = Account.objects.select_for_update().get(pk=1)
    account.balance -= 1
    account.save(update_fields=["balance"])


@transaction.atomic
def take_locked_by_another_lookup(number: int) -> None:
    """Lock the same row, found by its key and by its name."""
    lookup = {"owner": "ada"} if number % 2 else {"pk": 1}
    account = Account.objects.select_for_update().get(**lookup)
    account.balance -= 1
    account.save(update_fields=["balance"])


def take_one_locked() -> None:
    """Do the same as everybody else."""
    take_locked(0)


@transaction.atomic
def look_and_take() -> None:
    """Read the row, then take one in the database."""
    Account.objects.get(pk=1)
    take_in_the_database(0)


def take_either_way(number: int) -> None:
    """Take one in the database in some sessions, by a read and a write in others."""
    if number % 2:
        Account.objects.filter(owner="ada").update(balance=F("balance") - 1)
    else:
        read_modify_write(number)


def take_by_version_seen(number: int) -> None:
    """Compare the version in Python, where it is no news any more."""
    account = Account.objects.get(pk=1)
    if Account.objects.get(pk=1).version == account.version:
        account.balance -= 1
        account.version += 1
        account.save(update_fields=["balance", "version"])


def take_by_version(number: int) -> None:
    """Compare the version in the write, and try again."""
    for _ in range(5):
        account = Account.objects.get(pk=1)
        found = Account.objects.filter(pk=1, version=account.version)
        if found.update(balance=account.balance - 1, version=account.version + 1):
            return
    raise AssertionError("others were quicker five times")


def redeem(number: int) -> str:
    """Check that the coupon was not used, then use it."""
    if Account.objects.get(pk=1).is_open:
        Account.objects.filter(pk=1).update(is_open=False)
        Payment.objects.create(account_id=1, number=number)
        return "done"
    return "used"


@transaction.atomic
def redeem_locked(number: int) -> str:
    """Check and use the coupon while nobody else can."""
    account = Account.objects.select_for_update().get(pk=1)
    if account.is_open:
        account.is_open = False
        account.save(update_fields=["is_open"])
        Payment.objects.create(account_id=1, number=number)
        return "done"
    return "used"


def redeem_by_condition(number: int) -> str:
    """Check and use the coupon in one statement."""
    if Account.objects.filter(pk=1, is_open=True).update(is_open=False):
        Payment.objects.create(account_id=1, number=number)
        return "done"
    return "used"


def note_once(number: int) -> None:
    """Get or create a row, of which nothing says that there is one."""
    Note.objects.get_or_create(text="x")


def claim_once(number: int) -> None:
    """Get or create a row that is unique."""
    Claim.objects.get_or_create(name="x")


@transaction.atomic
def close_unless_last(number: int) -> None:
    """Close an account, unless that leaves fewer than three: write skew."""
    if Account.objects.filter(is_open=True).count() > 3:
        Account.objects.filter(pk=number + 1).update(is_open=False)


def until_it_works(call: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return a call that is made again after an error of the database."""

    @wraps(call)
    def with_retry(number: int) -> Any:
        for _ in range(5):
            try:
                return call(number)
            except OperationalError:
                pass
        raise AssertionError("five failures in a row")

    return with_retry


@transaction.atomic
def lock_both(number: int) -> None:
    """Lock two rows, in another order in every second session."""
    for pk in (1, 2) if number % 2 else (2, 1):
        Account.objects.select_for_update().get(pk=pk)
        Account.objects.filter(pk=pk).update(balance=F("balance") - 1)


@transaction.atomic
def lock_both_in_order(number: int) -> None:
    """Lock two rows in the same order everywhere."""
    list(Account.objects.select_for_update().filter(pk__in=(1, 2)).order_by("pk"))
    for pk in (1, 2) if number % 2 else (2, 1):
        Account.objects.filter(pk=pk).update(balance=F("balance") - 1)


@transaction.atomic
def update_both(number: int) -> None:
    """Update two rows, in another order in every second session."""
    for pk in (1, 2) if number % 2 else (2, 1):
        Account.objects.filter(pk=pk).update(balance=F("balance") - 1)


@transaction.atomic
def update_both_in_order() -> None:
    """Update two rows, in the same order everywhere."""
    for pk in (1, 2):
        Account.objects.filter(pk=pk).update(balance=F("balance") - 1)


@transaction.atomic
def pay_and_count() -> None:
    """Refer to a row, and read the table of those who do."""
    Payment.objects.create(account_id=1)
    Payment.objects.count()


def withdraw_if_it_looks_enough(number: int) -> str:
    """Check, then withdraw, and leave it to the constraint to raise."""
    if Account.objects.get(pk=1).balance >= 60:
        Account.objects.filter(pk=1).update(balance=F("balance") - 60)
        return "done"
    return "too little"


def withdraw_handled(number: int) -> str:
    """Withdraw, and take the constraint's answer for one."""
    try:
        Account.objects.filter(pk=1).update(balance=F("balance") - 60)
    except IntegrityError:
        return "too little"
    return "done"


def take_the_next(number: int) -> int | None:
    """Take the first open account, which two may take."""
    account = Account.objects.filter(is_open=True).order_by("pk").first()
    if account is None:
        return None
    Account.objects.filter(pk=account.pk).update(is_open=False)
    return account.pk


@transaction.atomic
def take_the_next_skipping(number: int) -> int | None:
    """Take the first open account that nobody else is taking."""
    accounts = Account.objects.select_for_update(skip_locked=True)
    account = accounts.filter(is_open=True).order_by("pk").first()
    if account is None:
        return None
    Account.objects.filter(pk=account.pk).update(is_open=False)
    return account.pk


@transaction.atomic
def take_unless_locked(number: int) -> str:
    """Take one, and say so also where the row was skipped: a write is dropped."""
    account = Account.objects.select_for_update(skip_locked=True).filter(pk=1).first()
    if account is not None:
        account.balance -= 1
        account.save(update_fields=["balance"])
    return "taken"


def take_at_once(number: int) -> str:
    """Take one, and say so also where the row could not be locked at once."""
    _take_nowait()
    return "taken"


def take_at_once_or_tell(number: int) -> str:
    """Take one, and tell where the row could not be locked at once."""
    return "taken" if _take_nowait() else "refused"


def _take_nowait() -> bool:
    try:
        with transaction.atomic():
            account = Account.objects.select_for_update(nowait=True).get(pk=1)
            account.balance -= 1
            account.save(update_fields=["balance"])
    except OperationalError:
        return False
    return True


@transaction.atomic
def number_by_max(number: int) -> int:
    """Give a payment the next number, which two may get."""
    following = (Payment.objects.aggregate(last=Max("number"))["last"] or 0) + 1
    Payment.objects.create(account_id=1, number=following)
    return following


@transaction.atomic
def number_by_lock(number: int) -> int:
    """Give a payment the next number, while nobody else can."""
    Account.objects.select_for_update().get(pk=1)
    following = (Payment.objects.aggregate(last=Max("number"))["last"] or 0) + 1
    Payment.objects.create(account_id=1, number=following)
    return following


@transaction.atomic
def pay_or_rename(number: int) -> None:
    """Refer to a row in some sessions, and change it under a lock in others."""
    if number % 2:
        Payment.objects.create(account_id=1, number=number)
    else:
        account = Account.objects.select_for_update().get(pk=1)
        account.balance -= 1
        account.save(update_fields=["balance"])


def balance_was_changed(results: list[Any]) -> bool:
    """Tell whether the update and the reference are both there."""
    payments = Payment.objects.count()
    return balance() + len(results) - payments == BALANCE and payments > 0


@transaction.atomic
def close_and_tell(number: int) -> None:
    """Send a mail at the commit, if it looks as if nobody had."""
    if Account.objects.get(pk=1).is_open:
        Account.objects.filter(pk=1).update(is_open=False)
        transaction.on_commit(lambda: sent.append(number))


@transaction.atomic
def close_and_tell_locked(number: int) -> None:
    """Send a mail at the commit, if nobody has."""
    if Account.objects.select_for_update().get(pk=1).is_open:
        Account.objects.filter(pk=1).update(is_open=False)
        transaction.on_commit(lambda: sent.append(number))


def post_redeem(number: int) -> str:
    """Redeem the coupon through a view."""
    return Client().post("/redeem/", {"number": number}).content.decode()


def post_redeem_locked(number: int) -> str:
    """Redeem the coupon through a view that locks it."""
    return Client().post("/redeem-locked/", {"number": number}).content.decode()


def create_and_count(number: int) -> None:
    """Create a row, whose signal counts by a read and a write."""
    Note.objects.create(text="racy")


def create_and_count_at_once(number: int) -> None:
    """Create a row, whose signal counts in the database."""
    Note.objects.create(text="fixed")


def count_notes(instance: Note, created: bool, **kwargs: Any) -> None:
    """Count the notes that are created (a receiver of post_save)."""
    if instance.text == "racy":
        counter = Counter.objects.get(pk=1)
        counter.value += 1
        counter.save(update_fields=["value"])
    elif instance.text == "fixed":
        Counter.objects.filter(pk=1).update(value=F("value") + 1)


post_save.connect(count_notes, sender=Note)

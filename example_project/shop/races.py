"""The races of the shop: what each service promises, and how to see it broken.

A batch is `prepare(n)`, then n calls of the service at the same time with the
arguments that it returned, then `judge(results)`.
"""

from abc import ABC, abstractmethod
from decimal import Decimal
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

from django.core.exceptions import MultipleObjectsReturned
from django.db import connection
from django.template.defaultfilters import pluralize

from django_txtest import Results
from shop.models import (
    Account,
    Coupon,
    Doctor,
    Invoice,
    NewsletterSignup,
    NewsletterSubscription,
    Order,
    Product,
    VatRate,
)

NOT_ON_SQLITE = "SQLite runs one atomic block at a time"


class Verdict(NamedTuple):
    """Whether the promise was kept, and what came of the batch, in words."""

    kept: bool
    words: str


class Race(ABC):
    """One promise that the shop makes."""

    name: ClassVar[str]
    service: ClassVar[str]
    anomaly: ClassVar[str]
    promise: ClassVar[str]
    #: Whether all that the racy service does is within one atomic block.
    is_atomic: ClassVar[bool] = False
    #: What a call may raise because of the race.
    symptoms: ClassVar[tuple[type[Exception], ...]] = ()

    @abstractmethod
    def prepare(self, n: int) -> list[dict[str, Any]]:
        """Put the rows in place; return the arguments of each of n calls."""

    @abstractmethod
    def judge(self, results: Results) -> Verdict:
        """Look at what is in the database now."""

    def calls(self, services: ModuleType, n: int) -> list[tuple[Any, dict[str, Any]]]:
        """Prepare a batch of the service; return its calls."""
        service = getattr(services, self.service)
        return [(service, arguments) for arguments in self.prepare(n)]

    def can_show(self) -> bool:
        """Tell whether the database in use lets the racy service go wrong."""
        return not (self.is_atomic and connection.vendor == "sqlite")


class Withdrawals(Race):
    name = "account"
    service = "withdraw"
    anomaly = "lost update"
    promise = "Each withdrawal of 10.00 takes 10.00 out of the account."

    amount = Decimal("10.00")

    def prepare(self, n: int) -> list[dict[str, Any]]:
        self.start = self.amount * n * 2
        Account.objects.update_or_create(
            owner="ada@example.com", defaults={"balance": self.start}
        )
        return [{"owner": "ada@example.com", "amount": self.amount}] * n

    def judge(self, results: Results) -> Verdict:
        paid = len(results.values)
        right = self.start - self.amount * paid
        left = Account.objects.get(owner="ada@example.com").balance
        words = f"{paid} withdrawals of {self.amount} from {self.start} left {left}"
        return Verdict(left == right, words + (f", not {right}" * (left != right)))


class Redemptions(Race):
    name = "coupon"
    service = "redeem"
    anomaly = "double redemption (check, then act)"
    promise = "The coupon WELCOME10 may be redeemed once."

    def prepare(self, n: int) -> list[dict[str, Any]]:
        Coupon.objects.update_or_create(code="WELCOME10", defaults={"uses_left": 1})
        return [{"code": "WELCOME10", "customer": customer} for customer in people(n)]

    def judge(self, results: Results) -> Verdict:
        redeemed = len(results.values)
        return Verdict(
            redeemed == 1,
            f"{len(results)} customers redeemed it at the same time: "
            f"{redeemed} succeeded",
        )


class Checkouts(Race):
    name = "stock"
    service = "checkout"
    anomaly = "oversold (check, then act)"
    promise = "Of ASPIRIN there is one left to sell."

    def prepare(self, n: int) -> list[dict[str, Any]]:
        make_product(stock=1)
        return [{"sku": "ASPIRIN", "customer": customer} for customer in people(n)]

    def judge(self, results: Results) -> Verdict:
        stock = Product.objects.get(sku="ASPIRIN").stock
        return Verdict(
            stock == 0 and len(results.values) == 1,
            f"{len(results)} customers bought it at the same time: "
            f"{len(results.values)} paid, and the stock is {stock}",
        )


class Subscriptions(Race):
    name = "newsletter"
    service = "subscribe"
    anomaly = "duplicate rows (get_or_create without a unique constraint)"
    promise = "An address is subscribed to the newsletter once."
    symptoms = (MultipleObjectsReturned,)

    def prepare(self, n: int) -> list[dict[str, Any]]:
        NewsletterSignup.objects.all().delete()
        NewsletterSubscription.objects.all().delete()
        return [{"email": "ada@example.com"}] * n

    def judge(self, results: Results) -> Verdict:
        models = NewsletterSignup, NewsletterSubscription
        rows = sum(model.objects.count() for model in models)
        return Verdict(
            rows == 1,
            f"the form was sent {len(results)} times at the same time: "
            f"{rows} row{pluralize(rows)}",
        )


class Invoices(Race):
    name = "invoice"
    service = "issue_invoice"
    anomaly = "duplicate numbers (max() + 1)"
    promise = "Every invoice has a number of its own."
    is_atomic = True

    def prepare(self, n: int) -> list[dict[str, Any]]:
        Invoice.objects.all().delete()
        product = make_product(stock=n)
        orders = [
            Order(product=product, customer=customer, total=product.gross_price)
            for customer in people(n)
        ]
        return [{"order_id": order.pk} for order in Order.objects.bulk_create(orders)]

    def judge(self, results: Results) -> Verdict:
        numbers = Invoice.objects.values_list("number", flat=True)
        different = len(set(numbers))
        return Verdict(
            different == len(numbers),
            f"{len(numbers)} invoices were issued at the same time, "
            f"with {different} number{pluralize(different)} between them",
        )


class Doctors(Race):
    name = "doctors"
    service = "go_off_call"
    anomaly = "write skew (under REPEATABLE READ)"
    promise = "At any time a doctor is on call."
    is_atomic = True

    def prepare(self, n: int) -> list[dict[str, Any]]:
        names = [f"Dr. {i}" for i in range(1, n + 1)]
        Doctor.objects.all().delete()
        Doctor.objects.bulk_create(Doctor(name=name) for name in names)
        return [{"name": name} for name in names]

    def judge(self, results: Results) -> Verdict:
        on_call = Doctor.objects.filter(on_call=True).count()
        return Verdict(
            on_call > 0,
            f"all {len(results)} doctors asked to go home at the same time: "
            f"{on_call or 'nobody'} stayed",
        )


def people(n: int) -> list[str]:
    return [f"customer{i}@example.com" for i in range(1, n + 1)]


def make_product(stock: int) -> Product:
    product, _ = Product.objects.update_or_create(
        sku="ASPIRIN",
        defaults={
            "price": Decimal("5.00"),
            "vat_rate": VatRate.objects.get(name="reduced"),
            "stock": stock,
        },
    )
    return product


RACES: list[Race] = [
    Withdrawals(),
    Redemptions(),
    Checkouts(),
    Subscriptions(),
    Invoices(),
    Doctors(),
]

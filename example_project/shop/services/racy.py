"""The services as they are often first written. Each passes every test in a row."""

from decimal import Decimal
from functools import partial

from django.db import connection, transaction
from django.db.models import F, Max

from shop import gateway
from shop.exceptions import CouponUsedUp, InsufficientFunds, LastDoctor, OutOfStock
from shop.models import (
    Account,
    Coupon,
    Doctor,
    Invoice,
    NewsletterSignup,
    Product,
)
from shop.services.orders import place_order


def withdraw(owner: str, amount: Decimal) -> Decimal:
    """Pay out credit; return what is left.

    Lost update: the balance that is saved is reckoned from the one that was read, so
    it overwrites every withdrawal made in between.
    """
    account = Account.objects.get(owner=owner)
    if account.balance < amount:
        raise InsufficientFunds
    gateway.pay_out(owner, amount)
    account.balance -= amount
    account.save()
    return account.balance


def redeem(code: str, customer: str) -> int:
    """Use a coupon; return the discount in percent.

    Check, then act: all who come while the fraud check runs see the same use left.
    """
    coupon = Coupon.objects.get(code=code)
    if coupon.uses_left < 1:
        raise CouponUsedUp
    gateway.check_fraud(customer)
    coupon.uses_left -= 1
    coupon.save()
    return coupon.percent


def checkout(sku: str, customer: str) -> int:
    """Sell one of a product; return the order's id.

    Check, then act: F() loses no update, but by then the check is out of date, and
    the stock goes below zero.
    """
    product = Product.objects.select_related("vat_rate").get(sku=sku)
    if product.stock < 1:
        raise OutOfStock
    payment = gateway.charge(customer, product.gross_price)
    with transaction.atomic():
        Product.objects.filter(pk=product.pk).update(stock=F("stock") - 1)
        return place_order(product, customer, payment).pk


def subscribe(email: str) -> int:
    """Subscribe an address to the newsletter, once; return the subscription's id.

    Duplicate rows: get_or_create leans on a unique constraint, and there is none.
    From the second row on, get() raises MultipleObjectsReturned.
    """
    signup, _ = NewsletterSignup.objects.get_or_create(
        email=email, defaults={"rating": partial(gateway.rate_address, email)}
    )
    return signup.pk


@transaction.atomic
def issue_invoice(order_id: int) -> int:
    """Write the invoice for an order; return its number.

    Duplicate numbers: atomic is no lock, so two transactions can read the same
    maximum.
    """
    last = Invoice.objects.aggregate(last=Max("number"))["last"] or 0
    number = last + 1
    Invoice.objects.create(
        order_id=order_id, number=number, signature=gateway.sign_invoice(number)
    )
    return number


@transaction.atomic
def go_off_call(name: str) -> None:
    """Let a doctor go home, unless nobody else is on call.

    Write skew: two doctors read the same rows and each writes another one, so the
    database sees no conflict. A snapshot for the whole transaction does not help.
    """
    _repeatable_read()
    if Doctor.objects.filter(on_call=True).count() < 2:
        raise LastDoctor
    gateway.divert_calls(name)
    Doctor.objects.filter(name=name).update(on_call=False)


def _repeatable_read() -> None:
    if connection.vendor == "postgresql":  # SQLite has no lower level
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

"""The same services without their races, each cured in the way that suits it."""

from decimal import Decimal
from functools import partial

from django.db import transaction
from django.db.models import F

from shop import gateway
from shop.exceptions import CouponUsedUp, InsufficientFunds, LastDoctor, OutOfStock
from shop.models import (
    Account,
    Coupon,
    Doctor,
    Invoice,
    InvoiceCounter,
    NewsletterSubscription,
    Product,
)
from shop.services.orders import place_order


def lock_account(owner: str) -> Account:
    """Read an account that nobody else can change before the transaction ends."""
    return Account.objects.select_for_update().get(owner=owner)


@transaction.atomic
def withdraw(owner: str, amount: Decimal) -> Decimal:
    """Pay out credit; return what is left.

    No lost update: the row is locked before it is read.
    """
    account = lock_account(owner)
    if account.balance < amount:
        raise InsufficientFunds
    gateway.pay_out(owner, amount)
    account.balance -= amount
    account.save()
    return account.balance


def redeem(code: str, customer: str) -> int:
    """Use a coupon; return the discount in percent.

    No double redemption: one UPDATE both checks and acts.
    """
    coupon = Coupon.objects.get(code=code)
    gateway.check_fraud(customer)
    redeemed = Coupon.objects.filter(pk=coupon.pk, uses_left__gte=1).update(
        uses_left=F("uses_left") - 1
    )
    if not redeemed:
        raise CouponUsedUp
    return coupon.percent


@transaction.atomic
def checkout(sku: str, customer: str) -> int:
    """Sell one of a product; return the order's id.

    Nothing is oversold: the product is taken from the stock before the customer pays
    for it, and a payment that fails rolls that back.
    """
    product = Product.objects.select_related("vat_rate").get(sku=sku)
    taken = Product.objects.filter(pk=product.pk, stock__gte=1).update(
        stock=F("stock") - 1
    )
    if not taken:
        raise OutOfStock
    payment = gateway.charge(customer, product.gross_price)
    return place_order(product, customer, payment).pk


def subscribe(email: str) -> int:
    """Subscribe an address to the newsletter, once; return the subscription's id.

    No duplicate rows: the address is unique, so the INSERT of all but one fails, and
    get_or_create then gets the row which that one made.
    """
    subscription, _ = NewsletterSubscription.objects.get_or_create(
        email=email, defaults={"rating": partial(gateway.rate_address, email)}
    )
    return subscription.pk


@transaction.atomic
def issue_invoice(order_id: int) -> int:
    """Write the invoice for an order; return its number.

    No duplicate numbers: whoever holds the lock on the counter's row has the next. A
    sequence would be faster, but leaves a gap where a transaction rolls back.
    """
    counter = InvoiceCounter.objects.select_for_update().get()
    counter.last_number += 1
    counter.save()
    Invoice.objects.create(
        order_id=order_id,
        number=counter.last_number,
        signature=gateway.sign_invoice(counter.last_number),
    )
    return counter.last_number


@transaction.atomic
def go_off_call(name: str) -> None:
    """Let a doctor go home, unless nobody else is on call.

    No write skew: every row that the decision rests on is locked, in an order that
    cannot deadlock. SERIALIZABLE, with a retry, would do as well.
    """
    on_call = Doctor.objects.select_for_update().filter(on_call=True).order_by("pk")
    if len(on_call) < 2:
        raise LastDoctor
    gateway.divert_calls(name)
    Doctor.objects.filter(name=name).update(on_call=False)

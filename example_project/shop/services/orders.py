"""What both versions of the checkout have in common."""

from functools import partial

from django.core.mail import send_mail
from django.db import transaction

from shop.models import Order, Product


def place_order(product: Product, customer: str, payment: str) -> Order:
    """Write the order down; confirm it by mail once it is there to stay."""
    order = Order.objects.create(
        product=product, customer=customer, total=product.gross_price, payment=payment
    )
    transaction.on_commit(partial(confirm, order))
    return order


def confirm(order: Order) -> None:
    """Mail the customer that the order has come in."""
    send_mail(
        subject=f"Your order {order.pk}",
        message=f"Thank you for buying {order.product} for {order.total}.",
        from_email="shop@example.com",
        recipient_list=[order.customer],
    )

"""The services of others that the shop calls over the network.

In earnest each takes its time. That wait, between reading a row and writing it, is
where most races live. Here they answer at once, and the races are seen all the same.
"""

from decimal import Decimal


def charge(customer: str, amount: Decimal) -> str:
    """Take the amount from the customer's card; return the payment's reference."""
    return f"payment of {amount} by {customer}"


def pay_out(customer: str, amount: Decimal) -> str:
    """Send the amount to the customer's bank; return the payment's reference."""
    return f"payment of {amount} to {customer}"


def check_fraud(customer: str) -> None:
    """Ask whether this customer is known for fraud."""


def rate_address(email: str) -> int:
    """Ask how likely it is, in percent, that mail to this address arrives."""
    return 99


def sign_invoice(number: int) -> str:
    """Have the tax office sign the invoice's number."""
    return f"signed: {number}"


def divert_calls(name: str) -> None:
    """Tell the telephone exchange to put no more calls through to this doctor."""

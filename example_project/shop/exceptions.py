"""What the shop says no with."""


class Refused(Exception):
    """The shop says no, and is right to."""


class InsufficientFunds(Refused):
    """There is less in the account than was asked for."""


class CouponUsedUp(Refused):
    """The coupon has been redeemed as often as it may be."""


class OutOfStock(Refused):
    """The last one is sold."""


class PaymentDeclined(Refused):
    """The bank will not pay."""


class LastDoctor(Refused):
    """Somebody has to stay on call."""

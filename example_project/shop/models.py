"""What the shop keeps.

It sells medicine, so one of its doctors has to be on call at any time.
"""

from decimal import Decimal

from django.db import models


class VatRate(models.Model):
    """A rate of value added tax. The rows come from a migration."""

    name = models.CharField(max_length=20, unique=True)
    percent = models.DecimalField(max_digits=4, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.name} ({self.percent} %)"


class Account(models.Model):
    """A customer's credit with the shop."""

    owner = models.EmailField(unique=True)
    balance = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.owner}: {self.balance}"


class Coupon(models.Model):
    code = models.CharField(max_length=20, unique=True)
    percent = models.PositiveSmallIntegerField(default=10)
    uses_left = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return self.code


class Product(models.Model):
    sku = models.CharField(max_length=20, unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    vat_rate = models.ForeignKey(VatRate, on_delete=models.PROTECT)
    # Nothing keeps it from going below zero, as in a shop that takes back orders.
    stock = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.sku

    @property
    def gross_price(self) -> Decimal:
        """The price with the tax."""
        gross = self.price * (1 + self.vat_rate.percent / 100)
        return gross.quantize(Decimal("0.01"))


class Order(models.Model):
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    customer = models.EmailField()
    total = models.DecimalField(max_digits=10, decimal_places=2)
    payment = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.product} for {self.customer}"


class Invoice(models.Model):
    """The tax office wants the numbers to have neither gaps nor duplicates."""

    order = models.OneToOneField(Order, on_delete=models.PROTECT)
    number = models.PositiveIntegerField()
    signature = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"invoice {self.number}"


class InvoiceCounter(models.Model):
    """The last number given out. Its one row comes from a migration."""

    last_number = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.last_number)


class NewsletterSignup(models.Model):
    """A subscriber, in the table as it was first made: nothing in it is unique."""

    email = models.EmailField()
    rating = models.PositiveSmallIntegerField()

    def __str__(self) -> str:
        return self.email


class NewsletterSubscription(models.Model):
    """A subscriber, in a table that holds an address once."""

    email = models.EmailField(unique=True)
    rating = models.PositiveSmallIntegerField()

    def __str__(self) -> str:
        return self.email


class Doctor(models.Model):
    name = models.CharField(max_length=50, unique=True)
    on_call = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name

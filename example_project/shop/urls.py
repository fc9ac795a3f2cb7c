"""The pages' addresses."""

from types import ModuleType

from django.urls import URLPattern, path

from shop.views import CheckoutView, RedeemView


def pages(services: ModuleType) -> list[URLPattern]:
    return [
        path("redeem/", RedeemView.as_view(services=services), name="redeem"),
        path("checkout/", CheckoutView.as_view(services=services), name="checkout"),
    ]

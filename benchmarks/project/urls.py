"""The views of the benchmark."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks.project.everyday import redeem, redeem_locked


def redeem_view(request: HttpRequest) -> HttpResponse:
    """Redeem the coupon."""
    return HttpResponse(redeem(int(request.POST["number"])))


def redeem_locked_view(request: HttpRequest) -> HttpResponse:
    """Redeem the coupon while nobody else can."""
    return HttpResponse(redeem_locked(int(request.POST["number"])))


urlpatterns = [
    path("redeem/", redeem_view),
    path("redeem-locked/", redeem_locked_view),
]

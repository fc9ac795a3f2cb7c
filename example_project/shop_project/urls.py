"""The same two pages twice: on the racy services, and on the fixed ones."""

from django.urls import include, path

from shop import urls
from shop.services import fixed, racy

urlpatterns = [
    path("racy/", include((urls.pages(racy), "shop"), namespace="racy")),
    path("fixed/", include((urls.pages(fixed), "shop"), namespace="fixed")),
]

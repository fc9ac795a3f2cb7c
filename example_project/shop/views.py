"""Two pages of the shop. Which services they call is up to the urls."""

from types import ModuleType

from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, JsonResponse
from django.views import View

from shop.exceptions import Refused
from shop.services import fixed


class ServiceView(View):
    """A POST calls a service, and is answered 409 where the shop says no."""

    services: ModuleType = fixed

    def post(self, request: HttpRequest) -> JsonResponse:
        try:
            return JsonResponse(self.serve(request))
        except ObjectDoesNotExist as error:
            return JsonResponse({"error": str(error)}, status=404)
        except Refused as error:
            return JsonResponse({"error": type(error).__doc__}, status=409)

    def serve(self, request: HttpRequest) -> dict[str, int]:
        raise NotImplementedError


class RedeemView(ServiceView):
    """Redeem the coupon ``code`` for ``customer``."""

    def serve(self, request: HttpRequest) -> dict[str, int]:
        percent = self.services.redeem(
            request.POST.get("code", ""), request.POST.get("customer", "")
        )
        return {"discount": percent}


class CheckoutView(ServiceView):
    """Sell one of the product ``sku`` to ``customer``."""

    def serve(self, request: HttpRequest) -> dict[str, int]:
        order_id = self.services.checkout(
            request.POST.get("sku", ""), request.POST.get("customer", "")
        )
        return {"order": order_id}

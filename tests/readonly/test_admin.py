from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory, TestCase, override_settings
from django.urls import path

from django_txtest import allow_writes
from django_txtest.readonly import ReadOnlyAdminMixin
from tests.vault.models import Account, Entry, SpecialEntry


class EntryInline(ReadOnlyAdminMixin, admin.TabularInline):
    model = Entry


class EntryAdmin(ReadOnlyAdminMixin, admin.ModelAdmin):
    pass


class AccountAdmin(ReadOnlyAdminMixin, admin.ModelAdmin):
    inlines = [EntryInline]


site = admin.AdminSite()
site.register(Entry, EntryAdmin)
site.register(Account, AccountAdmin)
urlpatterns = [path("admin/", site.urls)]

RENDERED = {
    "INSTALLED_APPS": [
        *settings.INSTALLED_APPS,
        "django.contrib.admin",
        "django.contrib.messages",
    ],
    "ROOT_URLCONF": __name__,
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    "STATIC_URL": "static/",
}


class AdminTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.user = User.objects.create_superuser("ada")
        with allow_writes():
            cls.entry = Entry.objects.create(text="first")
        cls.account = Account.objects.create(name="ada")

    def setUp(self):
        self.site = site
        self.request = RequestFactory().get("/")
        self.request.user = self.user

    def permissions(self, options, obj=None):
        return {
            "add": options.has_add_permission(self.request),
            "change": options.has_change_permission(self.request, obj),
            "delete": options.has_delete_permission(self.request, obj),
            "view": options.has_view_permission(self.request, obj),
        }

    def test_read_only(self):
        for model in (Entry, SpecialEntry):
            for obj in (None, self.entry):
                self.assertEqual(
                    self.permissions(EntryAdmin(model, self.site), obj),
                    {"add": False, "change": False, "delete": False, "view": True},
                )

    def test_writable(self):
        writable = {"add": True, "change": True, "delete": True, "view": True}
        options = EntryAdmin(Entry, self.site)
        with override_settings(VAULT_READONLY=False):
            self.assertEqual(self.permissions(options), writable)
        with allow_writes(Entry):
            self.assertEqual(self.permissions(options), writable)
        self.assertEqual(self.permissions(AccountAdmin(Account, self.site)), writable)

    def test_without_permissions(self):
        self.request.user = User.objects.create_user("eve")
        self.assertNotIn(True, self.permissions(EntryAdmin(Entry, self.site)).values())
        with allow_writes():
            self.assertNotIn(
                True, self.permissions(EntryAdmin(Entry, self.site)).values()
            )

    def test_actions(self):
        options = EntryAdmin(Entry, self.site)
        self.assertNotIn("delete_selected", options.get_actions(self.request))
        with allow_writes():
            self.assertIn("delete_selected", options.get_actions(self.request))

    def test_inlines(self):
        options = AccountAdmin(Account, self.site)
        [inline] = options.get_inline_instances(self.request, self.account)
        self.assertFalse(inline.has_add_permission(self.request, self.account))
        self.assertFalse(inline.has_change_permission(self.request, self.account))
        self.assertTrue(inline.has_view_permission(self.request, self.account))

    @override_settings(**RENDERED)
    def test_pages(self):
        options = EntryAdmin(Entry, self.site)
        pk = str(self.entry.pk)
        reason = "read-only, by VAULT_READONLY"
        page = options.changelist_view(self.request).render().content.decode()
        self.assertIn(reason, page)
        self.assertNotIn("/vault/entry/add/", page)
        page = options.change_view(self.request, pk).render().content.decode()
        self.assertIn(reason, page)
        self.assertNotIn("deletelink", page)
        self.assertNotIn('name="_save"', page)
        with self.assertRaises(PermissionDenied):
            options.add_view(self.request)
        with self.assertRaises(PermissionDenied):
            options.delete_view(self.request, pk)
        with allow_writes(Entry):
            page = options.change_view(self.request, pk).render().content.decode()
            self.assertNotIn(reason, page)
            self.assertIn('name="_save"', page)

    def test_it_says_why(self):
        options = EntryAdmin(Entry, self.site)
        context = options._with_reason(None, None)
        self.assertEqual(context, {"subtitle": "read-only, by VAULT_READONLY"})
        context = options._with_reason({"more": 1}, "first")
        self.assertEqual(
            context, {"subtitle": "first (read-only, by VAULT_READONLY)", "more": 1}
        )
        with allow_writes():
            self.assertIsNone(options._with_reason(None, None))

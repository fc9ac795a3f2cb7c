"""The rows that the shop cannot do without."""

from decimal import Decimal

from django.db import migrations


def insert(apps, schema_editor):
    alias = schema_editor.connection.alias
    vat_rates = apps.get_model("shop", "VatRate").objects.using(alias)
    for name, percent in [("standard", "20"), ("reduced", "5.5"), ("zero", "0")]:
        vat_rates.create(name=name, percent=Decimal(percent))
    apps.get_model("shop", "InvoiceCounter").objects.using(alias).create()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]

    operations = [migrations.RunPython(insert, migrations.RunPython.noop)]

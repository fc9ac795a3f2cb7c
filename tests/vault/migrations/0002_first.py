from django.db import migrations


def write(apps, schema_editor):
    apps.get_model("vault", "Entry").objects.create(text="from a migration")


class Migration(migrations.Migration):
    dependencies = [("vault", "0001_initial")]
    operations = [migrations.RunPython(write, migrations.RunPython.noop)]

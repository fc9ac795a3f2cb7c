from django.db import migrations


def add_genres(apps, schema_editor):
    genre = apps.get_model("library", "Genre")
    for name in ("Crime", "Poetry", "Travel"):
        genre.objects.using(schema_editor.connection.alias).create(name=name)


class Migration(migrations.Migration):
    dependencies = [("library", "0001_initial")]

    operations = [
        migrations.RunPython(add_genres, migrations.RunPython.noop),
        migrations.RunSQL(
            "CREATE TABLE library_loan ("
            "id integer PRIMARY KEY, reader varchar(100) NOT NULL)",
            "DROP TABLE library_loan",
        ),
    ]

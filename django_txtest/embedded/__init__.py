"""A throw-away PostgreSQL in one call.

In a settings module::

    from django_txtest import embedded

    DATABASES = {"default": embedded.postgresql()}

The server starts in about a second, is shared with all child processes, and is gone,
with its folder, when the process that started it ends in whatever way. From a shell:
``python -m django_txtest.embedded``.
"""

from django_txtest.embedded.finding import find_database, postgresql

__all__ = ["find_database", "postgresql"]

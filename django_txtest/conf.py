"""Our settings, typed, with their defaults, read when they are used.

So `override_settings` works on them like on any other setting.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

MODES = ("fork", "threads", "spawn", "inline")
# Where forking is safe as long as this process has no threads.
_DEFAULT_MODE = "fork" if sys.platform == "linux" else "threads"


@dataclass(frozen=True)
class _Seconds:
    """A setting that is a positive number of seconds."""

    name: str
    default: float

    def __get__(self, instance: object, owner: type | None = None) -> float:
        value = getattr(django_settings, self.name, self.default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and value > 0:
            return float(value)
        raise ImproperlyConfigured(
            f"{self.name} must be a positive number of seconds, not {value!r}."
        )


@dataclass(frozen=True)
class _Choice:
    """A setting that is one of a few words."""

    name: str
    default: str
    choices: tuple[str, ...]

    def __get__(self, instance: object, owner: type | None = None) -> str:
        value: Any = getattr(django_settings, self.name, self.default)
        if value in self.choices:
            return str(value)
        raise ImproperlyConfigured(
            f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}."
        )


def temporary_folder() -> Path:
    """Return where reports are, unless a setting says so: a folder for each user."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"django-txtest-{user}"


@dataclass(frozen=True)
class _ReportFolder:
    """A setting that is a folder, or None for nothing to be written."""

    name: str

    def __get__(self, instance: object, owner: type | None = None) -> Path | None:
        value = getattr(django_settings, self.name, temporary_folder())
        if value is None:
            return None
        if isinstance(value, (str, os.PathLike)) and str(value):
            return Path(value).absolute()
        raise ImproperlyConfigured(
            f"{self.name} must be the path of a folder, or None, not {value!r}."
        )


class Settings:
    """The settings of django-txtest."""

    #: How long a concurrent call may take, in seconds, where no `timeout` is given.
    call_timeout = _Seconds("TXTEST_CALL_TIMEOUT", 30.0)
    #: How concurrent calls are made where no `using` is given.
    call_using = _Choice("TXTEST_CALL_USING", _DEFAULT_MODE, MODES)
    #: How long a reset waits for a lock that somebody else holds, in seconds.
    lock_timeout = _Seconds("TXTEST_LOCK_TIMEOUT", 10.0)
    #: How long one step of an explored session may take, in seconds.
    step_timeout = _Seconds("TXTEST_STEP_TIMEOUT", 5.0)
    #: Where the pictures of failures are written.
    report_dir = _ReportFolder("TXTEST_REPORT_DIR")
    #: How the transcript of a failure is laid out.
    transcript = _Choice("TXTEST_TRANSCRIPT", "auto", ("auto", "lines", "columns"))


settings = Settings()

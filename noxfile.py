"""The whole matrix, and every check: ``nox`` runs all, ``nox -l`` lists them.

Django prefers psycopg 3 wherever it is installed, so each driver has an environment of
its own. Interpreters that this machine lacks are reported as skipped.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = {
    "5.2": ["3.10", "3.11", "3.12", "3.13"],
    "6.0": ["3.12", "3.13"],
    "6.1": ["3.12", "3.13"],
}
DRIVERS = {
    "psycopg2": ["psycopg2-binary>=2.9.9"],
    "psycopg3": ["psycopg[binary,pool]>=3.1.18"],
    "sqlite": [],
}
MATRIX = [
    nox.param(python, django, driver, id=f"py{python}-django{django}-{driver}")
    for django, pythons in PYTHONS.items()
    for python in pythons
    for driver in DRIVERS
]

nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "imports", "docs", "package", "tests"]


def newest_python() -> str | None:
    """Return the newest supported version that runs here (a pyenv shim may not)."""
    for version in reversed(PYTHONS["5.2"]):
        program = shutil.which(f"python{version}")
        if (
            program
            and not subprocess.run([program, "-c", ""], capture_output=True).returncode
        ):
            return version
    return None


def postgres() -> list[str]:
    """Return what the extra of that name has, without its driver."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = setup["options.extras_require"]["postgres"].split()
    return [one for one in extra if not one.startswith("psycopg")]


def run_tests(session: nox.Session, django: str | None, driver: str) -> None:
    """Run the test suite with one version of Django and one driver."""
    wanted = [f"Django~={django}.0"] if django else []
    if driver != "sqlite":
        wanted += postgres()
    session.install("-e", ".[test]", *wanted, *DRIVERS[driver])
    options = ["--sqlite"] if driver == "sqlite" else []
    session.run("python", "runtests.py", *options, *session.posargs)


@nox.session
@nox.parametrize("python,django,driver", MATRIX)
def tests(session: nox.Session, django: str, driver: str) -> None:
    """The suite on one Python, one Django and one driver."""
    run_tests(session, django, driver)


@nox.session(python=newest_python())
def newest(session: nox.Session) -> None:
    """The suite on the newest Python here, the newest Django for it, and psycopg 3."""
    run_tests(session, None, "psycopg3")


@nox.session(python=newest_python())
def mariadb(session: nox.Session) -> None:
    """The suite on a throw-away MariaDB; fails where its server is not installed."""
    session.install("-e", ".[postgres,mariadb,test]")
    session.run("python", "runtests.py", "--mariadb", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format."""
    session.install("ruff>=0.9")
    run_lint(session)


def run_lint(session: nox.Session) -> None:
    """Run ruff."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    session.install("-e", ".[postgres,test,dev]")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """The layers, as setup.cfg has them."""
    session.install("-e", ".[test]")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, with warnings as errors, and its examples."""
    session.install("-e", ".[postgres,test,docs]")
    run_docs(session)


def run_docs(session: nox.Session) -> None:
    """Build the documentation and run its doctests."""
    for builder in ("html", "doctest"):
        session.run(
            "sphinx-build", "-nW", "-b", builder, "docs", f"docs/_build/{builder}"
        )


@nox.session
def checks(session: nox.Session) -> None:
    """Lint, types, imports and docs in one environment, as .ci/run wants them."""
    session.install("-e", ".[postgres,test,docs,dev]")
    wanted = session.posargs or ["lint", "types", "imports", "docs"]
    commands = {
        "lint": lambda: run_lint(session),
        "types": lambda: session.run("mypy"),
        "imports": lambda: session.run("lint-imports"),
        "docs": lambda: run_docs(session),
    }
    for name in wanted:
        commands[name]()


@nox.session
def django(session: nox.Session) -> None:
    """Django's own tests, with the mixin (options: ``-- --help``)."""
    session.install("-e", ".[postgres]", "pip")
    session.run("python", "-m", "compatibility", *session.posargs)


@nox.session(python=newest_python())
def browser(session: nox.Session) -> None:
    """Look at timelines in Chromium: the system's, or else Playwright's own."""
    session.install("-e", ".[test]", "playwright>=1.49")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        session.run("playwright", "install", "chromium")
    session.run("python", "-m", "unittest", "tests.browser.check_timeline")


@nox.session
def explore(session: nox.Session) -> None:
    """Explorations beside the peer's, on psycopg 3 (options: ``-- --help``)."""
    session.install("-e", ".[benchmark]", *postgres(), *DRIVERS["psycopg3"])
    session.run("python", "benchmarks/explore.py", *session.posargs)


@nox.session
def reduction(session: nox.Session) -> None:
    """Compare the reduced search with the whole one on 500 programs, or ``-- 2000``."""
    session.install("-e", ".[postgres,test]")
    count, *options = session.posargs or ["500"]
    test = "tests.scheduler.test_reduction"
    session.run(
        "python", "runtests.py", test, *options, env={"TXTEST_REDUCTION": count}
    )


@nox.session
def package(session: nox.Session) -> None:
    """Build the package, check it, and use its wheel in a new project."""
    session.install("build", "twine", "check-wheel-contents")
    folder = Path(session.create_tmp()).resolve()
    dist, trial = folder / "dist", folder / "trial"
    for old in (dist, trial):
        shutil.rmtree(old, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), ".", silent=True)
    files = sorted(map(str, dist.iterdir()))
    wheel = next(name for name in files if name.endswith(".whl"))
    session.run("twine", "check", "--strict", *files)
    session.run("check-wheel-contents", wheel)
    environment = trial / "environment"
    session.run("python", "bootstrap.py", str(environment), f"{wheel}[postgres]")
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = environment / scripts / "python"
    script = ROOT / ".ci" / "trial.py"
    # Elsewhere, so that the checkout cannot be imported in the place of the wheel.
    with session.chdir(trial):
        session.run(str(python), str(script), external=True)

"""Sphinx configuration: the documentation, and its examples as doctests."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "example_project")]

project = "django-txtest"
author = "The django-txtest authors"
project_copyright = author
version = release = version_of("django-txtest")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "py:obj"

html_theme = "furo"
html_title = f"{project} {release}"
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Aliases keep their names in signatures.
autodoc_type_aliases = {
    name: name for name in ("AnyCall", "CallSpec", "Check", "Invariant", "Target")
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 68

# What cannot be resolved without the network, or has no page of its own.
nitpick_ignore_regex = [
    (r"py:.*", r"(concurrent|contextlib|collections\.abc|datetime)\..*"),
    (r"py:.*", r"(typing|django|unittest)\..*"),
    (r"py:(class|exc)", r"(BaseException|ValueError|TypeError|Exception)"),
    (r"py:class", r"(Any|AbstractContextManager|Callable|Iterable|NoReturn)"),
    (r"py:class", r"(bool|dict|float|int|list|str|tuple)"),
    (r"py:class", r"(AnyCall|CallSpec|Check|Invariant|Target)"),
]

doctest_global_setup = """
from examples import run_readme, run_tests
# Where functions and classes of the examples say that they come from.
__name__ = "docs"
"""


def setup(app: Sphinx) -> None:
    app.add_object_type("setting", "setting", objname="setting")
    app.add_object_type("check", "check", objname="system check")
    app.connect("builder-inited", prepare_examples)
    app.connect("autodoc-process-signature", show_aliases)
    app.connect("missing-reference", find_public_name)


def prepare_examples(app: Sphinx) -> None:
    if app.builder.name == "doctest":
        from examples import make_database

        make_database()


def show_aliases(*args: Any) -> tuple[str | None, str | None]:
    """Let aliases within other types keep their names, too."""
    pattern = r"TypeAliasForwardRef\('(\w+)'\)"
    *_, signature, returned = args
    return signature and re.sub(pattern, r"\1", signature), returned


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Resolve what docstrings and annotations call by another name than the docs.

    A name in single quotes that has no page of its own stays a literal.
    """
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    for module in ("django_txtest", "django_txtest.exceptions"):
        target, kind = f"{module}.{name}", node["reftype"]
        args: Any = (env, node["refdoc"], app.builder, kind, target, node, contnode)
        found = env.domains["py"].resolve_xref(*args)
        if found is not None:
            return found
    return contnode if node["reftype"] == "obj" else None

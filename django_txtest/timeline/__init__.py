"""Pictures of a history: SVG, a page of HTML, Mermaid, and a table for a terminal.

Pure: no Django is imported, and nothing is read or written.
"""

from __future__ import annotations

from django_txtest.timeline.mermaid import to_mermaid
from django_txtest.timeline.page import to_html
from django_txtest.timeline.svg import to_svg
from django_txtest.timeline.terminal import TerminalTimeline

__all__ = ["TerminalTimeline", "to_html", "to_mermaid", "to_svg"]

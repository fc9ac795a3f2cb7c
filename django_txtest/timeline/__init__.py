"""Pictures of a history: SVG, a page of HTML, and Mermaid.

Pure: no Django is imported, and nothing is read or written. That for a terminal is in
`terminal`, which is not imported here, as rich takes longer than a hundred executions.
"""

from __future__ import annotations

from django_txtest.timeline.mermaid import to_mermaid
from django_txtest.timeline.page import to_html
from django_txtest.timeline.svg import to_svg

__all__ = ["to_html", "to_mermaid", "to_svg"]

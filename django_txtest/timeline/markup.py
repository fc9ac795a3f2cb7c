"""Elements of XML and HTML, escaped by the standard library."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from django_txtest.timeline.text import clean


def add(
    parent: ET.Element,
    tag: str,
    attributes: dict[str, str] | None = None,
    text: str = "",
) -> ET.Element:
    """Add an element with a text, of which XML may hold each character."""
    element = ET.SubElement(parent, tag, attributes or {})
    if text:
        element.text = "\n".join(map(clean, text.split("\n")))
    return element

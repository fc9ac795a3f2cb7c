from __future__ import annotations

import io
import re
import unittest
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from hypothesis import given
from rich.console import Console

from django_txtest.history import Event, History, Kind
from django_txtest.timeline import to_html, to_mermaid, to_svg
from django_txtest.timeline.terminal import TerminalTimeline
from tests.timeline.histories import deadlock, examples, histories, lost_update
from tests.utils import GoldenMixin

SVG = "{http://www.w3.org/2000/svg}"
SVG_TAGS = {
    *("svg", "title", "style", "defs", "pattern", "marker"),
    *("g", "rect", "line", "path", "circle", "text", "a"),
}
HTML_TAGS = {
    *("html", "head", "meta", "body", "main", "h1", "h2", "p", "div", "pre", "code"),
    *("dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "span"),
}


class Page(HTMLParser):
    """What a browser would see: the elements, with their attributes, and the texts."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag, name=""):
        return [
            attributes
            for each, attributes in self.elements
            if each == tag and name in ("", *attributes.get("class", "").split())
        ]


class SvgTests(GoldenMixin, unittest.TestCase):
    def test_golden(self):
        self.assertGolden("lost_update.svg", to_svg(*lost_update()))

    @examples
    @given(histories())
    def test_it_is_well_formed(self, drawn):
        history, edges = drawn
        root = ET.fromstring(to_svg(history, edges).encode())
        groups = [each.get("class", "") for each in root.iter(f"{SVG}g")]
        boxes = [each for each in groups if each.startswith("box ")]
        lanes = [each for each in groups if each.startswith("lane ")]
        self.assertEqual(len(lanes), len(history.sessions))
        waiting = (Kind.WAITS, Kind.GOES_ON)
        self.assertEqual(
            len(boxes), sum(event.kind not in waiting for event in history)
        )
        self.assertEqual(groups.count("arrow"), len(edges))
        tags = {each.tag.removeprefix(SVG) for each in root.iter()}
        self.assertLessEqual(
            tags,
            SVG_TAGS,
        )

    def test_places_and_labels_on_hover(self):
        root = ET.fromstring(to_svg(*lost_update()))
        titles = [each.text for each in root.iter(f"{SVG}title")]
        self.assertTrue(
            any(
                each.startswith("2. alice: SELECT")
                and each.endswith("\nshop/services/racy.py:12 in redeem")
                for each in titles
            )
        )
        self.assertIn("(3) ww: bob wrote it before alice did", titles)
        self.assertIn("transaction of bob on default, ends with COMMIT", titles)
        self.assertIn("alice waits for bob, goes on", titles)

    def test_what_arrows_mean_is_below(self):
        texts = [each.text for each in ET.fromstring(to_svg(*lost_update())).iter()]
        self.assertIn("(3) ww: bob wrote it before alice did", texts)


class PageTests(unittest.TestCase):
    def test_elements(self):
        history, edges = deadlock()
        page = Page(to_html(history, edges, title="A test", facts={"Why": "So\nit is"}))
        self.assertEqual(len(page.of("g", "lane")), 3)
        self.assertEqual(len(page.of("g", "box")), 19)
        self.assertEqual(len(page.of("g", "arrow")), 5)
        self.assertEqual(len(page.of("tr")), len(history) + 1)
        for told in ("A test", "Why", "So\nit is", "backwards (from 12 to 7)"):
            self.assertIn(told, page.texts)
        self.assertIn("shop/services/racy.py:12", page.texts)

    def test_each_box_leads_to_its_line(self):
        page = Page(to_html(*deadlock()))
        links = [attributes["href"] for attributes in page.of("a")]
        ids = [f"#{attributes['id']}" for attributes in page.of("tr") if attributes]
        self.assertEqual(links, ids)
        self.assertEqual(len(links), 19)

    def test_parts_that_scroll_can_be_reached_with_the_keyboard(self):
        page = Page(to_html(*deadlock()))
        for name in ("picture", "scroll"):
            [region] = page.of("div", name)
            self.assertEqual((region["tabindex"], region["role"]), ("0", "region"))

    def test_text_stays_text(self):
        nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\x00'\""
        history = History(
            [
                Event(nasty, Kind.START, text=nasty),
                Event(nasty, Kind.STATEMENT, sql=nasty + " ... "),
            ]
        )
        text = to_html(history, title=nasty, facts={nasty: nasty})
        page = Page(text)
        tags = {tag for tag, _ in page.elements}
        self.assertLessEqual(
            tags,
            HTML_TAGS | SVG_TAGS,
        )
        self.assertIn("&amp;amp;", text)
        self.assertNotIn("\x00", text)

    @examples
    @given(histories())
    def test_nothing_comes_from_elsewhere(self, drawn):
        page = Page(to_html(*drawn))
        for _, attributes in page.elements:
            self.assertFalse(attributes.keys() & {"src", "srcset", "xlink:href"})
            self.assertTrue(attributes.get("href", "#").startswith("#"))
            self.assertFalse([name for name in attributes if name.startswith("on")])
        [policy] = [m for m in page.of("meta") if "http-equiv" in m]
        self.assertIn("default-src 'none'", policy["content"])

    def test_statements_in_full_where_they_were_shortened(self):
        texts = Page(to_html(*lost_update())).texts
        self.assertTrue(
            [
                text
                for text in texts
                if '"uses_left" FROM' in text and "with ('X',)" in text
            ]
        )

    def test_what_dependencies_mean(self):
        history, edges = lost_update()
        for wanted in (edges, ()):
            texts = " ".join(Page(to_html(history, wanted)).texts)
            for text in ("rw, it read what", "ww, it wrote", "wr, it wrote"):
                self.assertEqual(text in texts, bool(wanted))

    def test_an_empty_history(self):
        self.assertIn("In order", Page(to_html(History())).texts)
        ET.fromstring(to_svg(History()))


class MermaidTests(GoldenMixin, unittest.TestCase):
    def test_golden(self):
        self.assertGolden("deadlock.mmd", to_mermaid(*deadlock()))

    @examples
    @given(histories())
    def test_each_line_is_of_the_language(self, drawn):
        history, edges = drawn
        lines = to_mermaid(history, edges).splitlines()
        self.assertEqual(lines[0], "sequenceDiagram")
        text = r"([^;<>%]|#\d+;|#[lg]t;|<br/>)+"
        language = re.compile(
            rf"    (participant p\d as {text}|(de)?activate p\d"
            rf"|Note over p\d: {text}|p\d-->>p\d: {text})"
        )
        for line in lines[1:]:
            self.assertRegex(line, language)
            self.assertIsNotNone(language.fullmatch(line), line)
        notes = [line for line in lines if line.startswith("    Note")]
        self.assertEqual(len(notes), len(history))
        self.assertEqual(sum("-->>" in line for line in lines), len(edges))


class TerminalTests(GoldenMixin, unittest.TestCase):
    def render(self, history, width, **options):
        file = io.StringIO()
        Console(file=file, width=width).print(TerminalTimeline(history, **options))
        lines = [line.rstrip() for line in file.getvalue().splitlines()]
        return "\n".join(lines) + "\n"

    def test_golden(self):
        self.assertGolden("deadlock.terminal.txt", self.render(deadlock()[0], 110))
        text = self.render(lost_update()[0], 90)
        self.assertGolden("lost_update.terminal.txt", text)

    def test_without_places(self):
        history, _ = lost_update()
        self.assertIn("racy.py", self.render(history, 100))
        self.assertNotIn("racy.py", self.render(history, 100, places=False))

    @examples
    @given(histories())
    def test_it_fits(self, drawn):
        history, _ = drawn
        for line in self.render(history, 120).splitlines():
            self.assertLessEqual(len(line), 120)

"""Looks at the pages of timelines in Chromium; ``nox -s browser`` runs this.

No part of the suite, as it needs a browser: that of the system, or Playwright's.
"""

from __future__ import annotations

import itertools
import shutil
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from django_txtest.timeline import to_html, to_svg
from tests.timeline.histories import deadlock, lost_update

PAGES = {"deadlock": deadlock, "lost_update": lost_update}
FACTS = {
    "What was broken": "No serial order of the calls gives these results and rows.\n"
    "  shop_coupon id=1: uses_left is 0; there it is -1",
    "The schedule": "a2b2a3" * 20,
    "To see it again": f"replay('a2', {'partial(redeem, code), ' * 10})",
}
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
# Where things are on the screen, each with its text.
RECTS = """selector => [...document.querySelectorAll(selector)].map(element => {
  const {left, top, right, bottom} = element.getBoundingClientRect();
  return {left, top, right, bottom, text: element.textContent};
})"""
# The texts that are not inside the rectangle before them, in the same group.
OUTSIDE = """selector => [...document.querySelectorAll(selector)].flatMap(group => {
  const outer = group.querySelector('rect').getBoundingClientRect();
  return [...group.querySelectorAll('text')].filter(text => {
    const inner = text.getBoundingClientRect();
    return inner.left < outer.left - .5 || inner.right > outer.right + .5
      || inner.top < outer.top - .5 || inner.bottom > outer.bottom + .5;
  }).map(text => text.textContent);
})"""
# The colours of each text and of what is behind it, as [r, g, b].
COLOURS = """() => {
  const numbers = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
  const groups = [...document.querySelectorAll('.box, .badge')].map(group => [
    getComputedStyle(group.querySelector('text')).fill,
    getComputedStyle(group.querySelector('rect, circle')).fill]);
  const style = getComputedStyle(document.body);
  groups.push([style.color, style.backgroundColor]);
  return groups.map(pair => pair.map(numbers));
}"""


def overlap(one, other):
    return (
        one["left"] < other["right"]
        and other["left"] < one["right"]
        and one["top"] < other["bottom"]
        and other["top"] < one["bottom"]
    )


def luminance(colour):
    """Return how bright a colour is, as WCAG 2.2 defines it."""
    parts = [part / 255 for part in colour]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


class TimelineTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(TemporaryDirectory()))
        for name, make in PAGES.items():
            history, edges = make()
            page = to_html(history, edges, title="shop.Tests.test", facts=FACTS)
            (cls.folder / f"{name}.html").write_text(page, "utf-8")
            (cls.folder / f"{name}.svg").write_text(to_svg(history, edges), "utf-8")
        playwright = cls.enterClassContext(sync_playwright())
        program = shutil.which("chromium") or shutil.which("google-chrome")
        cls.browser = playwright.chromium.launch(executable_path=program)
        cls.addClassCleanup(cls.browser.close)
        cls.requests, cls.complaints = [], []
        cls.pages = {
            (name, width, scheme): cls.open(f"{name}.html", width, scheme)
            for name, width, scheme in itertools.product(PAGES, WIDTHS, SCHEMES)
        }

    @classmethod
    def open(cls, file, width, scheme):
        page = cls.browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        page.on("request", lambda request: cls.requests.append(request.url))
        page.on("console", lambda message: cls.complaints.append(message.text))
        page.goto((cls.folder / file).as_uri())
        return page

    def test_everything_is_there(self):
        for key, page in self.pages.items():
            with self.subTest(key):
                history, edges = PAGES[key[0]]()
                boxes = 19 if key[0] == "deadlock" else 13
                lanes = page.evaluate(RECTS, ".lane text")
                self.assertEqual([lane["text"] for lane in lanes], history.sessions)
                self.assertEqual(page.locator(".box").count(), boxes)
                self.assertEqual(page.locator(".arrow").count(), len(edges))
                for selector in (
                    ".lane rect",
                    ".box rect",
                    ".wait .hatched",
                    ".arrow .line",
                ):
                    for rect in page.evaluate(RECTS, selector):
                        self.assertGreater(rect["right"] - rect["left"], 5, selector)
                        self.assertGreater(rect["bottom"] - rect["top"], 5, selector)

    def test_nothing_overlaps(self):
        for key, page in self.pages.items():
            with self.subTest(key):
                for selector in (
                    ".box rect, .wait .hatched, .badge circle",
                    ".box text, .plate, .badge text, .number, .lane text",
                    ".lane > rect",
                    "h1, h2, dl, .picture, .legend, .scroll",
                ):
                    rects = page.evaluate(RECTS, selector)
                    for one, other in itertools.combinations(rects, 2):
                        self.assertFalse(overlap(one, other), (one, other))

    def test_texts_fit(self):
        for key, page in self.pages.items():
            with self.subTest(key):
                self.assertEqual(page.evaluate(OUTSIDE, ".box"), [])
                plates = page.evaluate(RECTS, ".plate")
                texts = page.evaluate(RECTS, ".plate + text")
                for plate, text in zip(plates, texts, strict=True):
                    self.assertLessEqual(plate["left"], text["left"])
                    self.assertLessEqual(text["right"], plate["right"])

    def test_only_the_picture_scrolls_sideways(self):
        for key, page in self.pages.items():
            with self.subTest(key):
                wide = page.evaluate(
                    "[document.documentElement.scrollWidth, document.documentElement"
                    ".clientWidth]"
                )
                self.assertLessEqual(*wide)
                inside, outside = page.evaluate(
                    "[...['scrollWidth', 'clientWidth'].map("
                    "name => document.querySelector('.picture')[name])]"
                )
                is_narrow = wide[1] == min(WIDTHS)
                self.assertEqual(inside > outside, is_narrow)

    def test_colours_can_be_told_apart(self):
        for key, page in self.pages.items():
            with self.subTest(key):
                for text, behind in page.evaluate(COLOURS):
                    self.assertGreaterEqual(contrast(text, behind), 4.5, (text, behind))

    def test_light_and_dark_differ(self):
        behind = [
            self.pages["deadlock", 400, scheme].evaluate(COLOURS)[-1][1]
            for scheme in SCHEMES
        ]
        self.assertGreater(luminance(behind[0]), 0.8)
        self.assertLess(luminance(behind[1]), 0.05)

    def test_on_paper_it_is_light_and_whole(self):
        page = self.open("deadlock.html", 700, "dark")
        page.emulate_media(media="print", color_scheme="dark")
        self.assertGreater(luminance(page.evaluate(COLOURS)[-1][1]), 0.8)
        [picture] = page.evaluate(RECTS, "svg.timeline")
        self.assertLessEqual(picture["right"], 700)

    def test_the_keyboard(self):
        page = self.open("deadlock.html", 400, "light")
        focused = "document.activeElement"
        page.keyboard.press("Tab")
        self.assertEqual(page.evaluate(f"{focused}.className"), "picture")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"{focused}.scrollLeft > 0")
        page.keyboard.press("Tab")
        self.assertEqual(page.evaluate(f"{focused}.getAttribute('href')"), "#event-1")
        page.keyboard.press("Enter")
        self.assertEqual(page.locator("tr:target").count(), 1)

    def test_nothing_comes_from_elsewhere_and_nothing_complains(self):
        for key, page in self.pages.items():
            with self.subTest(key):
                self.assertEqual(page.locator("script").count(), 0)
        self.assertGreaterEqual(len(self.requests), len(self.pages))
        for address in self.requests:
            self.assertTrue(address.startswith(self.folder.as_uri()), address)
        self.assertEqual(self.complaints, [])

    def test_the_svg_alone(self):
        for name, scheme in itertools.product(PAGES, SCHEMES):
            page = self.open(f"{name}.svg", 1280, scheme)
            rects = page.evaluate(RECTS, ".box rect, .caption, .badge circle")
            self.assertGreater(len(rects), 15)
            for one, other in itertools.combinations(rects, 2):
                self.assertFalse(overlap(one, other), (one, other))
            [picture] = page.evaluate(RECTS, "svg.timeline")
            for rect in rects:
                self.assertLessEqual(rect["bottom"], picture["bottom"])
                self.assertLessEqual(rect["right"], picture["right"])


if __name__ == "__main__":
    unittest.main()

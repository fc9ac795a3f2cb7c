from __future__ import annotations

import unittest

from hypothesis import given
from hypothesis import strategies as st

from django_txtest.timeline.text import MAX_LINES, cells, clean, shortened, wrap
from tests.timeline.histories import examples

texts = st.text(max_size=200) | st.text(st.sampled_from("ab 漢\u0301"), max_size=200)


class TextTests(unittest.TestCase):
    @examples
    @given(texts, st.integers(2, 40))
    def test_lines_fit(self, text, width):
        lines = wrap(text, width)
        self.assertTrue(1 <= len(lines) <= MAX_LINES)
        for line in lines:
            self.assertLessEqual(cells(line), width)
        kept = "".join(lines).replace(" ", "")
        if not kept.endswith("…"):
            self.assertEqual(kept, clean("".join(text.split())))

    @examples
    @given(texts, st.integers(2, 40))
    def test_one_line_fits(self, text, width):
        line = shortened(text, width)
        self.assertLessEqual(cells(line), width)
        if cells(clean(" ".join(text.split()))) > width:
            self.assertTrue(line.endswith("…"))

    def test_words_stay_together(self):
        self.assertEqual(wrap("SELECT a FROM b", 10), ("SELECT a", "FROM b"))
        self.assertEqual(wrap("abcdefgh ij", 4), ("abcd", "efgh", "ij"))
        self.assertEqual(wrap("", 4), ("",))

    def test_what_is_too_long(self):
        lines = wrap("word " * 1000, 8)
        self.assertEqual(len(lines), MAX_LINES)
        self.assertEqual(lines[-1], "word ..…")

    def test_characters_that_cannot_be_shown(self):
        # NUL, escape, a surrogate, and one that turns the direction of the text.
        self.assertEqual(clean("a\x00\x1b\ud800\u202eb"), "a����b")
        self.assertEqual(clean("é漢 "), "é漢 ")

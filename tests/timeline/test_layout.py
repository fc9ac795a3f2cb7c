from __future__ import annotations

import itertools
import unittest

from hypothesis import given

from django_txtest.history import Edge, Event, History, Kind
from django_txtest.timeline.layout import CHARACTER, PADDING, Rect, lay_out
from django_txtest.timeline.text import cells
from tests.timeline.histories import deadlock, examples, histories, lost_update

NO_BOX = (Kind.WAITS, Kind.GOES_ON)


def overlap(one, other):
    return (
        one.x < other.right
        and other.x < one.right
        and one.y < other.bottom
        and other.y < one.bottom
    )


def segments(arrow):
    """Return the parts of an arrow as rectangles, which have no area."""
    for (x1, y1), (x2, y2) in itertools.pairwise(arrow.points):
        left, top = min(x1, x2), min(y1, y2)
        yield Rect(left, top, abs(x1 - x2), abs(y1 - y2))


class LayoutTests(unittest.TestCase):
    def assertApart(self, rects):
        for one, other in itertools.combinations(rects, 2):
            self.assertFalse(overlap(one, other), (one, other))

    @examples
    @given(histories())
    def test_nothing_overlaps(self, drawn):
        layout = lay_out(*drawn)
        boxes = [box.rect for box in layout.boxes]
        waits = [stretch.rect for stretch in layout.stretches]
        badges = [arrow.badge for arrow in layout.arrows]
        self.assertApart([*boxes, *waits, *badges])
        for stretch in layout.stretches:
            self.assertApart([rect for rect, _ in stretch.labels])
        self.assertApart([lane.rect for lane in layout.lanes])

    @examples
    @given(histories())
    def test_each_event_is_there_in_order(self, drawn):
        history, edges = drawn
        layout = lay_out(history, edges)
        wanted = [n for n, event in enumerate(history) if event.kind not in NO_BOX]
        self.assertEqual([box.index for box in layout.boxes], wanted)
        for one, other in itertools.pairwise(layout.boxes):
            self.assertLess(one.rect.bottom, other.rect.y)
        told = sum(len(stretch.labels) for stretch in layout.stretches)
        self.assertEqual(told, len(history) - len(wanted))

    @examples
    @given(histories())
    def test_lanes_hold_what_is_theirs(self, drawn):
        history, edges = drawn
        layout = lay_out(history, edges)
        self.assertEqual([lane.session for lane in layout.lanes], history.sessions)
        rects = []
        for box in layout.boxes:
            self.assertEqual(history.sessions[box.lane], box.event.session)
            rects.append((box.lane, box.rect))
            for line in box.lines:
                width = cells(line) * CHARACTER
                self.assertLessEqual(width, box.rect.width - 2 * PADDING)
        for stretch in layout.stretches:
            rects.append((stretch.lane, stretch.rect))
            rects += [(stretch.lane, rect) for rect, _ in stretch.labels]
            for rect, _ in stretch.labels:
                self.assertLessEqual(stretch.rect.y, rect.y)
                self.assertLessEqual(rect.bottom, stretch.rect.bottom)
        for bracket in layout.brackets:
            height = bracket.bottom - bracket.top
            rects.append((bracket.lane, Rect(bracket.x, bracket.top, 0, height)))
        for number, rect in rects:
            lane = layout.lanes[number].rect
            self.assertLessEqual(lane.x, rect.x)
            self.assertLessEqual(rect.right, lane.right)
            self.assertLessEqual(lane.y, rect.y)
            self.assertLessEqual(rect.bottom, lane.bottom)
        for lane in layout.lanes:
            self.assertLess(lane.rect.right, layout.width)
            self.assertLess(lane.rect.bottom, layout.height)

    @examples
    @given(histories())
    def test_brackets_hold_their_boxes(self, drawn):
        layout = lay_out(*drawn)
        box_of = {box.index: box for box in layout.boxes}
        for bracket in layout.brackets:
            first = box_of[bracket.transaction.first]
            last = box_of[bracket.transaction.last]
            self.assertEqual(bracket.top, first.rect.y)
            self.assertEqual(bracket.bottom, last.rect.bottom)
            self.assertLess(bracket.x, first.rect.x)
        for one, other in itertools.combinations(layout.brackets, 2):
            if one.lane == other.lane and one.x == other.x:
                self.assertLess(one.bottom, other.top)

    @examples
    @given(histories())
    def test_arrows_lead_from_box_to_box(self, drawn):
        history, edges = drawn
        layout = lay_out(history, edges)
        self.assertEqual([arrow.edge for arrow in layout.arrows], edges)
        boxes = {box.index: box.rect for box in layout.boxes}
        for arrow in layout.arrows:
            for end, point in (
                (arrow.edge.source, arrow.points[0]),
                (arrow.edge.target, arrow.points[-1]),
            ):
                while history[end].kind in NO_BOX:
                    session = history[end].session
                    end = max(n for n in range(end) if history[n].session == session)
                box = boxes[end]
                self.assertIn(point[0], (box.x, box.right))
                self.assertLess(box.y, point[1])
                self.assertLess(point[1], box.bottom)
            for segment in segments(arrow):
                for box in boxes.values():
                    self.assertFalse(overlap(segment, box), (segment, box))
        ports = [
            (point[1], point[0])
            for arrow in layout.arrows
            for point in (arrow.points[0], arrow.points[-1])
        ]
        self.assertEqual(len(ports), len(set(ports)))

    def test_edges_between_events_that_are_not_there(self):
        history, _ = lost_update()
        for index in (-1, len(history)):
            with self.assertRaisesRegex(IndexError, f"no event {index} in a history"):
                lay_out(history, [Edge(0, index)])
        waits = History([Event("s1", Kind.WAITS)])
        with self.assertRaisesRegex(IndexError, "has done nothing before"):
            lay_out(waits, [Edge(0, 0)])

    def test_an_empty_history(self):
        layout = lay_out(History())
        self.assertEqual((layout.boxes, layout.lanes), ((), ()))

    def test_a_wait_that_does_not_end(self):
        history, _ = deadlock()
        cut = History(history[:13])
        layout = lay_out(cut)
        self.assertEqual([each.wait.session for each in layout.stretches], ["s1", "s2"])
        for stretch in layout.stretches:
            self.assertGreater(stretch.rect.bottom, layout.boxes[-1].rect.bottom - 1)

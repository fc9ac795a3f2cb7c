from __future__ import annotations

import pickle
import unittest

from hypothesis import given
from hypothesis import strategies as st

from django_txtest import CallError, CallTimeout, ChildCrashed, Outcome, Results
from tests.properties import at_any_speed

errors = st.sampled_from(
    [
        CallError("call 1 (m:f)", ValueError("wrong")),
        ChildCrashed("call 2 (m:g)", -11, "last words"),
        CallTimeout("call 3 (m:h)", 1.5, "File m.py, line 1"),
    ]
)
started = st.none() | st.floats(0, 1e6)
outcomes = st.lists(
    st.builds(Outcome, value=st.integers(), started=started)
    | st.builds(Outcome, error=errors, started=started),
    max_size=6,
)


class ResultsTests(unittest.TestCase):
    @at_any_speed
    @given(outcomes)
    def test_each_outcome_is_a_value_or_an_error(self, outcomes):
        results = Results(outcomes)
        self.assertEqual(len(results), len(outcomes))
        self.assertEqual(len(results.values) + len(results.errors), len(results))
        for outcome, result in zip(outcomes, results, strict=True):
            expected = outcome.value if outcome.error is None else outcome.error
            self.assertIs(result, expected)

    @at_any_speed
    @given(outcomes)
    def test_skew(self, outcomes):
        starts = [o.started for o in outcomes if o.started is not None]
        skew = Results(outcomes).skew
        self.assertEqual(skew, max(starts) - min(starts) if starts else 0)

    @at_any_speed
    @given(outcomes)
    def test_pickling(self, outcomes):
        results = pickle.loads(pickle.dumps(Results(outcomes)))
        self.assertEqual(list(map(repr, results)), list(map(repr, Results(outcomes))))

    def test_raise_errors(self):
        Results([Outcome(value=1)]).raise_errors()
        crash = ChildCrashed("call 2 (m:g)", 1)
        error = CallError("call 1 (m:f)", ValueError("wrong"))
        with self.assertRaises(CallError) as caught:
            Results([Outcome(error=error), Outcome(error=crash)]).raise_errors()
        self.assertIs(caught.exception, error)
        self.assertIs(caught.exception.__cause__, error.original)
        self.assertIn("also: call 2 (m:g) died", str(caught.exception))
        with self.assertRaises(ChildCrashed) as caught:
            Results([Outcome(error=crash)]).raise_errors()
        self.assertIsNone(caught.exception.__cause__)

    def test_raising_twice_says_the_same(self):
        results = Results(
            Outcome(error=CallError(f"call {i}", ValueError())) for i in range(2)
        )
        messages = set()
        for _ in range(2):
            with self.assertRaises(CallError) as caught:
                results.raise_errors()
            messages.add(str(caught.exception))
        self.assertEqual(len(messages), 1)

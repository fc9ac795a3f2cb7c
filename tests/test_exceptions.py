from __future__ import annotations

import pickle
import unittest

from django_txtest import CallError, CallTimeout, ChildCrashed
from django_txtest.exceptions import AtomicBlockError, TxTestError


class MessageTests(unittest.TestCase):
    def test_the_docstring_is_the_default_message(self):
        self.assertIn("NoAtomicMixin", str(AtomicBlockError()))
        self.assertEqual(str(TxTestError("something")), "something")

    def test_call_error(self):
        error = CallError("call 1 (m:f)", KeyError("x"))
        self.assertEqual(str(error), "call 1 (m:f) raised KeyError: 'x'")

    def test_exit_reasons(self):
        for exitcode, reason in {
            0: "exited with status 0 and without a result",
            3: "exited with status 3",
            -9: "killed by SIGKILL",
            -200: "killed by signal 200",
            None: "without a result",
        }.items():
            with self.subTest(exitcode=exitcode):
                self.assertIn(reason, str(ChildCrashed("call 1", exitcode)))

    def test_the_tail_of_long_output(self):
        text = "\n".join(f"line {i}" for i in range(100))
        for error in (ChildCrashed("c", 1, text), CallTimeout("c", 2, text)):
            self.assertIn("line 99", str(error))
            self.assertNotIn("line 1\n", str(error))

    def test_timeout(self):
        error = CallTimeout("call 1", 0.5)
        self.assertIn("timeout of 0.5 s", str(error))
        with self.assertRaises(CallTimeout):
            error.reraise()

    def test_pickling(self):
        for error in (
            CallError("c", ValueError(1)),
            ChildCrashed("c", -9, "text"),
            CallTimeout("c", 2.0, "stack"),
        ):
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual(str(again), str(error))
            self.assertEqual(vars(again).keys(), vars(error).keys())

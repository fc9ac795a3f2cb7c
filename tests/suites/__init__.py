"""A suite of its own, which tests/testcases/test_suites.py runs in many ways.

The names of its modules keep it out of the discovery of the tests proper.
"""

"""The shop's tests, one file for each race and then some.

Each race is shown in the racy service and shown to be gone from the fixed one. Once is
enough: before each of their writes the calls wait for one another, so all have read
before the first one writes.
"""

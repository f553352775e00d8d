"""Input that nobody thought of: hypothesis writes files, and the loaders read them twice.

A short run, always the same, is part of all tests. `TALLY_TEST_FUZZ=40` makes it forty times as
long and different each time; what that finds is kept as an `@example`.
"""

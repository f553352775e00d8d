"""The claims of the benchmark table, each measured by one command: `python -m benchmarks`.

One module per claim, named by what it measures; `server`, `library` and `forum` make what they
measure on, `timing` how often and in which order, `report` what becomes of it. Nothing here is
needed to run Tallykeeper, and nothing asserts: a test that looks at a clock fails on busy machines.
"""

"""SELECTs at random, kept as tallies under random transactions, and compared with PostgreSQL.

`python -m tests.select_fuzz` runs it; `schemas`, `queries` and `writes` make a case of a seed,
`harness` runs it, `minimize` makes a failing one small, `faults` breaks the compiler on purpose.
"""

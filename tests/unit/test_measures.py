"""What measures the code counts what it says, on a module written for that."""

from __future__ import annotations

import ast

from tests import measures

MODULE = '''
"""SELECT is only a word here."""
from dagster._core.storage.sql import X
from dagster import Y

def f(tally, table):
    a = "SELECT 1 FROM t" " WHERE true"
    b = f"CREATE TABLE {table} (x int)"
    c = "Update your password"
    if isinstance(tally, (AdditiveTally, int)) or isinstance(tally, str):
        return a + b + c
'''


def test_each_kind_of_thing_is_counted_once() -> None:
    tree = ast.parse(MODULE)
    assert measures.sql_strings(tree) == 2 + 1, "and a docstring that begins like one"
    assert measures.branches_by_kind(tree) == 1
    assert measures.private_imports(tree) == 1
    assert list(measures.functions(tree)) == [6]

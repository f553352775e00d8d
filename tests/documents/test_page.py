"""The page that lists the documents' points is that of the tests; no point is missing."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from tests.documents.__main__ import PAGE, audited, page
from tests.documents.audit import Row, differently, rows_of


def test_the_documentation_lists_every_row() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.documents`, and commit the page"


def test_no_point_is_missing_and_hardly_one_is_there_differently() -> None:
    rows = [row for found in audited().values() for row in found]
    assert [row.point for row in rows if row.answer == "no"] == []
    others = [row.point for row in rows if row.answer == "differently"]
    assert len(others) <= 0.05 * len(rows), others


def test_every_point_is_made_once_and_says_why_it_is_not_plainly_there() -> None:
    for module, rows in audited().items():
        points = [row.point for row in rows]
        assert len(set(points)) == len(points), module
        assert all(bool(row.why) == (row.answer != "yes") for row in rows), module


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (lambda test: test, Row("it is there", "yes")),
        (differently("another way"), Row("it is there", "differently", "another way")),
        (pytest.mark.xfail(reason="not yet"), Row("it is there", "no", "not yet")),
    ],
)
def test_a_row_is_what_its_test_is_marked_as(
    mark: Callable[[Callable[[], None]], Callable[[], None]], expected: Row
) -> None:
    def test_it_is_there() -> None: ...

    module = ModuleType(f"rows of {expected.answer}")
    test_it_is_there.__module__ = module.__name__
    vars(module).update(test_it_is_there=mark(test_it_is_there), LEFT_OUT={"a point": "why"})
    assert rows_of(module) == [expected, Row("a point", "no", "why")]

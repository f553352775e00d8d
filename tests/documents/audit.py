"""What each document asks for, row by row, and how far it is there.

A row is a test whose name says the point: there as the document means it. With `differently`, the
purpose is met in another way, which the reason says. What cannot be tested is in a module's
`LEFT_OUT`: point and why. A test that is marked to fail is not there yet. The page of the
documentation is made from this alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar

Answer = Literal["yes", "differently", "no"]
Test = TypeVar("Test", bound=Callable[..., None])

_WRITTEN = {
    **{name: name.upper() for name in ("html", "http", "json", "sql", "utc")},
    "dagster": "Dagster",
    "postgresql": "PostgreSQL",
    "python": "Python",
}
_reasons: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class Row:
    """A point that a document makes; `why` says what differs, or why it is not there."""

    point: str
    answer: Answer
    why: str = ""


def differently(why: str) -> Callable[[Test], Test]:
    """Mark a row whose purpose is met in another way than the document's."""

    def mark(test: Test) -> Test:
        _reasons[test.__module__, test.__name__] = why
        return test

    return mark


def rows_of(module: ModuleType) -> list[Row]:
    """The module's rows, in their order; what is left out comes last."""
    left_out: dict[str, str] = getattr(module, "LEFT_OUT", {})
    return [*_tested(module), *(Row(point, "no", why) for point, why in left_out.items())]


def _tested(module: ModuleType) -> Iterator[Row]:
    for name, test in vars(module).items():
        if not name.startswith("test_") or test.__module__ != module.__name__:
            continue
        point = _sentence(name.removeprefix("test_"))
        expected_to_fail = _expected_to_fail(test)
        if expected_to_fail is not None:
            yield Row(point, "no", expected_to_fail)
        elif reason := _reasons.get((test.__module__, name)):
            yield Row(point, "differently", reason)
        else:
            yield Row(point, "yes")


def _sentence(name: str) -> str:
    return " ".join(_WRITTEN.get(word, word) for word in name.split("_"))


def _expected_to_fail(test: Any) -> str | None:
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "xfail":
            return str(mark.kwargs["reason"])
    return None

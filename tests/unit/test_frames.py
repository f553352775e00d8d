"""Answers of reads as DataFrames: columns and types, whatever the rows are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, TypedDict, get_type_hints
from uuid import UUID

import pandas as pd
import pytest

from assets.classroom import reads as classroom
from assets.fediverse import reads as fediverse
from assets.gallery import reads as gallery
from assets.gallery.questions import pages
from assets.media import reads as media
from tallykeeper.reads.frames import MOMENT, as_frame

MOMENTS = datetime(2025, 11, 20, 14, tzinfo=UTC)


class Counts(TypedDict):
    number: int
    rate: float
    at: datetime | None
    share: Decimal | None
    user: UUID
    day: date
    good: bool | None
    tags: list[str]


@dataclass(frozen=True)
class Row:
    name: str
    number: int | None


@dataclass(frozen=True)
class Series:
    post: str
    until: datetime | None
    rows: tuple[Row, ...]


TYPES = {
    "number": "Int64",
    "rate": "float64",
    "at": MOMENT,
    "share": "float64",
    "user": "str",
    "day": "datetime64[s]",
    "good": "boolean",
    "tags": "object",
}
COUNTS: Counts = {
    "number": 2**53 + 1,
    "rate": 1.5,
    "at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "share": Decimal("1.25"),
    "user": UUID(int=1),
    "day": date(1, 1, 1),
    "good": True,
    "tags": ["a"],
}
NOTHING: Counts = {**COUNTS, "at": None, "share": None, "good": None, "tags": []}


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(type_) for name, type_ in frame.dtypes.items()}


def one() -> Counts:
    return COUNTS


def some() -> list[Counts]:
    return [COUNTS, NOTHING]


def none_of_them() -> list[Counts]:
    return []


def nothing_at_all() -> list[Counts]:
    return [NOTHING]


def test_columns_and_types_are_those_that_the_read_declares() -> None:
    for read in (one, some, none_of_them, nothing_at_all):
        assert types(as_frame(read)) == TYPES
    frame = as_frame(some)
    assert frame["number"].tolist() == [2**53 + 1] * 2
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert frame["at"].tolist() == [pd.Timestamp(last), pd.NaT]
    assert frame["user"].tolist() == [str(UUID(int=1))] * 2
    assert frame["good"].isna().tolist() == [False, True]
    assert len(as_frame(none_of_them)) == 0


def by_id(ids: int | list[int]) -> Counts | dict[int, Counts]:
    return COUNTS if isinstance(ids, int) else dict.fromkeys(ids, NOTHING)


def test_an_answer_by_ids_has_them_in_its_first_column() -> None:
    assert types(as_frame(by_id, 7)) == TYPES
    for ids in ([7, 3], []):
        frame = as_frame(by_id, ids)
        assert types(frame) == {"id": "Int64", **TYPES}
        assert frame["id"].tolist() == ids


def series(there: bool) -> Series | None:
    return Series("5", None, (Row("a", None), Row("b", 2))) if there else None


def test_what_is_no_row_is_an_attribute_of_the_frame() -> None:
    frame = as_frame(series, True)
    assert types(frame) == types(as_frame(series, False)) == {"name": "str", "number": "Int64"}
    assert frame["number"].tolist() == [pd.NA, 2]
    assert frame.attrs == {"post": "5"}
    assert as_frame(series, False).attrs == {}


def days(*written: str) -> media.DailyCounts:
    return {"daily_counts": dict.fromkeys(written, 5), "total_files": 5, "total_days": 1}


def hours(*written: str) -> media.HourlyCounts:
    return {"hourly_counts": dict.fromkeys(written, 5), "total_files": 5, "total_hours": 1}


def test_days_and_hours_are_moments_in_utc() -> None:
    for read, name in ((days, "date"), (hours, "hour")):
        assert types(as_frame(read)) == {name: MOMENT, "count": "Int64"}
    frame = as_frame(days, "2025-11-20", "0001-01-01")
    assert frame["date"].tolist() == [
        pd.Timestamp("2025-11-20", tz="UTC"),
        pd.Timestamp(datetime(1, 1, 1, tzinfo=UTC)),
    ]
    assert frame.attrs == {"total_files": 5, "total_days": 1}
    assert as_frame(hours, "2025-11-20T14:00:00Z")["hour"].tolist() == [pd.Timestamp(MOMENTS)]


@pytest.mark.parametrize("odd", ["infinity", "0044-03-15 BC", "10000-01-01"])
def test_where_a_day_is_none_that_python_knows_all_stay_texts(odd: str) -> None:
    frame = as_frame(days, "2025-11-20", odd)
    assert types(frame) == {"date": "str", "count": "Int64"}
    assert frame["date"].tolist() == ["2025-11-20", odd]


def zoned() -> list[Counts]:
    return [{**COUNTS, "at": MOMENTS.astimezone(timezone(timedelta(hours=5)))}]


def test_moments_of_any_zone_are_utc() -> None:
    assert as_frame(zoned)["at"].tolist() == [pd.Timestamp(MOMENTS)]


READS = [
    *(getattr(classroom, f"{name}_counts") for name in ("submission", "course", "user")),
    *(getattr(fediverse, name) for name in fediverse.__all__ if name[0].islower()),
    *(gallery.tag_counts, gallery.unified_content_stats, pages.content_page),
    *(media.daily_counts, media.hourly_counts, media.period_counts),
    *(classroom.activity, classroom.reports),
]


@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
def test_every_read_has_a_frame_without_any_row(read: Any) -> None:
    """Of most columns the type is known; of what holds several values it is `object`."""
    hint = get_type_hints(read)["return"]
    if hint is type(None):
        pytest.skip("it writes")

    def nothing() -> Any:
        if read is pages.content_page:
            return {"items": [], "next_cursor": None, "prev_cursor": None}
        if hint in (media.DailyCounts, media.HourlyCounts, media.PeriodCounts):
            counts: dict[str, Any] = {"daily_counts": {}, "hourly_counts": {}, "period_counts": {}}
            return {**counts, "total_files": 0}
        return {} if "dict[" in str(hint) else None if "None" in str(hint) else []

    nothing.__annotations__["return"] = hint
    if read is gallery.unified_content_stats:
        pytest.skip("it always has its one row")
    frame = as_frame(nothing)
    assert len(frame) == 0
    assert len(frame.columns) > 1
    assert set(types(frame).values()) - {"object"}

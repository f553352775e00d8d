"""Media contributions over HTTP: files per day, files per hour of a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import ColumnElement, DateTime, literal
from starlette.requests import Request
from starlette.responses import Response

from assets.media import reads
from assets.media.tallies import daily_contributions, hourly_contributions
from tallykeeper.http.answers import Answer
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.parameters import Day, Period
from tallykeeper.http.problems import Route
from tallykeeper.http.routing import PROBLEMS
from tallykeeper.maintain.fingerprint import Condition, Part


class DailyCounts(Answer):
    """Files per UTC day, newest day first; days without files are left out."""

    daily_counts: dict[str, int]
    total_files: int
    total_days: int


class PeriodCounts(Answer):
    """Files per week, month or year, the newest first, by its first day."""

    period_counts: dict[str, int]
    total_files: int


class HourlyCounts(Answer):
    """Files per UTC hour, newest hour first; hours without files are left out."""

    hourly_counts: dict[str, int]
    total_files: int
    total_hours: int


def router(provider: Provider) -> APIRouter:
    """The media system's questions, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["media"], route_class=Route, responses=PROBLEMS)

    @routes.get("/api/media/daily-counts", response_model=DailyCounts)
    def daily_counts(
        request: Request,
        start: Annotated[Day | None, Query(description="First day, UTC.")] = None,
        end: Annotated[Day | None, Query(description="Last day, UTC, included.")] = None,
    ) -> Response:
        """Files per day, from `start` to `end`, both included; without them all there are."""
        part = Part(daily_contributions, _between("date", start, end))
        return ask.answer(request, lambda c: {**reads.daily_counts(c, start, end)}, part)

    @routes.get("/api/media/period-counts", response_model=PeriodCounts)
    def period_counts(
        request: Request,
        unit: Annotated[Period, Query(description="What is put together.")],
        start: Annotated[Day | None, Query(description="First day, UTC.")] = None,
        end: Annotated[Day | None, Query(description="Last day, UTC, included.")] = None,
    ) -> Response:
        """Files per week, month or year, by its first day, of the days from `start` to `end`."""
        part = Part(daily_contributions, _between("date", start, end))
        return ask.answer(request, lambda c: {**reads.period_counts(c, unit, start, end)}, part)

    @routes.get("/api/media/hourly-counts", response_model=HourlyCounts)
    def hourly_counts(
        request: Request, day: Annotated[Day, Query(description="The day, UTC.")]
    ) -> Response:
        """Files per hour of one day."""
        part = Part(hourly_contributions, _between("hour", day, day))
        return ask.answer(request, lambda c: {**reads.hourly_counts(c, day)}, part)

    return routes


def _between(column: str, first: date | None, last: date | None) -> Condition:
    """The keys from the beginning of the one day to the end of the other."""

    def conditions(row: Any) -> Sequence[ColumnElement[bool]]:
        zoned = DateTime(timezone=True)
        found = []
        if first is not None:
            midnight = datetime.combine(first, time.min, UTC)
            found.append(row[column] >= literal(midnight, zoned))
        if last is not None:
            end = datetime.combine(last, time.max, UTC)
            found.append(row[column] <= literal(end, zoned))
        return found

    return conditions

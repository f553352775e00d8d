"""Parameters that several questions have: days and moments as ISO 8601 writes them.

What is not written so is refused, and never guessed at: pydantic alone would take 20251120 for a
number of seconds.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic.json_schema import WithJsonSchema

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


def _day(value: Any) -> Any:
    if isinstance(value, str):
        if not _DAY.fullmatch(value):
            raise ValueError("expected a date like 2025-11-20")
        return date.fromisoformat(value)
    return value


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        if _DAY.fullmatch(value):
            value = f"{value}T00:00Z"
        # A plus in an address is a blank; nothing else is where an offset's sign is.
        value = re.sub(r" (\d\d:\d\d)$", r"+\1", value) if value.count(":") > 1 else value
        if not _MOMENT.fullmatch(value):
            raise ValueError("expected a moment like 2025-11-20T14:00:00Z")
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value


Period = Literal["week", "month", "year"]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]

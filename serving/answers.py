"""Answers as JSON: times in UTC, exact numbers, and nothing that JSON does not have."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


class Answer(BaseModel):
    """What every answer has."""

    model_config = ConfigDict(extra="forbid")

    as_of: AwareDatetime = Field(
        description="The moment of the snapshot that the answer was read in: it is exact as of all"
        " that was committed by then."
    )


def json_response(
    answer: Mapping[str, Any], headers: dict[str, str], status: int = 200
) -> Response:
    """The answer as a response of JSON."""
    body = orjson.dumps(answer, default=_plain, option=_OPTIONS)
    return Response(body, status, headers, "application/json")


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        # As it stands: a double would not hold all of its digits.
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} has no form in JSON")

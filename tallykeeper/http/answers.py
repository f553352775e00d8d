"""Answers as JSON: times in UTC, exact numbers, and nothing that JSON does not have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, get_type_hints

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, create_model
from starlette.responses import Response

JSON = "application/json"
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


class Answer(BaseModel):
    """What every answer has."""

    model_config = ConfigDict(extra="forbid")

    as_of: AwareDatetime = Field(
        description="The moment of the snapshot that the answer was read in: it is exact as of all"
        " that was committed by then."
    )


def shape_of(found: type) -> type[BaseModel]:
    """The shape of what a read returns, which is a TypedDict, in answers: the same fields, no more.

    Times have their offset.
    """
    aware = {datetime: AwareDatetime, datetime | None: AwareDatetime | None}
    fields: dict[str, Any] = {
        name: (aware.get(hint, hint), ...) for name, hint in get_type_hints(found).items()
    }
    config = ConfigDict(extra="forbid")
    return create_model(found.__name__, __config__=config, __doc__=found.__doc__, **fields)


def written(answer: Mapping[str, Any]) -> bytes:
    """The answer as JSON, of UTF-8."""
    return orjson.dumps(answer, default=_plain, option=_OPTIONS)


def with_moment(body: bytes, as_of: datetime) -> bytes:
    """A JSON object, which is not empty, with `as_of` at its end."""
    return body[:-1] + b',"as_of":' + written({"": as_of})[4:]


def json_response(
    answer: Mapping[str, Any], headers: dict[str, str], status: int = 200
) -> Response:
    """The answer as a response of JSON."""
    return Response(written(answer), status, headers, JSON)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        # As it stands: a double would not hold all of its digits.
        return orjson.Fragment(format(value, "f")) if value.is_finite() else None
    raise TypeError(f"{type(value).__name__} has no form in JSON")

"""What every address says of itself in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from tallykeeper.http.problems import MEDIA_TYPE, ProblemAnswer


def problem(description: str) -> dict[str, Any]:
    """The documentation of a status that is answered with a problem."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    304: {"description": "The answer is still the one whose tag If-None-Match names."},
    422: problem("The parameters are not valid: one is wrong, unknown or missing."),
    503: problem("There is no answer now: no database, no such tables in it, or too slow."),
}

_PROBLEM = ProblemAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
SCHEMAS: dict[str, Any] = {**_PROBLEM.pop("$defs"), "Problem": _PROBLEM}

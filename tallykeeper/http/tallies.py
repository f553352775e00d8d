"""Any tally over HTTP, whatever its system brings: which there are, their rows, and groups of them.

No SQL over tallies here: rows and groups are the library's reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper import NotInstalled, System, Tally
from tallykeeper.catalog import privileges
from tallykeeper.dagster_names import asset_address
from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest
from tallykeeper.declarations.windows import Unit
from tallykeeper.http.answers import Answer
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.parameters import Day, Moment
from tallykeeper.http.problems import Problem, Route, TakesAny, unaskable
from tallykeeper.http.routing import PROBLEMS, problem
from tallykeeper.maintain.fingerprint import Part
from tallykeeper.reads.conditions import filterable
from tallykeeper.reads.grouping import grouped
from tallykeeper.reads.rows import readable, tally_rows
from tallykeeper.settings import shown_ui_url

MOST_GROUPS = MOST_ROWS = 10_000
_RESPONSES = {404: problem("There is no such tally."), **PROBLEMS}
_OWN_PARAMETERS = ("where", "null", "start", "end", "order", "columns", "limit", "cursor")

Names = Annotated[
    list[Annotated[str, Query(max_length=1_000)]] | None,
    Query(max_length=50, description="With commas between them, or given once for each."),
]
Where = Annotated[
    list[str] | None,
    Query(max_length=20, description="Rows with this value: `course_id:7`, once for each."),
]
# Parameters that have the names of columns, as OpenAPI writes it.
_KEYS = {
    "name": "keys",
    "in": "query",
    "required": False,
    "description": "Rows with this value in a column of the key, or in an attribute: `course_id=7`."
    " Given several times: with one of the values.",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}


class KeyColumn(BaseModel):
    """A column of a tally, with its type as SQL has it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    type: str
    nullable: bool


class TimeColumn(BaseModel):
    """The column of the key that `start` and `end` are about, and what its values begin.

    Days are those of the time zone `zone`. A rebuild computes whole windows.
    """

    model_config = ConfigDict(extra="forbid")

    column: str
    unit: Unit
    zone: str
    windows: Unit


class Described(BaseModel):
    """A tally as far as a question about it has to know."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str
    key: list[KeyColumn]
    measures: list[KeyColumn]
    time_key: TimeColumn | None
    address: str
    ui_url: str | None


class Tallies(Answer):
    """The tallies whose rows this service may read, in the order of their systems.

    `ui_url` is Dagster's UI, and of a tally the page of its asset; null where no setting names it.
    """

    tallies: list[Described]
    ui_url: str | None


class Rows(Answer):
    """Rows in the order named, and the cursor for those that follow; null where none do."""

    rows: list[dict[str, Any]]
    order: list[str]
    next_cursor: str | None


class Grouped(Answer):
    """Groups in the order of their columns, and why measures that are missing have no value."""

    groups: list[dict[str, Any]]
    more: bool
    left_out: dict[str, str]


class _TallyName(Convertor[str]):
    """A tally's whole name, which has a dot, unlike a system's."""

    regex = r"[^/]*\.[^/]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("tally", _TallyName())


def router(provider: Provider, systems: Sequence[System]) -> APIRouter:
    """Questions about the systems' tallies, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["tallies"], route_class=Route)
    known = {tally.name: tally for system in systems for tally in system.tallies}

    def found(name: str) -> Tally:
        tally = _found(known, name)
        if tally.kind == "select":
            ask.read(lambda connection, _: tally.bind(connection))
        return tally

    @routes.get("/api/tallies", response_model=Tallies, responses=PROBLEMS)
    def tallies(request: Request) -> Response:
        """The tallies that can be read here, with the columns by which to ask for rows."""
        return ask.answer(request, lambda c: _listing(c, list(known.values())))

    @routes.get("/api/tallies/{name:tally}/groups", response_model=Grouped, responses=_RESPONSES)
    def groups(
        request: Request,
        name: str,
        group_by: Names = None,
        measures: Names = None,
        where: Where = None,
        start: Annotated[Day | None, Query(description="First day, in the time zone.")] = None,
        end: Annotated[Day | None, Query(description="The day after the last.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_GROUPS)] = 1_000,
    ) -> Response:
        """A tally's rows put together by columns of its key: `group_by=course_id,day:week`."""
        tally = found(name)
        by, wanted = _listed(group_by) or [], _listed(measures)
        equal = {}
        for column, value in _pairs(where):
            if column in equal:
                raise unaskable(f"Expected each column once, but there is {column!r} again.")
            equal[column] = value

        def read(connection: Connection) -> dict[str, Any]:
            found = grouped(
                connection,
                tally,
                by,
                measures=wanted,
                where=equal,
                start=start,
                end=end,
                limit=limit,
            )
            return {"groups": found.groups, "more": found.more, "left_out": found.left_out}

        # What groups there are may change without the tally.
        of_others = {each.partition(":")[0] for each in by} & set(tally.memberships)
        return ask.answer(request, read, *([] if of_others else [Part(tally)]))

    def rows(
        request: Request,
        system: str,
        table: str,
        where: Where = None,
        null: Names = None,
        start: Annotated[
            Day | Moment | None, Query(description="The first moment, or day.")
        ] = None,
        end: Annotated[
            Day | Moment | None, Query(description="The first that is left out.")
        ] = None,
        order: Names = None,
        columns: Names = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 1_000,
        cursor: str | None = None,
    ) -> Response:
        """A tally's rows, page by page: `course_id=7&start=2025-11-01&order=-day`."""
        tally = found(f"{system}.{table}")
        kept = _kept(request, tally, where, _listed(null) or [])

        def read(connection: Connection) -> dict[str, Any]:
            page = tally_rows(
                connection,
                tally,
                where=kept,
                start=start,
                end=end,
                order=_listed(order) or (),
                columns=_listed(columns),
                limit=limit,
                cursor=cursor,
            )
            return {"rows": page.rows, "order": page.order, "next_cursor": page.next_cursor}

        return ask.answer(request, read, Part(tally))

    routes.add_api_route(
        "/api/tallies/{system}/{table}",
        rows,
        response_model=Rows,
        responses=_RESPONSES,
        openapi_extra={"parameters": [_KEYS]},
        route_class_override=TakesAny,
    )
    return routes


def _found(known: Mapping[str, Tally], name: str) -> Tally:
    tally = known.get(name)
    if tally is None:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise Problem(404, "not-found", f"There is no tally {name[:100]!r}{hint}.")
    return tally


def _listing(connection: Connection, tallies: Sequence[Tally]) -> dict[str, Any]:
    ui_url = shown_ui_url()
    return {"tallies": _described(connection, tallies, ui_url), "ui_url": ui_url}


def _described(
    connection: Connection, tallies: Sequence[Tally], ui_url: str | None
) -> list[dict[str, Any]]:
    return [
        {
            "name": tally.name,
            "description": tally.description,
            "key": _columns(tally, tally.key),
            "measures": _columns(tally, [n for n in readable(tally) if n not in tally.key]),
            "time_key": tally.time_key
            and {
                "column": tally.time_key.column,
                "unit": tally.time_key.unit,
                "zone": tally.time_key.zone,
                "windows": tally.windows.unit,
            },
            "address": f"/api/tallies/{quote(tally.system, '')}/{quote(tally.table.name, '')}",
            "ui_url": ui_url and f"{ui_url}/assets/{quote(asset_address(tally.name))}",
        }
        for tally in privileges.readable(connection, tallies)
        if _is_bound(connection, tally)
    ]


def _is_bound(connection: Connection, tally: Tally) -> bool:
    """Whether the types of the tally's columns are known, which of a SELECT the database says."""
    try:
        tally.bind(connection)
    except NotInstalled:
        return False
    return True


def _columns(tally: Tally, names: Sequence[str]) -> list[dict[str, Any]]:
    columns = [tally.table.c[name] for name in names]
    return [
        {"name": c.name, "type": sql.type_name(c.type).lower(), "nullable": bool(c.nullable)}
        for c in columns
    ]


def _kept(
    request: Request, tally: Tally, where: Sequence[str] | None, null: Sequence[str]
) -> Mapping[str, list[str | None]]:
    """The values that are looked for, by column."""
    found: dict[str, list[str | None]] = {}
    for name, value in request.query_params.multi_items():
        if name in _OWN_PARAMETERS:
            continue
        if name not in filterable(tally):
            known = [*filterable(tally), *_OWN_PARAMETERS]
            raise unaskable(
                f"Expected parameters of {tally.name}, of {', '.join(known)}, but there is"
                f" {name[:100]!r}{nearest(name, known)}."
            )
        found.setdefault(name, []).append(value)
    for name, value in _pairs(where):
        found.setdefault(name, []).append(value)
    for name in null:
        found.setdefault(name, []).append(None)
    return found


def _listed(given: Sequence[str] | None) -> list[str] | None:
    return None if given is None else [n for some in given for n in some.split(",")]


def _pairs(given: Sequence[str] | None) -> list[tuple[str, str]]:
    found = []
    for each in given or ():
        name, colon, value = each.partition(":")
        if not colon:
            raise unaskable(f"Expected column:value, but there is {each!r}.")
        found.append((name, value))
    return found

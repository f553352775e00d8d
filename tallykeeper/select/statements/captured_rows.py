"""The INSERTs by which triggers log the rows of one source: signed images of the captured columns.

Rows are compared by their images, byte by byte, and not by equality: 1.0 and 1.00 are equal, and a
SELECT can tell them apart.
"""

from __future__ import annotations

from tallykeeper.database import sql
from tallykeeper.declarations.tally import SIDES, Event
from tallykeeper.select.plan import PART, ROW, SIGN, CapturedSource

_SIGNS = {"old_rows": -1, "new_rows": 1}
# Types of which equal values are the same values.
_EXACT = frozenset(
    {"smallint", "integer", "bigint", "boolean", "date", "uuid", "bytea", "oid"}
    | {"timestamp without time zone", "timestamp with time zone"}
)


def all_images(log: str, source: CapturedSource, event: Event) -> str:
    """An INSERT of every old row with the sign -1 and every new row with the sign 1."""
    rows = "\n  UNION ALL ".join(
        f"SELECT {source.part}, {_SIGNS[side]}{_values(source)} FROM {_chosen(source, side)}"
        for side in SIDES[event]
    )
    return f"INSERT INTO {log} ({_names(source)})\n  {rows}"


def net_images(log: str, source: CapturedSource, event: Event) -> str:
    """The same, but for rows that are there before and after."""
    numbered = [f"c{number}" for number, _ in enumerate(source.columns)]
    values = "".join(
        f", {_value(column.name, as_text=column.as_text)} AS {name}"
        for name, column in zip(numbered, source.columns, strict=True)
    )
    alike = [c.name for c in source.columns if c.type not in _EXACT and not c.as_text]
    image = f", record_send(ROW({sql.columns(alike, ROW)})::record) AS image" if alike else ""
    sides = "\n    UNION ALL ".join(
        f"SELECT {_SIGNS[side]} AS sign{values}{image} FROM {_chosen(source, side)}"
        for side in SIDES[event]
    )
    columns = "".join(f", {name}" for name in numbered)
    group = ", ".join([*numbered, *(["image"] if alike else [])]) or "()"
    return (
        f"INSERT INTO {log} ({_names(source)})\n"
        f"  SELECT {source.part}, sign(total)::integer{columns} FROM (\n"
        f"    SELECT sum(sign) AS total{columns} FROM (\n    {sides}\n"
        f"    ) AS images GROUP BY {group} HAVING sum(sign) <> 0\n"
        f"  ) AS net CROSS JOIN generate_series(1, abs(total))"
    )


def differs(source: CapturedSource) -> str:
    """A condition on `old_rows` and `new_rows`, of one row each: they are logged."""
    if not source.columns:
        return "false"
    names = [column.name for column in source.columns]
    sides = (f"ROW({sql.columns(names, side)})::record" for side in SIDES["update"])
    differing = "{} *<> {}".format(*sides)
    if source.condition is None:
        return f"({differing})"
    asked = (f"(SELECT {source.condition} FROM {side} AS {ROW})" for side in SIDES["update"])
    return f"({differing} AND ({' OR '.join(asked)}))"


def _names(source: CapturedSource) -> str:
    return sql.columns([PART, SIGN, *(column.log_name for column in source.columns)])


def _values(source: CapturedSource) -> str:
    return "".join(f", {_value(c.name, as_text=c.as_text)}" for c in source.columns)


def _value(name: str, *, as_text: bool) -> str:
    return f"{ROW}.{sql.quote(name)}{'::text' if as_text else ''}"


def _chosen(source: CapturedSource, side: str) -> str:
    """The rows of one side that are captured."""
    where = "" if source.condition is None else f" WHERE {source.condition}"
    return f"{side} AS {ROW}{where}"

"""The INSERTs by which triggers log the rows of one source: signed images of the captured columns.

Rows are compared by their images, byte by byte, and not by equality: 1.0 and 1.00 are equal, and a
SELECT can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallykeeper.database import sql
from tallykeeper.declarations.tally import SIDES, Event
from tallykeeper.select.plan import PART, ROW, SIGN, CapturedSource, OwnerSource

_SIGNS = {"old_rows": -1, "new_rows": 1}
# Types of which equal values are the same values.
_EXACT = frozenset(
    {"smallint", "integer", "bigint", "boolean", "date", "uuid", "bytea", "oid"}
    | {"timestamp without time zone", "timestamp with time zone"}
)


def marks(
    log: str,
    source: CapturedSource,
    owner: OwnerSource,
    names: Sequence[str],
    event: Event,
    *,
    one: bool,
) -> str:
    """An INSERT of marks for rows that were written, with the columns `names` of the log.

    Of updated rows those that differ in a captured column; that of `one` row is known to.
    """
    logged = sql.columns([PART, SIGN, *names])
    if event != "update":
        rows = "\n  UNION ALL ".join(
            f"SELECT {source.part}, 1, {', '.join(values)} FROM {_chosen(source, side)}"
            for side in SIDES[event]
            for values in owner.marks
        )
        return f"INSERT INTO {log} ({logged})\n  {rows}"
    marked = [f"m{number}" for number, _ in enumerate(names)]
    if one:
        rows = "\n  UNION ".join(
            f"SELECT {source.part}, 1, {', '.join(values)} FROM {_chosen(source, side)}"
            for side in SIDES[event]
            for values in owner.marks
        )
        return f"INSERT INTO {log} ({logged})\n  {rows}"
    image, group = _images(source)
    sides = "\n    UNION ALL ".join(
        f"SELECT {_SIGNS[side]} AS sign, {_listed(values, marked)}{image}"
        f" FROM {_chosen(source, side)}"
        for side in SIDES[event]
        for values in owner.marks
    )
    return (
        f"INSERT INTO {log} ({logged})\n"
        f"  SELECT DISTINCT {source.part}, 1, {', '.join(marked)} FROM (\n"
        f"    SELECT {', '.join(marked)} FROM (\n    {sides}\n"
        f"    ) AS images GROUP BY {', '.join([*marked, *group])} HAVING sum(sign) <> 0\n"
        f"  ) AS net"
    )


def _listed(values: Sequence[str], names: Sequence[str]) -> str:
    return ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))


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
    values, names = _images(source)
    sides = "\n    UNION ALL ".join(
        f"SELECT {_SIGNS[side]} AS sign{values} FROM {_chosen(source, side)}"
        for side in SIDES[event]
    )
    columns = "".join(f", {name}" for name in numbered)
    group = ", ".join(names) or "()"
    return (
        f"INSERT INTO {log} ({_names(source)})\n"
        f"  SELECT {source.part}, sign(total)::integer{columns} FROM (\n"
        f"    SELECT sum(sign) AS total{columns} FROM (\n    {sides}\n"
        f"    ) AS images GROUP BY {group} HAVING sum(sign) <> 0\n"
        f"  ) AS net CROSS JOIN generate_series(1, abs(total))"
    )


def _images(source: CapturedSource) -> tuple[str, list[str]]:
    """The captured columns `c0`, `c1`, ... of a row, and what distinguishes it from others."""
    values = "".join(
        f", {_value(column.name, as_text=column.as_text)} AS c{number}"
        for number, column in enumerate(source.columns)
    )
    names = [f"c{number}" for number, _ in enumerate(source.columns)]
    exact = [c for c in source.columns if c.as_text or c.type.removesuffix("[]") in _EXACT]
    alike = [c.name for c in source.columns if c not in exact]
    if not alike:
        return values, names
    return f"{values}, record_send(ROW({sql.columns(alike, ROW)})::record) AS image", [
        *names,
        "image",
    ]


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

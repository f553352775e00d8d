"""What the text of a SELECT says without a database: its columns, sources, key and time column.

Only names, for what lists tallies where there is no database. Invariant: nothing that is computed
or compared follows from it; what is maintained follows from the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallykeeper.declarations.tally import UNITS, TimeKey

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True)
class Outline:
    """The names of the output columns, those of the tables (schema or None, table), key and time.

    `columns` is empty where the text does not name them all, `key` where no GROUP BY does.
    """

    columns: tuple[str, ...] = ()
    sources: tuple[tuple[str | None, str], ...] = ()
    key: tuple[str, ...] = ()
    time_key: TimeKey | None = None


def outline(select: str) -> Outline:
    """What the text says; nothing where it cannot be read."""
    # What declares no SELECT does not wait for the parser.
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        parsed = sqlglot.parse_one(select, dialect="postgres")
    except SqlglotError:
        return Outline()
    if not isinstance(parsed, exp.Query):
        return Outline()
    columns = _columns(parsed)
    key = _key(parsed, columns) if columns and isinstance(parsed, exp.Select) else ()
    return Outline(columns, tuple(dict.fromkeys(_sources(parsed))), key, _time_key(parsed, key))


def _columns(query: exp.Query) -> tuple[str, ...]:
    from sqlglot import exp

    names = []
    for each in query.selects:
        name = each.alias_or_name
        if isinstance(each, exp.Func):
            # PostgreSQL names it by its function.
            name = each.sql(dialect="postgres").partition("(")[0].lower()
        if not name or name == "*":
            return ()
        names.append(name)
    return tuple(names)


def _sources(query: exp.Query) -> Iterator[tuple[str | None, str]]:
    from sqlglot import exp

    common = {each.alias_or_name for each in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            continue
        if table.db or table.name not in common:
            yield table.db or None, table.name


def _key(select: exp.Select, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The output columns that are all of GROUP BY; empty where it has others."""
    from sqlglot import exp

    group = select.args.get("group")
    if group is None or any(group.args.get(n) for n in ("grouping_sets", "cube", "rollup", "all")):
        return ()
    computed = {
        each.unalias().sql(dialect="postgres"): name
        for each, name in zip(select.selects, columns, strict=True)
    }
    found = []
    for each in group.expressions:
        text = each.sql(dialect="postgres")
        if isinstance(each, exp.Literal) and each.is_int and int(each.this) <= len(columns):
            found.append(columns[int(each.this) - 1])
        elif text in computed:
            found.append(computed[text])
        elif text in columns:
            found.append(text)
        else:
            return ()
    return tuple(dict.fromkeys(found))


def _time_key(query: exp.Query, key: tuple[str, ...]) -> TimeKey | None:
    """The first key column that is the start of each day or hour, UTC."""
    from sqlglot import exp

    for each in query.selects:
        computed = each.unalias()
        if each.alias_or_name not in key or not isinstance(computed, exp.TimestampTrunc):
            continue
        zone = computed.args.get("zone")
        unit = computed.text("unit").lower()
        if isinstance(zone, exp.Literal) and zone.this.upper() == "UTC":
            for known in UNITS:
                if unit == known:
                    return TimeKey(each.alias_or_name, known)  # type: ignore[arg-type]
    return None

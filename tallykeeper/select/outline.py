"""What the text of a SELECT says without a database: its columns, sources, key and time column.

Only names, for what lists tallies where there is no database. Invariant: nothing that is computed
or compared follows from it; what is maintained follows from the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallykeeper.declarations.tally import TimeKey
from tallykeeper.declarations.windows import UNITS, Unit, known_zone

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True)
class Outline:
    """The names of the output columns, those of the tables (schema or None, table), key and time.

    `columns` is empty where the text does not name them all, `key` where no GROUP BY does. `times`
    are the columns that are plainly the start of a unit in a time zone. `names` are those of all
    columns in it; empty where it names not all that it reads.
    """

    columns: tuple[str, ...] = ()
    sources: tuple[tuple[str | None, str], ...] = ()
    key: tuple[str, ...] = ()
    times: tuple[TimeKey, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def time_key(self) -> TimeKey | None:
        """The first of the times that is part of the key."""
        return next((each for each in self.times if each.column in self.key), None)


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
    stars = (star for star in parsed.find_all(exp.Star) if not isinstance(star.parent, exp.Func))
    names = () if any(stars) else _names(parsed)
    sources = tuple(dict.fromkeys(_sources(parsed)))
    return Outline(columns, sources, key, tuple(_times(parsed)), names)


def _names(query: exp.Query) -> tuple[str, ...]:
    from sqlglot import exp

    return tuple(dict.fromkeys(column.name for column in query.find_all(exp.Column)))


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


def _times(query: exp.Query) -> Iterator[TimeKey]:
    for each in query.selects:
        found = _period(each.unalias())
        if found is not None:
            yield TimeKey(each.alias_or_name, *found)


def _period(computed: exp.Expr) -> tuple[Unit, str] | None:
    """The unit and the zone that a value is plainly the start of."""
    from sqlglot import exp

    if isinstance(computed, exp.Paren):
        return _period(computed.this)
    if isinstance(computed, exp.TimestampTrunc):
        unit = next((u for u in UNITS if u == computed.text("unit").lower()), None)
        given = computed.args.get("zone")
        zone = _zone_of_local(computed.this) if given is None else _zone(given)
        return (unit, zone) if unit and zone else None
    if isinstance(computed, exp.Cast) and computed.is_type("date"):
        zone = _zone_of_local(computed.this)
        return ("day", zone) if zone else _period(computed.this)
    if isinstance(computed, exp.AtTimeZone):
        found = _period(computed.this)
        return found if found and found[1] == _zone(computed.args["zone"]) else None
    return None


def _zone_of_local(value: exp.Expr) -> str | None:
    """The zone of `moment AT TIME ZONE 'Europe/Berlin'`."""
    from sqlglot import exp

    if isinstance(value, exp.Paren):
        return _zone_of_local(value.this)
    return _zone(value.args["zone"]) if isinstance(value, exp.AtTimeZone) else None


def _zone(value: exp.Expr) -> str | None:
    from sqlglot import exp

    return known_zone(value.this) if isinstance(value, exp.Literal) else None

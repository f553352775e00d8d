"""The function that computes given keys of a recomputed tally from its sources.

It goes by *runs*: stretches of windows that keys lie in, without long gaps. Each run is planned
for its own first and last instant. The planner then knows from its statistics how little of the
history is asked for, and goes by the index on the instant; from a join with many windows it cannot
know, and would scan everything there is. Refresh and live view call the same function.
"""

from __future__ import annotations

from tallykeeper.database import sql
from tallykeeper.declarations.tally import Keys, Tally
from tallykeeper.faults import quarantine

# A gap of fewer windows than this costs less to read than another run costs to plan.
NEAR_WINDOWS = 3
# At more gaps than this, only the widest separate runs.
MOST_RUNS = 500
SECONDS = {"day": 86_400, "hour": 3_600}


def create_function(tally: Tally, name: str) -> str:
    """CREATE FUNCTION for the function `name`: an array for each group column in, rows out."""
    types = [sql.type_name(sql.lasting_type(tally.table.c[n])) for n in tally.group]
    numbered = [f"${number}" for number in range(1, len(types) + 1)]
    time_key = tally.time_key
    if time_key is not None and time_key.column in tally.group:
        keys = _keys(tally, [f"{n}[tally_run.first_place:tally_run.last_place]" for n in numbered])
        rows = _rows(
            tally, Keys(tally, "run_keys", "tally_run.first_instant", "tally_run.last_instant")
        )
        instant = numbered[tally.group.index(time_key.column)]
        body = (
            "DECLARE\n  tally_run record;\nBEGIN\n"
            f"  FOR tally_run IN{_runs(time_key.unit, instant)}\n"
            f"  LOOP\n    RETURN QUERY WITH run_keys AS MATERIALIZED (\n{keys}\n)\n{rows};\n"
            "  END LOOP;\n"
        )
    else:
        keys, rows = _keys(tally, numbered), _rows(tally, Keys(tally, "run_keys"))
        body = f"BEGIN\n  RETURN QUERY WITH run_keys AS MATERIALIZED (\n{keys}\n)\n{rows};\n"
    # At the end, when all sources that were read are locked.
    body += f"  PERFORM {sql.unbroken(tally.sources)};\nEND"
    returns = ", ".join(
        f"{sql.quote(n)} {sql.type_name(sql.lasting_type(tally.table.c[n]))}" for n in tally.columns
    )
    return sql.stable_function(
        name,
        returns,
        f"#variable_conflict use_column\n{body}",
        arguments=", ".join(f"{t}[]" for t in types),
        language="plpgsql",
    )


def create_lenient(tally: Tally, name: str, rows_function: str) -> str:
    """CREATE FUNCTION for one like that, which also says which keys cannot be computed, and why.

    It halves the keys until those that fail are alone. Its rows are those of the other function,
    which returns all or none.
    """
    types = {n: sql.type_name(sql.lasting_type(tally.table.c[n])) for n in tally.columns}
    numbered = {n: f"${number}" for number, n in enumerate(tally.group, 1)}
    alone = ", ".join(
        f"{numbered[n]}[1]" if n in numbered else f"NULL::{types[n]}" for n in tally.columns
    )
    every = ", ".join(numbered.values())
    first = ", ".join(f"{n}[:tally_middle]" for n in numbered.values())
    second = ", ".join(f"{n}[tally_middle + 1:]" for n in numbered.values())
    body = f"""
#variable_conflict use_column
DECLARE
  tally_middle integer := cardinality($1) / 2;
BEGIN
  BEGIN
    RETURN QUERY SELECT r.*, NULL::text FROM {rows_function}({every}) AS r;
    RETURN;
  EXCEPTION WHEN {quarantine.CONDITIONS} THEN
    IF tally_middle = 0 THEN
      RETURN QUERY SELECT {alone}, SQLSTATE || ': ' || SQLERRM;
      RETURN;
    END IF;
  END;
  RETURN QUERY SELECT r.* FROM {name}({first}) AS r;
  RETURN QUERY SELECT r.* FROM {name}({second}) AS r;
END"""
    returns = ", ".join(f"{sql.quote(n)} {t}" for n, t in types.items())
    return sql.stable_function(
        name,
        f"{returns}, {quarantine.REASON} text",
        body,
        arguments=", ".join(f"{types[n]}[]" for n in tally.group),
        language="plpgsql",
    )


def call(tally: Tally, name: str, relation: str, more: tuple[str, ...] = ()) -> str:
    """A SELECT of the tally's columns by that function, for the distinct keys in `relation`."""
    time_key = tally.time_key.column if tally.time_key is not None else None
    order = sorted(tally.group, key=lambda column: column != time_key)
    by = ", ".join(f"k.{sql.quote(n)}" for n in order)
    # In one order for all arrays, and windows in their own order.
    arrays = ", ".join(
        f"array_agg(k.{sql.quote(n)} ORDER BY {by}) AS {sql.quote(n)}" for n in tally.group
    )
    return (
        f"SELECT {sql.columns((*tally.columns, *more), 'r')}\n"
        f"FROM (SELECT {arrays} FROM {relation} AS k) AS k,"
        f" {name}({sql.columns(tally.group, 'k')}) AS r"
    )


def _keys(tally: Tally, arrays: list[str]) -> str:
    return (
        f"SELECT {sql.columns(tally.group, 'k')}"
        f" FROM unnest({', '.join(arrays)}) AS k ({sql.columns(tally.group)})"
    )


def _rows(tally: Tally, scope: Keys) -> str:
    """The rows of the scope, with the types that the function returns."""
    columns = ", ".join(
        f"s.{sql.quote(n)}::{sql.type_name(sql.lasting_type(tally.table.c[n]))}"
        for n in tally.columns
    )
    return f"SELECT {columns} FROM (\n{tally.rows(scope)}\n) AS s"


def _runs(unit: str, windows: str) -> str:
    """The runs of an ascending array of windows: first and last instant, and places in the array.

    Up to the last instant, not before the next window: at the ends of time, where no interval
    leads anywhere, a half-open window would be empty.
    """
    near = NEAR_WINDOWS * SECONDS[unit]
    last = sql.render(sql.to_last_instant(unit))
    return f"""
SELECT min(at) AS first_instant, max(at) + {last} AS last_instant,
       min(place) AS first_place, max(place) AS last_place
FROM (
  SELECT at, place, count(*) FILTER (WHERE apart) OVER (ORDER BY place) AS run
  FROM (
    SELECT at, place, gap > {near} AND row_number() OVER (ORDER BY gap DESC) < {MOST_RUNS} AS apart
    FROM (
      SELECT at, place, CASE WHEN at IS DISTINCT FROM before
        THEN coalesce(extract(epoch FROM at) - extract(epoch FROM before), 0) ELSE 0 END AS gap
      FROM (
        SELECT at, place, lag(at) OVER (ORDER BY place) AS before
        FROM unnest({windows}) WITH ORDINALITY AS w (at, place)
      ) AS pairs
    ) AS gaps
  ) AS marked
) AS runs WHERE at IS NOT NULL GROUP BY run ORDER BY run"""

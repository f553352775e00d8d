"""The live view of a tally at the coordinator of a Citus cluster: that of each place, together.

A table that is distributed beside the others has one row for each place and tally, which names the
live view there. Joined to it, a function that reads that view is run by Citus at each worker, for
each of its places, in the place's own snapshot. Invariant: a place whose live view is not where the
row says is an error of the reading, and not fewer rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.errors import DoesNotFit
from tallykeeper.places.place import Place
from tallykeeper.places.renaming import Name
from tallykeeper.places.tallies import Kept
from tallykeeper.select.tally import SelectTally

DIRECTORY = "tally_places"
"""The table that has the places, in the schema of the table that all are colocated with."""

_NO_PROPAGATION = "SET LOCAL citus.enable_ddl_propagation = off"
_TRIED_PER_PLACE = 200
_TYPE = text("""
SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(:table) AND a.attname = :column""")


def create_directory(connection: Connection, family: Name, column: str) -> None:
    """Create the table that has the places, beside `family`, which is divided by `column`."""
    directory, divided = _directory(family), sql.quote(column)
    if not connection.scalar(text("SELECT to_regclass(:name) IS NULL"), {"name": directory}):
        return
    table = f"{sql.quote(family[0])}.{sql.quote(family[1])}"
    type_ = _type_of(connection, table, column)
    sql.execute(
        connection,
        f"CREATE TABLE {directory} ({divided} {type_}, tally text, live text NOT NULL,"
        f" place text NOT NULL, PRIMARY KEY ({divided}, tally))",
    )
    sql.execute(
        connection,
        f"SELECT create_distributed_table({sql.literal(directory)}, {sql.literal(column)},"
        f" colocate_with => {sql.literal(table)})",
    )


def install(
    coordinator: Engine,
    family: Name,
    column: str,
    tallies: Sequence[SelectTally],
    kept: Sequence[Kept],
) -> None:
    """Create the live views at the coordinator, and what they call, or replace them.

    `tallies` are bound to the tables of the coordinator, `kept` are these at the places. `column`
    is the one by which the table `family` is divided; beside it there is the directory.
    """
    for url in dict.fromkeys(each.place.url for each in kept):
        place = next(each.place for each in kept if each.place.url == url)
        with place.connected() as engine, engine.begin() as connection:
            _replace_functions(connection, tallies)
    with coordinator.begin() as connection:
        begin_work(connection)
        _store_places(connection, family, column, kept)
        _replace_functions(connection, tallies)
        for tally in tallies:
            _replace(
                connection,
                _create_view(tally, _directory(family)),
                f"DROP VIEW {tally.live_name}",
            )


def _replace_functions(connection: Connection, tallies: Sequence[SelectTally]) -> None:
    sql.execute(connection, _NO_PROPAGATION)
    for tally in tallies:
        # At the coordinator the live view calls it.
        drop = f"DROP VIEW IF EXISTS {tally.live_name}; DROP FUNCTION {_function(tally)}(text)"
        _replace(connection, _create_function(tally), drop)


def _replace(connection: Connection, create: str, drop: str) -> None:
    """Create or replace, which keeps grants; where the columns are others, drop it before."""
    savepoint = connection.begin_nested()
    try:
        sql.execute(connection, create)
    except ProgrammingError:
        savepoint.rollback()
        sql.execute(connection, drop)
        sql.execute(connection, create)
    else:
        savepoint.commit()


def _function(tally: SelectTally) -> str:
    name = sql.shortened(f"{tally.table.name}_rows_at")
    return f"{sql.quote(tally.table.schema or 'public')}.{sql.quote(name)}"


def _create_function(tally: SelectTally) -> str:
    """A function that returns the rows of the live view of that name."""
    columns = ", ".join(f"v.{sql.quote(n)}::{tally.type_of(n)}" for n in tally.columns)
    returned = ", ".join(f"{sql.quote(n)} {tally.type_of(n)}" for n in tally.columns)
    return f"""CREATE OR REPLACE FUNCTION {_function(tally)}(live text)
RETURNS TABLE ({returned}) LANGUAGE plpgsql STABLE AS $body$
#variable_conflict use_column
BEGIN
    -- In the snapshot that reads: to an older one a view that was made since would show the rows
    -- that the moved derived table had, and not that they are stale.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass(live)) THEN
        RAISE EXCEPTION '% is not at this place; run `tally migrate --distribute`', live
            USING ERRCODE = 'undefined_table';
    END IF;
    RETURN QUERY EXECUTE format('SELECT {columns.replace("'", "''")} FROM %s AS v', live::regclass);
END
$body$"""


def _create_view(tally: SelectTally, directory: str) -> str:
    columns = sql.columns(tally.columns, "r")
    return (
        f"CREATE OR REPLACE VIEW {tally.live_name} AS SELECT {columns} FROM {directory} AS p"
        f" CROSS JOIN LATERAL {_function(tally)}(p.live) AS r"
        f" WHERE p.tally = {sql.literal(tally.name)}"
    )


def _type_of(connection: Connection, table: str, column: str) -> str:
    return str(connection.scalar(_TYPE, {"table": table, "column": column}))


def _directory(family: Name) -> str:
    return f"{sql.quote(family[0])}.{DIRECTORY}"


def _store_places(connection: Connection, family: Name, column: str, kept: Sequence[Kept]) -> None:
    """Have one row for each place and tally in the shard of the place."""
    directory, divided = _directory(family), sql.quote(column)
    type_ = _type_of(connection, directory, column)
    places = list(dict.fromkeys(each.place for each in kept))
    values = _values(connection, family, type_, places)
    names = sorted({each.declared.name for each in kept})
    connection.execute(
        text(f"DELETE FROM {directory} WHERE tally = ANY (:names)"), {"names": names}
    )
    for each in kept:
        connection.execute(
            text(
                f"INSERT INTO {directory} ({divided}, tally, live, place)"
                f" VALUES (CAST(:value AS {type_}), :tally, :live, :place)"
            ),
            {
                "value": values[each.place.name],
                "tally": each.declared.name,
                "live": each.tally.live_name,
                "place": each.place.name,
            },
        )


def _values(
    connection: Connection, family: Name, type_: str, places: Sequence[Place]
) -> dict[str, str]:
    """For each place a value of the column that is stored there."""
    # Of most types a small number is one; of those of 128 bits its digest.
    value = "md5(n::text)" if type_ == "uuid" else "n::text"
    found = connection.execute(
        text(
            "SELECT s.place, min(s.value) AS value FROM ("
            f" SELECT {value} AS value, get_shard_id_for_distribution_column("
            f" CAST(:directory AS regclass), CAST({value} AS {type_})) AS place"
            " FROM generate_series(1, :most) AS n) AS s GROUP BY s.place"
        ),
        {"directory": _directory(family), "most": _TRIED_PER_PLACE * len(places)},
    )
    by_shard = {str(row.place): str(row.value) for row in found}
    own = (family[0], DIRECTORY)
    values: dict[str, str] = {}
    for place in places:
        shard = place.tables.get(own, ("", ""))[1].rpartition("_")[2]
        if shard in by_shard:
            values[place.name] = by_shard[shard]
    missing = [place.name for place in places if place.name not in values]
    if missing:
        raise DoesNotFit(
            f"no value of the type {type_} was found that is stored at place {', '.join(missing)};"
            " read the live views of places one by one"
        )
    return values

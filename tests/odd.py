"""Odd values: a system whose derived tables cannot hold some of what its source can say.

`sums` adds up, `facts` is computed anew. `VALUES` is the list: each a value that one key is given
alone, among healthy ones, and what becomes of it. To add one, add a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    MetaData,
    Numeric,
    Select,
    SmallInteger,
    String,
    Table,
    Text,
    cast,
    func,
    select,
)

from tallykeeper import Capture, KeyFilter, RecomputedTally, SelectTally, System

metadata = MetaData(schema="odd")

things = Table(
    "things",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("label", Text, nullable=False),
    Column("at", DateTime(timezone=True)),
    Column("number", BigInteger),
    Column("exact", Numeric),
    Column("expression", Text),
)

sums = Table(
    "sums",
    metadata,
    Column("label", Text, primary_key=True),
    Column("things", Integer, nullable=False),
    Column("total", Numeric, nullable=False),
)

facts = Table(
    "facts",
    metadata,
    # Narrower than in the source, as if that had been widened later.
    Column("label", String(3_000), primary_key=True),
    Column("smallest", SmallInteger),
    Column("share", Numeric(6, 2)),
    Column("latest", DateTime(timezone=True)),
    Column("said", Text),
)


def _facts(scope: KeyFilter) -> Select[Any]:
    return (
        select(
            things.c.label,
            func.min(things.c.number).label("smallest"),
            func.round(func.max(things.c.exact), 2).label("share"),
            func.max(things.c.at).label("latest"),
            func.max(func.odd.evaluated(things.c.expression)).label("said"),
        )
        .where(*scope(label=things.c.label))
        .group_by(things.c.label)
    )


sums_tally = SelectTally(
    "odd.sums",
    select=select(
        things.c.label,
        cast(func.count(), Integer).label("things"),
        func.coalesce(func.sum(things.c.number), 0).label("total"),
    ).group_by(things.c.label),
    table=sums,
)
facts_tally = RecomputedTally(
    system="odd",
    table=facts,
    key=["label"],
    measures=["smallest", "share", "latest", "said"],
    captures=[Capture(things, key=lambda thing: {"label": thing.label})],
    aggregate=_facts,
)
system = System("odd", metadata, [sums_tally, facts_tally])

FUNCTIONS = (
    # What an expression says, as an application's own function might compute it.
    "CREATE FUNCTION odd.evaluated(expression text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT"
    " SET search_path TO pg_catalog AS $$ DECLARE found text;"
    " BEGIN EXECUTE 'SELECT (' || expression || ')::text' INTO found; RETURN found; END $$",
    "CREATE FUNCTION odd.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.label = 'forbidden' THEN RAISE 'this label is forbidden'; END IF; RETURN NEW; END $$",
)
# What the tables' owner has put on them, of which no declaration says anything.
ADOPTED = (
    "CREATE TYPE odd.size AS ENUM ('small', 'large')",
    "CREATE TABLE odd.known (smallest smallint PRIMARY KEY)",
    "INSERT INTO odd.known SELECT generate_series(-32768, 999)",
    "CREATE FUNCTION odd.half(n integer) RETURNS integer LANGUAGE sql IMMUTABLE"
    " RETURN 100 / (n - 5)",
    "ALTER TABLE odd.sums ADD CHECK (total <> 666)",
    "ALTER TABLE odd.sums ADD COLUMN whole bigint GENERATED ALWAYS AS (total::bigint) STORED",
    "ALTER TABLE odd.sums ADD COLUMN twice integer"
    " GENERATED ALWAYS AS (CASE WHEN total BETWEEN 2000000000 AND 2999999999 THEN total END)"
    " STORED",
    "CREATE UNIQUE INDEX ON odd.sums (total) WHERE total BETWEEN 1000 AND 1999",
    "ALTER TABLE odd.sums ADD EXCLUDE USING gist (numrange(total, total + 10) WITH &&)"
    " WHERE (total BETWEEN 2000 AND 2999)",
    "CREATE INDEX ON odd.sums (odd.half(things))",
    "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON odd.sums FOR EACH ROW"
    " EXECUTE FUNCTION odd.refuse()",
    "ALTER TABLE odd.facts ALTER smallest SET NOT NULL",
    "ALTER TABLE odd.facts ADD FOREIGN KEY (smallest) REFERENCES odd.known",
    "ALTER TABLE odd.facts ADD UNIQUE (share) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE odd.facts ADD CHECK (latest < 'infinity')",
    "CREATE INDEX ON odd.facts (latest, said)",
)


@dataclass(frozen=True)
class Odd:
    """A value of one key: the rows of the source, and the SQLSTATE by tally that cannot hold it.

    The rows are VALUES of label, at, number, exact, expression.
    """

    name: str
    rows: tuple[str, ...]
    refused: dict[str, str]


def _thing(
    name: str,
    *,
    number: str = "1",
    exact: str = "NULL",
    at: str = "NULL",
    expression: str | None = None,
    label: str = "'odd'",
    times: int = 1,
    sums: str | None = None,
    facts: str | None = None,
) -> Odd:
    said = "NULL" if expression is None else "'" + expression.replace("'", "''") + "'"
    row = f"({label}, {at}::timestamptz, {number}, {exact}::numeric, {said})"
    refused = {n: code for n, code in (("odd.sums", sums), ("odd.facts", facts)) if code}
    return Odd(name, (row,) * times, refused)


LONG = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, {}) AS n)"

VALUES = (
    # Sums and keys.
    _thing("bigint overflows", number="9000000000000000000", times=2, sums="22003", facts="22003"),
    _thing(
        "it does below zero", number="-9000000000000000000", times=2, sums="22003", facts="22003"
    ),
    _thing("the least bigint", number="-9223372036854775807 - 1", facts="22003"),
    _thing("the greatest bigint", number="9223372036854775807", facts="22003"),
    _thing("a smallint overflows", number="32768", facts="22003"),
    _thing("the least smallint", number="-32768"),
    _thing("numeric precision overflows", exact="1e25", facts="22003"),
    _thing("a share overflows", exact="10000", facts="22003"),
    _thing("a share that rounds up to an overflow", exact="9999.996", facts="22003"),
    _thing("a share of many digits", exact="1.23456789012345678901234567890"),
    _thing("NaN", exact="'NaN'"),
    _thing("infinite", exact="'Infinity'", facts="22003"),
    _thing("a key longer than an index row", label=LONG.format(200), sums="54000", facts="22001"),
    _thing("a key just as long as one", label=LONG.format(80)),
    _thing("an empty key", label="''"),
    _thing("a blank key", label="' '"),
    _thing("a key with quotes", label="'a''b\"c\\d%s{x}'"),
    _thing("a key beyond the basic plane", label="repeat(chr(128640), 100)"),
    _thing("no number where one must be", number="NULL", facts="23502"),
    # Times.
    _thing("the end of time", at="'infinity'", facts="23514"),
    _thing("its beginning", at="'-infinity'"),
    _thing("the last year", at="'294276-12-31 23:59:59Z'"),
    _thing("before Christ", at="'4714-11-24 00:00:00+00 BC'"),
    # Constraints of an adopted table.
    _thing("a CHECK", number="666", sums="23514"),
    _thing("a UNIQUE index", number="1500", sums="23505"),
    _thing("an exclusion", number="2005", sums="23P01", facts="23503"),
    _thing("a foreign key", number="1001", facts="23503"),
    _thing("a deferred UNIQUE", exact="77", facts="23505"),
    _thing("a generated column", number="2500000000", sums="22003", facts="22003"),
    _thing("an index's expression", times=5, sums="22012"),
    _thing("a trigger that raises", label="'forbidden'", sums="P0001"),
    _thing("a value too long for an index", expression=LONG.format(200), facts="54000"),
    # What computing raises.
    _thing("division by zero", expression="1 / 0", facts="22012"),
    _thing("no number in a text", expression="'many'::integer", facts="22P02"),
    _thing("an unknown enum value", expression="'huge'::odd.size", facts="22P02"),
    _thing("a known enum value", expression="'large'::odd.size"),
    _thing("no such day", expression="'2025-02-30'::date", facts="22008"),
    _thing("no date", expression="'soon'::date", facts="22007"),
    _thing("a range upside down", expression="int4range(2, 1)", facts="22000"),
    _thing("the root of less than nothing", expression="sqrt(-1)", facts="2201F"),
    _thing("the logarithm of nothing", expression="ln(0)", facts="2201E"),
    _thing("a power too great", expression="power(10::float8, 400)", facts="22003"),
    _thing("an interval too long", expression="'200000000 years'::interval * 10", facts="22008"),
    _thing("a substring of negative length", expression="substring('x', 1, -1)", facts="22011"),
    _thing("no JSON", expression="'{'::jsonb", facts="22P02"),
    _thing("no uuid", expression="'x'::uuid", facts="22P02"),
    _thing("no address", expression="'1.2.3'::inet", facts="22P02"),
    _thing("no character", expression="chr(0)", facts="54000"),
    _thing("no regular expression", expression="regexp_replace('x', '(', '')", facts="2201B"),
    _thing("no such time zone", expression="now() AT TIME ZONE 'Moon'", facts="22023"),
    _thing("no array", expression="'{1,'::integer[]", facts="22P02"),
    _thing("too many bytes", expression="repeat('x', 2000000000)", facts="54000"),
    _thing("the logarithm of a negative", expression="log(-1)", facts="2201E"),
    _thing("numeric overflows", expression="power(10::numeric, 200000)", facts="22003"),
)

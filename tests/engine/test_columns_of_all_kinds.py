"""Key and measure columns of many types and names: kept exactly, or refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import CITEXT, ENUM, INET, INT4RANGE, JSONB
from sqlalchemy.sql.elements import Label
from sqlalchemy.types import TypeEngine, UserDefinedType

from tallykeeper import (
    Capture,
    DoesNotFit,
    RecomputedTally,
    SelectTally,
    System,
    Tally,
    install,
    rebuild,
    refresh,
    verify,
)
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.installation.schema_check import require_fit
from tests.integration.support import execute, scalar


class Named(UserDefinedType[Any]):
    """A type by its name, of which SQLAlchemy knows nothing."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **options: object) -> str:
        return self.name


# Names of the engine's own columns, aliases and variables, of SQL's words, and of no word at all.
WORDS = (
    "is_stored side surplus d rows day taken updated_at c k s l m i u r count sum changed"
    " deleted inserted oldest tally windows reason new_rows old_rows several differs_1"
    " run_keys place at w starts_at key expected stored entity marks value first select"
    " user null true Order größe 100%"
)
NAMES = [*WORDS.split(), *("a b", 'q"uote', "it's", "x:y", "a.b", "back\\slash", "%s", "{x}")]
# Two values each, of which the second may be equal to the first and look otherwise.
TYPES: dict[str, tuple[TypeEngine[Any], str, str]] = {
    "enum": (ENUM("x", "y", name="mood", schema="odd", create_type=False), "'x'", "'y'"),
    "enum_of_sqlalchemy": (Enum("x", "y", name="mood", schema="odd"), "'x'", "'y'"),
    "enum_as_text": (Enum("x", "y", native_enum=False), "'x'", "'y'"),
    "domain": (Named("odd.positive"), "1", "2"),
    "uuid": (Uuid(), f"'{'0' * 31}1'", f"'{'0' * 31}2'"),
    "inet": (INET(), "'10.0.0.1'", "'10.0.0.2'"),
    "bytea": (LargeBinary(), r"'\x01'", r"'\x0102'"),
    "interval": (Interval(), "'1 day'", "'24 hours'"),
    "jsonb": (JSONB(), """'{"a": 1}'""", """'{"a": 1.0}'"""),
    "int4range": (INT4RANGE(), "'[1,2)'", "'[1,3)'"),
    "numeric": (Numeric(), "1.0", "1.00"),
    "varchar": (String(5), "'a'", "'b'"),
    "boolean": (Boolean(), "true", "false"),
    "date": (Date(), "'2025-01-01'", "'2025-01-02'"),
    "time_without_zone": (DateTime(), "'2025-01-01 10:00'", "'2025-01-02 10:00'"),
}
MADE = (
    "CREATE SCHEMA odd",
    "CREATE TYPE odd.mood AS ENUM ('x', 'y')",
    "CREATE DOMAIN odd.positive AS integer CHECK (VALUE > 0)",
    "CREATE TYPE odd.place AS (x integer, y integer)",
)


def source(metadata: MetaData, name: str, type_: TypeEngine[Any], nullable: bool) -> Table:
    return Table(
        f"{name}_source",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("k", type_, nullable=nullable),
    )


def derived(metadata: MetaData, name: str, type_: TypeEngine[Any], nullable: bool) -> Table:
    constraints = [UniqueConstraint("k", postgresql_nulls_not_distinct=True)] if nullable else []
    return Table(
        name,
        metadata,
        Column("k", type_, primary_key=not nullable, nullable=nullable),
        Column("n", BigInteger, nullable=False),
        *constraints,
    )


def selected(metadata: MetaData, name: str, type_: TypeEngine[Any], nullable: bool) -> Tally:
    k = source(metadata, name, type_, nullable).c.k
    return SelectTally(
        f"odd.{name}",
        select=select(k, func.count().label("n")).group_by(k),
        table=derived(metadata, name, type_, nullable),
    )


def recomputed(metadata: MetaData, name: str, type_: TypeEngine[Any], nullable: bool) -> Tally:
    rows = source(metadata, name, type_, nullable)
    chosen = select(rows.c.k, func.count().label("n")).group_by(rows.c.k)
    return RecomputedTally(
        system="odd",
        table=derived(metadata, name, type_, nullable),
        key=["k"],
        measures=["n"],
        captures=[Capture(rows, key=lambda row: {"k": row.k})],
        aggregate=lambda scope: chosen.where(*scope(k=rows.c.k)),
    )


def create(engine: Engine, system: System, *statements: str) -> None:
    execute(engine, *MADE)
    with engine.begin() as connection:
        system.metadata.create_all(connection)
    execute(engine, *statements)
    with engine.begin() as connection:
        require_fit(connection, system.tallies)
        install(connection, system.tallies)


def check(engine: Engine, tally: Tally, first: str, second: str) -> None:
    """The tally is right while rows come, change and go, in whatever time zone it is read."""
    table = f"odd.{tally.table.name}_source"
    execute(engine, f"INSERT INTO {table} VALUES (1, {first}), (2, {second}), (3, {second})")
    refresh(engine, tally)
    assert verify(engine, tally).ok
    execute(engine, f"INSERT INTO {table} VALUES (4, {first})")
    execute(engine, f"UPDATE {table} SET k = {first} WHERE id < 3")
    execute(engine, f"DELETE FROM {table} WHERE id = 3")
    for zone in ("UTC", "Asia/Tokyo"):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL timezone = '{zone}'")
            live = connection.exec_driver_sql(f"SELECT sum(n), count(*) FROM {tally.live_name}")
            assert tuple(live.one()) == (3, 1), (tally, zone)
    assert verify(engine, tally).ok
    refresh(engine, tally)
    execute(engine, f"UPDATE {tally.table} SET n = 7")
    assert not verify(engine, tally).ok
    rebuild(engine, tally)
    assert verify(engine, tally).ok


@pytest.mark.parametrize("make", [selected, recomputed])
def test_keys_of_many_types_are_kept(any_postgres_engine: Engine, make: Any) -> None:
    engine, metadata = any_postgres_engine, MetaData(schema="odd")
    tallies = {
        name: make(metadata, name, type_, nullable=number % 2 == 0)
        for number, (name, (type_, _, _)) in enumerate(TYPES.items())
    }
    create(engine, System("odd", metadata, list(tallies.values())))
    for name, tally in tallies.items():
        check(engine, tally, *TYPES[name][1:])


@pytest.mark.parametrize("make", [selected, recomputed])
@pytest.mark.parametrize("collated", [("s",), ("s_source",), ("s", "s_source")])
def test_text_with_a_collation_of_its_own_is_kept(
    engine: Engine, make: Any, collated: tuple[str, ...]
) -> None:
    metadata = MetaData(schema="odd")
    tally = make(metadata, "s", Text(), nullable=True)
    alter = [f'ALTER TABLE odd.{name} ALTER k TYPE text COLLATE "C"' for name in collated]
    create(engine, System("odd", metadata, [tally]), *alter)
    check(engine, tally, "'a'", "NULL")


@pytest.mark.parametrize("kind", ["select", "recomputed"])
def test_columns_may_have_any_name(any_postgres_engine: Engine, kind: str) -> None:
    engine, metadata = any_postgres_engine, MetaData(schema="odd")
    rows = Table(
        "rows",
        metadata,
        Column("id", BigInteger, primary_key=True),
        *(Column(n, Integer, nullable=False, server_default="1") for n in NAMES),
    )
    keys, measures = NAMES[::2], NAMES[1::2]
    table = Table(
        "d",
        metadata,
        Column("key_id", BigInteger, primary_key=True),
        *(Column(n, Integer, primary_key=True) for n in keys[:30]),
        Column("number", BigInteger, nullable=False),
        *(Column(n, BigInteger, nullable=False) for n in measures),
    )
    named = {"key_id": "id"} | {n: n for n in keys[:30]}
    columns = [rows.c[c].label(n) for n, c in named.items()]
    sums = [func.sum(rows.c[n], type_=BigInteger).label(n) for n in measures]
    chosen = select(*columns, func.count().label("number"), *sums)
    tally: Tally
    if kind == "select":
        grouped = chosen.group_by(*(rows.c[c] for c in named.values()))
        tally = SelectTally("odd.d", select=grouped, table=table)
    else:
        tally = RecomputedTally(
            system="odd",
            table=table,
            key=list(named),
            measures=["number", *measures],
            captures=[Capture(rows, key=lambda row: {n: row[c] for n, c in named.items()})],
            aggregate=lambda scope: chosen.where(
                *scope(**{n: rows.c[c] for n, c in named.items()})
            ).group_by(*(rows.c[c] for c in named.values())),
        )
    create(engine, System("odd", metadata, [tally]))
    execute(engine, "INSERT INTO odd.rows (id) VALUES (1), (2), (3)")
    refresh(engine, tally)
    assert verify(engine, tally).ok
    quoted = '"' + measures[0].replace('"', '""') + '"'
    execute(
        engine,
        f"UPDATE odd.rows SET {quoted} = 5, id = id + 10 WHERE id < 3",
        "INSERT INTO odd.rows (id) VALUES (4)",
        "DELETE FROM odd.rows WHERE id = 3",
    )
    assert scalar(engine, f"SELECT sum({quoted}) FROM odd.d_live") == 11
    assert verify(engine, tally).ok
    refresh(engine, tally)
    execute(engine, CLAIM_WRITING, "UPDATE odd.d SET number = 7")
    assert verify(engine, tally).differing == 3
    rebuild(engine, tally)
    assert verify(engine, tally).ok


REFUSED = {
    "a row type": (recomputed, Named("odd.place"), "k is odd.place, a row type; give each of its"),
    "citext": (selected, CITEXT(), "k is citext, a type of an extension"),
    "ltree": (recomputed, Named("ltree"), "make the key text, as in cast(row.k, Text)"),
}


@pytest.fixture
def debian(postgres_servers: Any) -> Any:
    """A server that has extensions at hand."""
    from tallykeeper.database.connections import open_engine

    with postgres_servers.fresh_database(15) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


@pytest.mark.parametrize("name", REFUSED)
def test_a_key_that_cannot_be_compared_is_refused(debian: Engine, name: str) -> None:
    make, type_, sentence = REFUSED[name]
    if name in {"citext", "ltree"}:
        execute(debian, f"CREATE EXTENSION {name}")
    metadata = MetaData(schema="odd")
    tally = make(metadata, "odd", type_, nullable=False)
    with pytest.raises(DoesNotFit) as caught:
        create(debian, System("odd", metadata, [tally]))
    assert sentence in str(caught.value)


def test_the_advice_for_a_type_of_an_extension_leads_through(debian: Engine) -> None:
    execute(debian, "CREATE EXTENSION citext")
    metadata = MetaData(schema="odd")
    rows = source(metadata, "t", CITEXT(), nullable=False)
    k: Label[Any] = cast(rows.c.k, Text).label("k")
    table = derived(metadata, "t", Text(), nullable=False)
    tally = SelectTally("odd.t", select=select(k, func.count().label("n")).group_by(k), table=table)
    create(debian, System("odd", metadata, [tally]))
    check(debian, tally, "'Ann'", "'ANN'")


def test_a_foreign_table_as_partition_is_refused(debian: Engine) -> None:
    execute(debian, "CREATE EXTENSION postgres_fdw")
    metadata = MetaData(schema="odd")
    tally = selected(metadata, "t", Integer(), nullable=False)
    parts = (
        "DROP TABLE odd.t_source",
        "CREATE TABLE odd.t_source (id bigint, k integer NOT NULL) PARTITION BY RANGE (id)",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
    )
    attached = (
        "CREATE FOREIGN TABLE odd.far PARTITION OF odd.t_source FOR VALUES FROM (0) TO (10)"
        " SERVER elsewhere"
    )
    with pytest.raises(DoesNotFit, match=r"odd\.far is a foreign table, in which no trigger sees"):
        create(debian, System("odd", metadata, [tally]), *parts, attached)
    execute(debian, "DROP FOREIGN TABLE odd.far")
    with debian.begin() as connection:
        install(connection, [tally])
    execute(debian, attached)
    from tallykeeper import capture_faults

    with debian.connect() as connection:
        (fault,) = capture_faults(connection, tally)
        assert fault.startswith("odd.far: ")
        with pytest.raises(DoesNotFit, match="is a foreign table"):
            require_fit(connection, [tally])


def test_heirs_and_partitions_of_partitions_may_be_foreign_too(debian: Engine) -> None:
    execute(debian, "CREATE EXTENSION postgres_fdw")
    metadata = MetaData(schema="odd")
    tally = selected(metadata, "t", Integer(), nullable=False)
    with pytest.raises(DoesNotFit, match=r"odd\.far is a foreign table"):
        create(
            debian,
            System("odd", metadata, [tally]),
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
            "CREATE FOREIGN TABLE odd.far () INHERITS (odd.t_source) SERVER elsewhere",
        )

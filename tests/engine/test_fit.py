"""An existing table fits where the engine can read or write it, and every mismatch is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Connection,
    DateTime,
    Engine,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError

from tallykeeper import (
    Capture,
    DoesNotFit,
    RecomputedTally,
    SelectTally,
    System,
)
from tallykeeper.installation.conversion import complete, convert, move_aside
from tallykeeper.installation.schema_check import (
    derived_mismatches,
    raw_mismatches,
    require_fit,
    source_mismatches,
)

metadata = MetaData(schema="shop")

sales = Table(
    "sales",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("region", String(40)),
    Column("amount", Integer, nullable=False),
    Column("note", Text, nullable=False),
)

daily_sales = Table(
    "daily_sales",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("date", DateTime(timezone=True), nullable=False),
    Column("region", String(40), nullable=True),
    Column("count", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("average", BigInteger, Computed("amount / count")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True)),
)
Index("daily_sales_key", daily_sales.c.date, daily_sales.c.region, unique=True)
Index(
    "daily_sales_without_region",
    daily_sales.c.date,
    unique=True,
    postgresql_where=daily_sales.c.region.is_(None),
)

_date = func.date_trunc("day", sales.c.at, "UTC").label("date")
tally = SelectTally(
    "shop.daily_sales",
    select=select(
        _date,
        sales.c.region,
        cast(func.count(), Integer).label("count"),
        func.sum(sales.c.amount, type_=BigInteger).label("amount"),
    ).group_by(_date, sales.c.region),
    table=daily_sales,
)
system = System("shop", metadata, [tally])


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
        yield connection
        connection.rollback()


@pytest.fixture
def made(connection: Connection) -> Connection:
    metadata.create_all(connection)
    return connection


def alter(connection: Connection, table: str, change: str) -> None:
    connection.exec_driver_sql(f"ALTER TABLE shop.{table} {change}")


def test_tables_made_from_the_declaration_fit(made: Connection) -> None:
    assert source_mismatches(made, sales, [tally]) == []
    assert derived_mismatches(made, tally) == []


def test_tables_that_are_not_there_are_no_mismatches(connection: Connection) -> None:
    require_fit(connection, [tally])


@pytest.mark.parametrize(
    "change",
    [
        "ALTER at TYPE timestamp USING at AT TIME ZONE 'UTC'",
        "ALTER at TYPE timestamp(3) USING at AT TIME ZONE 'UTC'",
        "ALTER amount TYPE smallint",
        "ALTER region TYPE text",
        "ALTER region TYPE varchar(10)",
        "ALTER region SET NOT NULL",
        "ADD extra text NOT NULL",
        # No tally reads these.
        "DROP id",
        "DROP note",
        "ALTER note TYPE jsonb USING to_jsonb(note)",
        "ALTER note DROP NOT NULL",
    ],
)
def test_a_source_fits_if_the_declared_types_hold_what_it_has(
    made: Connection, change: str
) -> None:
    alter(made, "sales", change)
    assert source_mismatches(made, sales, [tally]) == []


@pytest.mark.parametrize(
    ("change", "mismatch"),
    [
        ("DROP at", "at is missing, expected timestamp with time zone"),
        (
            "ALTER at TYPE date USING at::date",
            "at is date, expected timestamp with time zone",
        ),
        ("ALTER at TYPE text", "at is text, expected timestamp with time zone"),
        ("ALTER amount TYPE bigint", "amount is bigint, expected integer"),
        ("ALTER amount DROP NOT NULL", "amount may be null, expected NOT NULL"),
        (
            "ALTER region TYPE text[] USING ARRAY[region]",
            "region is text[], expected character varying(40)",
        ),
    ],
)
def test_a_source_does_not_fit_if_it_can_hold_more_than_is_declared(
    made: Connection, change: str, mismatch: str
) -> None:
    alter(made, "sales", change)
    assert source_mismatches(made, sales, [tally]) == [mismatch]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER date TYPE timestamp USING date AT TIME ZONE 'UTC'",
        "ALTER date TYPE timestamp(0) USING date AT TIME ZONE 'UTC'",
        "ALTER updated_at TYPE timestamp(3) USING updated_at AT TIME ZONE 'UTC'",
        "ALTER created_at TYPE timestamp USING created_at AT TIME ZONE 'UTC'",
        "ADD extra text",
        "ADD extra text NOT NULL DEFAULT 'none'",
        "ADD extra bigint GENERATED ALWAYS AS IDENTITY",
        "ADD extra bigint GENERATED ALWAYS AS (amount * 2) STORED",
        # The engine does not write these: they have to fill themselves, no more.
        "DROP id, ADD id uuid PRIMARY KEY DEFAULT gen_random_uuid()",
        "ALTER id DROP IDENTITY, ALTER id TYPE integer, ALTER id SET DEFAULT 7",
        "ALTER created_at DROP NOT NULL, ALTER created_at DROP DEFAULT",
        # It writes this one always.
        "ALTER updated_at SET NOT NULL",
    ],
)
def test_a_derived_table_fits_if_its_types_hold_what_is_declared(
    made: Connection, change: str
) -> None:
    alter(made, "daily_sales", change)
    assert derived_mismatches(made, tally) == []


def test_a_derived_table_may_have_wider_measures(made: Connection) -> None:
    alter(made, "daily_sales", "DROP average")
    alter(made, "daily_sales", "ALTER count TYPE bigint")
    alter(made, "daily_sales", "ADD average bigint GENERATED ALWAYS AS (amount / count) STORED")
    assert derived_mismatches(made, tally) == []


@pytest.mark.parametrize(
    ("change", "mismatch"),
    [
        ("DROP updated_at", "updated_at is missing, expected timestamp with time zone"),
        ("DROP created_at", "created_at is missing, expected timestamp with time zone"),
        ("DROP average", "average is missing, expected bigint"),
        (
            "DROP average, ADD average bigint",
            "average is not generated, expected GENERATED ALWAYS AS (amount / count) STORED",
        ),
        (
            "DROP average, ALTER amount TYPE integer,"
            " ADD average bigint GENERATED ALWAYS AS (1) STORED",
            "amount is integer, expected bigint",
        ),
        (
            "ALTER date TYPE date USING date::date",
            "date is date, expected timestamp with time zone",
        ),
        (
            "ALTER updated_at TYPE text",
            "updated_at is text, expected timestamp with time zone",
        ),
        (
            "ALTER region TYPE varchar(20)",
            "region is character varying(20), expected character varying(40)",
        ),
        # Nullable keys are compared as records, which are strict about types.
        ("ALTER region TYPE text", "region is text, expected character varying(40)"),
        ("ALTER region SET NOT NULL", "region is NOT NULL, but nulls belong in it"),
        ("ALTER amount DROP NOT NULL", "amount may be null, expected NOT NULL"),
        (
            "DROP updated_at, ADD updated_at timestamptz GENERATED ALWAYS AS (NULL) STORED",
            "updated_at is generated, but Tallykeeper has to write it",
        ),
        ("ALTER id DROP IDENTITY", "id is NOT NULL without a default, and nothing fills it"),
        (
            "ADD extra text NOT NULL",
            "extra is NOT NULL without a default, and nothing fills it",
        ),
    ],
)
def test_a_derived_table_does_not_fit_if_the_engine_could_not_write_it(
    made: Connection, change: str, mismatch: str
) -> None:
    alter(made, "daily_sales", change)
    assert derived_mismatches(made, tally) == [mismatch]


def test_a_derived_table_without_a_unique_key_does_not_fit(made: Connection) -> None:
    mismatch = ["no unique index on (date, region)"]
    made.exec_driver_sql("DROP INDEX shop.daily_sales_without_region")
    assert derived_mismatches(made, tally) == mismatch
    made.exec_driver_sql("DROP INDEX shop.daily_sales_key")
    made.exec_driver_sql("CREATE INDEX ON shop.daily_sales (date, region)")
    made.exec_driver_sql("CREATE UNIQUE INDEX ON shop.daily_sales (date, region, count)")
    made.exec_driver_sql("CREATE UNIQUE INDEX ON shop.daily_sales (date, coalesce(region, ''))")
    made.exec_driver_sql("CREATE UNIQUE INDEX ON shop.daily_sales (date, region) WHERE count > 5")
    assert derived_mismatches(made, tally) == mismatch


@pytest.mark.parametrize(
    "unique",
    [
        "CREATE UNIQUE INDEX ON shop.daily_sales (region, date) NULLS NOT DISTINCT",
        "CREATE UNIQUE INDEX ON shop.daily_sales (date, region) INCLUDE (count) NULLS NOT DISTINCT",
        "ALTER TABLE shop.daily_sales ADD UNIQUE NULLS NOT DISTINCT (date, region)",
    ],
)
def test_one_index_that_takes_nulls_for_equal_makes_the_key_unique(
    made: Connection, unique: str
) -> None:
    made.exec_driver_sql("DROP INDEX shop.daily_sales_without_region, shop.daily_sales_key")
    made.exec_driver_sql(unique)
    assert derived_mismatches(made, tally) == []


@pytest.mark.parametrize("table", ["sales", "daily_sales"])
def test_a_view_in_place_of_a_table_does_not_fit(connection: Connection, table: str) -> None:
    connection.exec_driver_sql(f"CREATE VIEW shop.{table} AS SELECT 1 AS id")
    with pytest.raises(DoesNotFit, match="is not a table"):
        require_fit(connection, [tally])


def test_a_partitioned_source_fits(connection: Connection) -> None:
    connection.exec_driver_sql(
        "CREATE TABLE shop.sales (id bigint, at timestamptz NOT NULL, region varchar(40),"
        " amount integer NOT NULL) PARTITION BY RANGE (at)"
    )
    assert source_mismatches(connection, sales, [tally]) == []


def test_everything_that_does_not_fit_is_said_at_once(made: Connection) -> None:
    alter(made, "sales", "DROP at")
    alter(made, "daily_sales", "DROP updated_at, ALTER amount DROP NOT NULL")
    with pytest.raises(DoesNotFit) as caught:
        require_fit(made, [tally])
    assert str(caught.value) == (
        "existing tables do not fit what their tallies declare:"
        " the source table shop.sales: at is missing, expected timestamp with time zone;"
        " the derived table shop.daily_sales: amount may be null, expected NOT NULL,"
        " updated_at is missing, expected timestamp with time zone."
        " Nothing was changed; of a source table alter those columns (where they are always filled:"
        " `ALTER TABLE ... ALTER COLUMN ... SET NOT NULL`), or declare them as they are;"
        " of a derived table alter those columns, or run `tally migrate --move-aside`, which moves"
        " it to a schema of its own and makes another"
    )


events = Table(
    "events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", DateTime(timezone=True), primary_key=True, server_default=func.now()),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB),
    Column("error", Text),
)


@pytest.mark.parametrize(
    ("change", "mismatch"),
    [
        ("ALTER payload TYPE json", None),
        ("ALTER at TYPE timestamp", None),
        ("ALTER kind TYPE varchar(50)", None),
        ("ALTER kind DROP NOT NULL", None),
        ("ADD extra text", None),
        ("ALTER payload TYPE text", "payload is text, expected jsonb"),
        ("ALTER at TYPE date", "at is date, expected timestamp with time zone"),
        ("ALTER error SET NOT NULL", "error is NOT NULL, but nulls belong in it"),
        ("DROP payload", "payload is missing, expected jsonb"),
        ("ADD extra text NOT NULL", "extra is NOT NULL without a default, and nothing fills it"),
        (
            "ALTER id DROP DEFAULT",
            "id is NOT NULL without a default, and nothing fills it (`ALTER TABLE shop.events"
            " ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY` does)",
        ),
    ],
)
def test_a_raw_table_fits_if_processing_can_read_and_mark_it(
    made: Connection, change: str, mismatch: str | None
) -> None:
    alter(made, "events", change)
    assert raw_mismatches(made, events) == ([] if mismatch is None else [mismatch])
    if mismatch is not None:
        with pytest.raises(DoesNotFit) as caught:
            require_fit(
                made, [], raw=[events], of_systems=[([sales], "no"), ([events], "or bring it over")]
            )
        assert f"the source table shop.events: {mismatch}" in str(caught.value)
        assert str(caught.value).endswith("; or bring it over")


def test_a_raw_table_is_given_the_columns_that_processing_alone_writes(made: Connection) -> None:
    alter(made, "events", "DROP error, DROP kind, DROP payload")
    assert complete(made, events, ["error"]) == ["added the column error to shop.events"]
    assert raw_mismatches(made, events) == [
        "kind is missing, expected text",
        "payload is missing, expected jsonb",
    ]
    assert complete(made, events, ["error"]) == []


def test_a_derived_table_is_converted_where_that_makes_it_fit(connection: Connection) -> None:
    connection.exec_driver_sql(
        "CREATE TABLE shop.daily_sales (updated_at timestamp, amount bigint NOT NULL,"
        " count bigint NOT NULL, region varchar(40), date timestamp,"
        " created_at timestamp NOT NULL, average bigint GENERATED ALWAYS AS (0) STORED,"
        " PRIMARY KEY (region, date))"
    )
    connection.exec_driver_sql(
        "INSERT INTO shop.daily_sales VALUES (NULL, 1, 1, 'x', '2025-01-01', now())"
    )
    assert convert(connection, tally) == [
        "converted the derived table shop.daily_sales: the primary key (date, region) became unique"
        " indexes, because region may be null, created_at has its default"
    ]
    assert derived_mismatches(connection, tally) == []
    assert convert(connection, tally) == []
    written = "INSERT INTO shop.daily_sales (date, region, count, amount) VALUES ('2025-01-01',"
    connection.exec_driver_sql(f"{written} NULL, 1, 1)")
    found = connection.exec_driver_sql("SELECT id, region FROM shop.daily_sales ORDER BY 1").all()
    assert [tuple(row) for row in found] == [(1, "x"), (2, None)]
    for region in ("'x'", "NULL"):
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.exec_driver_sql(f"{written} {region}, 1, 1)")


def test_a_key_that_nothing_fills_goes_on_after_the_highest(connection: Connection) -> None:
    metadata.create_all(connection, tables=[daily_sales])
    alter(connection, "daily_sales", "ALTER id DROP IDENTITY")
    alter(connection, "daily_sales", "ALTER id TYPE integer")
    connection.exec_driver_sql(
        "INSERT INTO shop.daily_sales (id, date, count, amount) VALUES (41, '2025-01-01', 1, 1)"
    )
    assert convert(connection, tally) == [
        "converted the derived table shop.daily_sales: id numbers itself"
    ]
    connection.exec_driver_sql(
        "INSERT INTO shop.daily_sales (date, count, amount) VALUES ('2025-01-02', 1, 1)"
    )
    found = connection.exec_driver_sql("SELECT id FROM shop.daily_sales ORDER BY 1").scalars()
    assert list(found) == [41, 42]


def test_a_table_with_another_primary_key_is_left_as_it_is(connection: Connection) -> None:
    metadata.create_all(connection, tables=[daily_sales])
    alter(connection, "daily_sales", "DROP CONSTRAINT daily_sales_pkey, ADD PRIMARY KEY (date)")
    assert convert(connection, tally) == []


OLD_COLUMNS = (
    "updated_at timestamptz, amount bigint NOT NULL, count bigint NOT NULL, region varchar(40),"
    " date timestamptz, created_at timestamptz, average bigint GENERATED ALWAYS AS (0) STORED"
)
OLD_KEY = f"{OLD_COLUMNS}, PRIMARY KEY (region, date)"
NO_ROOM = ["id is missing, expected bigint", "region is NOT NULL, but nulls belong in it"]


@pytest.mark.parametrize(
    ("there", "mismatches"),
    [
        (
            [
                f"CREATE TABLE shop.daily_sales ({OLD_KEY})",
                "CREATE TABLE shop.notes (region varchar(40), date timestamptz,"
                " FOREIGN KEY (region, date) REFERENCES shop.daily_sales)",
            ],
            NO_ROOM,
        ),
        ([f"CREATE TABLE shop.daily_sales ({OLD_KEY}) PARTITION BY HASH (date)"], NO_ROOM),
        (
            [
                f"CREATE TABLE shop.daily_sales ({OLD_KEY})",
                "CREATE VIEW shop.mine AS SELECT date, region, amount FROM shop.daily_sales"
                " GROUP BY region, date",
            ],
            NO_ROOM,
        ),
        (
            [
                f"CREATE TABLE shop.older ({OLD_COLUMNS}) PARTITION BY HASH (date)",
                "ALTER TABLE shop.older ADD PRIMARY KEY (region, date)",
                "CREATE TABLE shop.daily_sales PARTITION OF shop.older"
                " FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            ],
            NO_ROOM,
        ),
        (
            [
                f"CREATE TABLE shop.daily_sales (id bigserial PRIMARY KEY, {OLD_COLUMNS})",
                "ALTER TABLE shop.daily_sales DROP created_at, ADD created_at bytea NOT NULL",
                "CREATE UNIQUE INDEX ON shop.daily_sales (date, region)",
                "CREATE UNIQUE INDEX ON shop.daily_sales (date) WHERE region IS NULL",
            ],
            ["created_at is NOT NULL without a default, and nothing fills it"],
        ),
    ],
    ids=["foreign key", "partitioned", "view", "partition", "default"],
)
def test_what_hinders_a_conversion_leaves_the_table_as_it_is_and_is_refused(
    connection: Connection, there: list[str], mismatches: list[str]
) -> None:
    for statement in there:
        connection.exec_driver_sql(statement)
    assert convert(connection, tally) == []
    found = derived_mismatches(connection, tally)
    assert set(mismatches) <= set(found)
    with pytest.raises(DoesNotFit, match="run `tally migrate --move-aside`"):
        require_fit(connection, [tally])
    assert "moved shop.daily_sales" in move_aside(connection, daily_sales)
    metadata.create_all(connection, tables=[daily_sales])
    assert derived_mismatches(connection, tally) == []


def test_a_measure_that_may_be_null_makes_room_for_nulls(connection: Connection) -> None:
    prices = MetaData(schema="shop")
    latest = Table(
        "latest",
        prices,
        Column("region", String(40), primary_key=True),
        Column("amount", Integer),
        Column("note", Text),
    )
    recomputed = RecomputedTally(
        system="shop",
        table=latest,
        key=["region"],
        measures=["amount", "note"],
        captures=[Capture(sales, key=lambda sale: {"region": sale.region})],
        aggregate=lambda scope: (
            select(
                sales.c.region,
                func.max(sales.c.amount).label("amount"),
                func.max(sales.c.note).label("note"),
            )
            .where(*scope(region=sales.c.region))
            .group_by(sales.c.region)
        ),
    )
    prices.create_all(connection)
    alter(connection, "latest", "ALTER amount SET NOT NULL, ALTER note SET NOT NULL")
    # A default makes no room for a null.
    alter(connection, "latest", "ALTER note SET DEFAULT 'none'")
    assert convert(connection, recomputed) == [
        "converted the derived table shop.latest: amount may be null, note may be null"
    ]
    assert derived_mismatches(connection, recomputed) == []
    connection.exec_driver_sql("INSERT INTO shop.latest VALUES ('x', NULL, NULL)")
    assert convert(connection, recomputed) == []


def test_what_is_moved_aside_keeps_its_rows_and_makes_room(connection: Connection) -> None:
    for number, schema in enumerate(("shop_aside", "shop_aside_2")):
        metadata.create_all(connection, tables=[daily_sales])
        connection.exec_driver_sql(
            f"INSERT INTO shop.daily_sales (date, count, amount) VALUES ('2025-01-01', {number}, 1)"
        )
        assert move_aside(connection, daily_sales) == (
            f"moved shop.daily_sales, which does not fit, to the schema {schema}"
        )
        kept = connection.exec_driver_sql(f"SELECT count FROM {schema}.daily_sales").scalar_one()
        assert kept == number


def test_what_goes_by_a_table_that_is_moved_aside_is_named(connection: Connection) -> None:
    for statement in (
        "CREATE TABLE shop.daily_sales (date date PRIMARY KEY) PARTITION BY RANGE (date)",
        "CREATE TABLE shop.first PARTITION OF shop.daily_sales DEFAULT",
        "CREATE SCHEMA other",
        "CREATE TABLE other.split PARTITION OF shop.daily_sales"
        " FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
        "CREATE VIEW other.mine AS SELECT * FROM shop.daily_sales",
        'CREATE MATERIALIZED VIEW shop."Mine" AS SELECT * FROM shop.first',
        "CREATE VIEW shop.over_it AS SELECT * FROM other.mine",
        "CREATE VIEW shop.daily_sales_live AS SELECT * FROM shop.daily_sales",
        "CREATE TABLE shop.notes (date date REFERENCES shop.daily_sales)",
        "INSERT INTO shop.daily_sales VALUES ('2025-01-01'), ('2020-05-01')",
        # The name of one of its parts is in use there.
        "CREATE SCHEMA shop_aside",
        "CREATE TABLE shop_aside.first ()",
    ):
        connection.exec_driver_sql(statement)
    assert move_aside(connection, daily_sales, "as it is old", ["shop.daily_sales_live"]) == (
        "moved shop.daily_sales, as it is old, to the schema shop_aside_2; what still goes by it"
        ' is to be made anew: the foreign key of shop.notes, the materialized view shop."Mine",'
        " the view other.mine"
    )
    found = connection.exec_driver_sql(
        "SELECT tableoid::regclass::text FROM shop_aside_2.daily_sales ORDER BY 1"
    )
    assert list(found.scalars()) == ["other.split", "shop_aside_2.first"]

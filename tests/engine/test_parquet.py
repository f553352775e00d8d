"""Rows written to Parquet and read back are the same rows, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Connection, Engine

from tallykeeper.database import sessions, sql
from tallykeeper.parquet import reading, writing
from tallykeeper.parquet.columns import INFINITE_DAY, INFINITE_MOMENT, columns_of

# Each type with odd values of it, in SQL.
TEXTS = r"""NULL,'','a',E'a\n"b",\\',E'\r','\.','NULL',' x ','é',E'\t','ß','😀'"""
MOMENTS = (
    "NULL,'infinity','-infinity','epoch','0001-01-01','9999-12-31 23:59:59.999999','10000-01-01',"
    "'4714-11-24 00:00 BC','294246-12-31 23:59:59.999999','2024-02-29 12:00:00.000001',"
    "'1969-12-31 23:59:59.999999'"
)
VALUES = {
    "boolean": "NULL,true,false",
    "smallint": "NULL,-32768,32767",
    "integer": "NULL,-2147483648,2147483647",
    "bigint": "NULL,-9223372036854775808,9223372036854775807,0",
    "real": "NULL,'NaN','Infinity','-Infinity','-0',1e-45,3.4028235e38,0.1",
    "double precision": "NULL,'NaN','Infinity','-Infinity','-0',5e-324,1.7976931348623157e308,0.1",
    "numeric(12,2)": "NULL,0,-0.01,9999999999.99",
    "numeric(38,0)": f"NULL,{'9' * 38},-{'9' * 38}",
    "numeric(5,-2)": "NULL,12300,0",
    "numeric": "NULL,'NaN','Infinity','-Infinity',1.0,1.00,1e-100,1e100",
    "text": TEXTS,
    'text COLLATE "C"': TEXTS,
    "character varying(9)": TEXTS,
    "character(9)": TEXTS,
    '"char"': "NULL,'','a'",
    "name": "NULL,'a'",
    "uuid": "NULL,'00000000-0000-0000-0000-000000000000','ffffffff-ffff-ffff-ffff-ffffffffffff'",
    "json": 'NULL,\'null\',\'{"b": 1,  "a": [1.0,"\\u00e9"]}\'',
    "jsonb": 'NULL,\'null\',\'{"b": 1.00, "a": [1e400,"\\""]}\'',
    "bytea": r"NULL,'','\x00ff','\x5c0a22'",
    "timestamp with time zone": MOMENTS,
    "timestamp(3) with time zone": "NULL,'infinity','2024-02-29 12:00:00.001'",
    "timestamp without time zone": MOMENTS,
    "date": "NULL,'infinity','-infinity','4714-11-24 BC','5874897-12-31','1970-01-01','1969-12-31'",
    "time": "NULL,'24:00:00','00:00:00.000001'",
    "interval": "NULL,'1 mon -1 days','infinity'",
    "inet": "NULL,'::1','10.0.0.0/8'",
    "int4range": "NULL,'empty','[1,5)','(,)'",
    "point": "NULL,'(0.1,1e300)'",
    "boolean[]": "NULL,'{}','{NULL,t}'",
    "integer[]": "NULL,'{}','{NULL,1,-2147483648}'",
    "bigint[]": "NULL,'{}','{9223372036854775807}'",
    "text[]": r"""NULL,'{}','{NULL,"NULL",""}',array['a"',E'\n\\','{',',']""",
    "uuid[]": "NULL,'{ffffffff-ffff-ffff-ffff-ffffffffffff}'",
    "timestamp with time zone[]": "NULL,'{}','{NULL,infinity,-infinity,9999-12-31}'",
    "date[]": "NULL,'{}','{NULL,infinity,1969-12-31}'",
    "numeric[]": "NULL,'{1.0,1.00,NaN}'",
    "integer[][]": "NULL,'{}','{{1,2},{3,4}}'",
    "smallint[]": "NULL,'[0:1]={1,2}'",
    "mood": "NULL,'sad','very happy'",
    "mood[]": "NULL,'{}','{sad,NULL}'",
    "small": "NULL,1",
    "smaller": "NULL,1.50",
    "moods": "NULL,'{sad,NULL}'",
    "pair": "NULL,ROW(1,'a,b'),ROW(NULL,NULL)",
}
TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'very happy');
CREATE DOMAIN small AS integer CHECK (VALUE < 10);
CREATE DOMAIN bounded AS numeric(6,2);
CREATE DOMAIN smaller AS bounded;
CREATE DOMAIN moods AS mood[];
CREATE TYPE pair AS (a integer, b text);
"""


@pytest.fixture
def connection(any_postgres_engine: Engine) -> Iterator[Connection]:
    with (
        any_postgres_engine.connect().execution_options(
            isolation_level="REPEATABLE READ"
        ) as connection,
        connection.begin(),
    ):
        sessions.begin_work(connection)
        sql.execute(connection, TYPES)
        yield connection


def make(connection: Connection, type_: str, values: str) -> None:
    if type_ == "interval" and (connection.dialect.server_version_info or ())[:1] < (17,):
        values = values.replace(",'infinity'", "")
    sql.execute(connection, f"CREATE TABLE odd (n integer, v {type_})")
    # As by an INSERT of each alone, so that no value takes the type of its neighbours.
    for n, value in enumerate(_split(values)):
        sql.execute(connection, f"INSERT INTO odd VALUES ({n}, {value})")


def _split(values: str) -> list[str]:
    parts, depth, quoted = [""], 0, False
    for character in values:
        quoted ^= character == "'"
        if not quoted:
            depth += (character in "([") - (character in ")]")
            if character == "," and not depth:
                parts.append("")
                continue
        parts[-1] += character
    return parts


def crossed(connection: Connection, path: Path, *, by_value: bool = False) -> list[str | None]:
    """The values after they were written and read, as text in the order in which they were."""
    columns = columns_of(connection, "SELECT n, v FROM odd", by_value=by_value)
    writing.write(connection, "SELECT n, v FROM odd", columns, path)
    read = reading.columns_of_file(path)
    query = reading.load(connection, read, reading.batches_of_file(path), "crossed")
    sql.execute(connection, "CREATE TEMPORARY TABLE back (LIKE odd) ON COMMIT DROP")
    sql.execute(connection, f"INSERT INTO back {query}")
    return list(sql.execute(connection, "SELECT v::text FROM back ORDER BY n").scalars())


def as_stored(connection: Connection) -> list[str | None]:
    return list(sql.execute(connection, "SELECT v::text FROM odd ORDER BY n").scalars())


@pytest.mark.parametrize("type_", VALUES)
def test_values_of_every_type_come_back_as_they_were(
    connection: Connection, tmp_path: Path, type_: str
) -> None:
    make(connection, type_, VALUES[type_])
    assert crossed(connection, tmp_path / "odd.parquet") == as_stored(connection)


@pytest.mark.parametrize("type_", VALUES)
def test_values_of_every_type_come_back_equal_where_equal_is_enough(
    connection: Connection, tmp_path: Path, type_: str
) -> None:
    make(connection, type_, VALUES[type_])
    assert crossed(connection, tmp_path / "odd.parquet", by_value=True) == as_stored(connection)


def test_files_have_the_types_that_other_programs_read(
    connection: Connection, tmp_path: Path
) -> None:
    query = (
        "SELECT 1::bigint AS a, 'infinity'::timestamptz AS b, '-infinity'::date AS c, 1.5::numeric"
        " AS d, 1.50::numeric(4,2) AS e, '{a}'::text[] AS f, 'NaN'::numeric(4,2) AS g"
    )
    types = {c.name: (c.arrow, c.lacking) for c in columns_of(connection, query)}
    assert types == {
        "a": (pa.int64(), None),
        "b": (pa.timestamp("us", "UTC"), None),
        "c": (pa.date32(), None),
        "d": (pa.string(), "numeric without a fixed scale is text"),
        "e": (pa.decimal128(4, 2), None),
        "f": (pa.list_(pa.string()), None),
        "g": (pa.string(), "numeric(4,2) with values that decimal128(4, 2) lacks is text"),
    }
    columns = columns_of(connection, query, by_value=True)
    assert columns[3].arrow == pa.decimal128(2, 1)
    assert columns[6].lacking == "numeric(4,2) with values that decimal128(4, 2) lacks is text"
    path = tmp_path / "a.parquet"
    assert writing.write(connection, query, columns, path) == 1
    table = pq.read_table(path)
    assert table.column("b").cast(pa.int64()).to_pylist() == [INFINITE_MOMENT]
    assert table.column("c").cast(pa.int32()).to_pylist() == [-INFINITE_DAY]
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_time_beyond_eight_bytes_of_microseconds_is_text(
    connection: Connection, tmp_path: Path
) -> None:
    make(connection, "timestamptz", "'294276-12-31 23:59:59.999999','2024-01-01'")
    (_, column) = columns_of(connection, "SELECT * FROM odd")
    assert column.arrow == pa.string()
    assert crossed(connection, tmp_path / "odd.parquet") == as_stored(connection)


def test_decimals_are_as_wide_as_their_values(connection: Connection) -> None:
    def of(values: str) -> tuple[pa.DataType, str | None]:
        query = f"SELECT v::numeric FROM unnest(ARRAY[{values}]::numeric[]) AS v"
        (column,) = columns_of(connection, query, by_value=True)
        return column.arrow, column.lacking

    assert of("NULL") == (pa.decimal128(1, 0), None)
    assert of("0.00") == (pa.decimal128(1, 0), None)
    assert of("-0.001, 100") == (pa.decimal128(6, 3), None)
    assert of("9" * 38) == (pa.decimal128(38, 0), None)
    assert of(f"{'9' * 38}, 0.1") == (pa.string(), "numeric with 39 digits is text")
    assert of("1e-38") == (pa.string(), "numeric with 39 digits is text")


def test_rows_cross_in_pieces_however_long_one_is(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PIECE_BYTES", 1000)
    query = "SELECT n, repeat(E'x\\n\"', n * n) AS v FROM generate_series(0, 300) AS n"
    sql.execute(connection, f"CREATE TABLE odd AS {query}")
    assert crossed(connection, tmp_path / "odd.parquet") == as_stored(connection)


def test_a_write_that_fails_leaves_no_file(connection: Connection, tmp_path: Path) -> None:
    query = "SELECT 1 / (3 - n) AS v FROM generate_series(1, 3) AS n"
    columns = columns_of(connection, "SELECT 1 AS v")
    with pytest.raises(Exception, match="division by zero"):
        writing.write(connection, query, columns, tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_program_is_no_file_of_ours(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="the column 'a' does not say which type of PostgreSQL"):
        reading.columns_of_file(tmp_path / "a.parquet")

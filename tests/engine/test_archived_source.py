"""Any partitioned table as an archived source: odd values, odd keys, and columns that change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import BigInteger, Column, DateTime, Engine, MetaData, Table, Text

from tallykeeper import DeclarationError, System
from tallykeeper.archive import runs, verification
from tallykeeper.archive.files import NotWhatWasWritten
from tallykeeper.archive.loading import DoesNotLoad, load
from tallykeeper.archive.store import ArchiveUnavailable, Store, open_store
from tallykeeper.catalog import state
from tallykeeper.parquet import writing
from tallykeeper.partitions import drops, records
from tallykeeper.partitions.records import ArchivedFile
from tallykeeper.partitions.sources import ArchivedSource
from tallykeeper.settings import SettingError
from tests.integration.support import execute, rows, scalar

metadata = MetaData(schema="shop")
visits = Table(
    "Visits of all",
    metadata,
    Column("shop", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("seen", DateTime, primary_key=True),
)
SOURCE = ArchivedSource("shop", visits, column="seen", after_days=lambda: 30)
TABLE = 'shop."Visits of all"'
VALUES = """
('a', 1, '2026-01-31 23:59:59.999999', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
('b"c', -5, '2026-01-01', 'infinity', '-infinity', 'NaN', 1.00, '{"b":1.0,"a":[1e2,"\\u0041"]}',
  '{1,NULL,3}', 'line\nnext'),
('', 9223372036854775807, '2026-01-02', '0044-03-15 BC', '2026-02-30'::text::date - 0, 1e-300,
  123456789012345678901234567890.123456789, 'null', '{}', '')
""".replace("'2026-02-30'::text::date - 0", "'5874897-12-31'")


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A month of visits, in a partition whose columns stand in another order."""
    execute(
        engine,
        "CREATE SCHEMA shop",
        f"CREATE TABLE {TABLE} (shop text, number bigint, seen timestamp, at timestamptz,"
        " day date, weight double precision, price numeric, said jsonb, parts int[], words text,"
        " PRIMARY KEY (shop, number, seen)) PARTITION BY RANGE (seen)",
        'CREATE TABLE shop."Jan 2026" (words text, parts int[], said jsonb, price numeric,'
        " weight double precision, day date, at timestamptz, seen timestamp NOT NULL,"
        " number bigint NOT NULL, shop text NOT NULL)",
        f'ALTER TABLE {TABLE} ATTACH PARTITION shop."Jan 2026"'
        " FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        f"INSERT INTO {TABLE} VALUES {VALUES}",
    )
    with engine.begin() as connection:
        state.create(connection)
        assert drops.install(connection, SOURCE) == [
            'created the function tallykeeper."shop_Visits of all_drop_partition"'
        ]
        assert drops.install(connection, SOURCE) == []
    return engine


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TALLY_ARCHIVE", str(tmp_path))
    return open_store()


def archived(shop: Engine, store: Store) -> ArchivedFile:
    done = runs.archive(shop, SOURCE, store, before=date(2026, 3, 1))
    assert (done.kept, done.left_alone, done.rows) == ({}, None, 3)
    with shop.begin() as connection:
        (file,) = records.files(connection, SOURCE)
    return file


def staged(shop: Engine) -> None:
    execute(
        shop,
        f"CREATE TABLE shop.staged (LIKE {TABLE})",
        "ALTER TABLE shop.staged ADD COLUMN archived_file bigint",
    )


def test_odd_values_come_back_as_they_were(shop: Engine, store: Store) -> None:
    file = archived(shop, store)
    staged(shop)
    assert load(shop, store, file, "shop.staged") == 3
    kept = "SELECT r::text FROM (SELECT {} FROM {}) AS r ORDER BY 1"
    names = "shop, number, seen, at, day, weight, price, said, parts, words"
    before = rows(shop, kept.format(names, TABLE))
    assert rows(shop, kept.format(names, "shop.staged")) == before
    execute(shop, "TRUNCATE shop.staged")
    assert load(shop, store, file, "shop.staged", where="r.number < 0") == 1


def test_a_partition_with_its_columns_in_another_order_is_dropped(
    shop: Engine, store: Store
) -> None:
    archived(shop, store)
    kept = runs.drop_due(shop, SOURCE, store, before=date(2026, 1, 31))
    assert (kept.dropped, kept.kept) == ([], {})
    done = runs.drop_due(shop, SOURCE, store, before=date(2026, 3, 1))
    assert (done.dropped, done.kept) == (['shop."Jan 2026"'], {})
    assert verification.status(shop, SOURCE).dropped == 1


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE {TABLE} SET price = 1.0 WHERE number = -5",
        f"DELETE FROM {TABLE} WHERE number = -5",
        f"INSERT INTO {TABLE} (shop, number, seen) VALUES ('z', 0, '2026-01-09')",
        f"ALTER TABLE {TABLE} ADD COLUMN later text",
    ],
)
def test_any_change_after_the_archive_keeps_the_partition(
    shop: Engine, store: Store, change: str
) -> None:
    archived(shop, store)
    execute(shop, change)
    done = runs.drop_due(shop, SOURCE, store, before=date(2026, 3, 1))
    assert done.kept == {
        'shop."Jan 2026"': f"{drops.CHANGED}; archived anew, to be dropped the next time"
    }
    assert runs.drop_due(shop, SOURCE, store, before=date(2026, 3, 1)).kept == {}


@pytest.mark.parametrize("fault", ["a value", "a row"])
def test_a_file_that_is_not_what_was_read_is_not_recorded(
    shop: Engine, store: Store, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    real = writing.write

    def faulty(connection: Any, query: str, columns: Any, path: Path) -> int:
        rows = real(connection, query, columns, path)
        table = pq.read_table(path)
        if fault == "a row":
            table = table.slice(1)
        else:
            place = table.schema.get_field_index("words")
            words = pa.array(["x"] * table.num_rows)
            table = table.set_column(place, table.schema.field(place), words)
        pq.write_table(table, path)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write", faulty)
        with pytest.raises(NotWhatWasWritten, match="nothing was recorded"):
            archived(shop, store)
    with shop.begin() as connection:
        assert [file.state for file in records.files(connection, SOURCE)] == [records.WRITING]
    archived(shop, store)


def test_columns_may_come_and_go_between_archive_and_loading(shop: Engine, store: Store) -> None:
    file = archived(shop, store)
    staged(shop)
    execute(
        shop,
        "ALTER TABLE shop.staged DROP COLUMN words, ADD COLUMN later integer,"
        " ALTER COLUMN number TYPE text USING number::text",
    )
    assert load(shop, store, file, "shop.staged") == 3
    assert rows(shop, "SELECT number, later FROM shop.staged WHERE shop = 'a'") == [("1", None)]
    execute(
        shop, "TRUNCATE shop.staged", "ALTER TABLE shop.staged ALTER COLUMN shop TYPE int USING 1"
    )
    with pytest.raises(DoesNotLoad, match=r"do not fit shop\.Visits of all as it is now"):
        load(shop, store, file, "shop.staged")
    assert scalar(shop, "SELECT count(*) FROM shop.staged") == 0


def test_what_is_not_partitioned_so_is_left_alone(shop: Engine, store: Store) -> None:
    execute(shop, f"DROP TABLE {TABLE}")
    done = runs.archive(shop, SOURCE, store)
    assert done.left_alone == f"there is no table {TABLE}"
    execute(shop, f"CREATE TABLE {TABLE} (seen timestamp)")
    assert "is not partitioned" in str(verification.status(shop, SOURCE).left_alone)
    execute(
        shop,
        f"DROP TABLE {TABLE}",
        f"CREATE TABLE {TABLE} (seen timestamp) PARTITION BY LIST (seen)",
    )
    done = runs.archive(shop, SOURCE, store)
    assert done.left_alone == f"{TABLE} is partitioned by LIST (seen), not by RANGE (seen)"


def test_a_declaration_that_cannot_be_archived_is_refused() -> None:
    plain = Table("plain", MetaData(), Column("at", DateTime))
    with pytest.raises(DeclarationError, match="it has no primary key"):
        ArchivedSource("shop", plain, column="at", after_days=lambda: 1)
    with pytest.raises(DeclarationError, match="there is no column 'on'"):
        ArchivedSource("shop", plain, column="on", after_days=lambda: 1)


def test_a_system_keeps_its_archived_sources_when_it_gets_more_tallies() -> None:
    system = System("shop", metadata, [], archived=[SOURCE])
    assert system.with_tallies([]).archived == (SOURCE,)


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/folder", "s3://bucket/folder?token=secret", "S3://x"]
)
def test_an_address_with_credentials_is_refused_and_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_ARCHIVE", address)
    with pytest.raises(SettingError) as raised:
        open_store()
    assert "secret" not in str(raised.value)


def test_an_address_that_no_package_knows_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_ARCHIVE", "s3://bucket/folder")
    with pytest.raises(ArchiveUnavailable, match="needs a package of its own"):
        open_store()
    monkeypatch.setenv("TALLY_ARCHIVE", "nowhere://bucket")
    with pytest.raises(ArchiveUnavailable, match="cannot open the archive"):
        open_store()
    for value in ("", "none"):
        monkeypatch.setenv("TALLY_ARCHIVE", value)
        with pytest.raises(SettingError, match="TALLY_ARCHIVE"):
            open_store()


def test_a_month_that_is_not_over_is_not_archived(shop: Engine, store: Store) -> None:
    year = datetime.now(UTC).year + 1
    execute(
        shop,
        f"CREATE TABLE shop.later PARTITION OF {TABLE}"
        f" FOR VALUES FROM ('2026-02-01') TO ('{year}-01-01')",
        f"INSERT INTO {TABLE} (shop, number, seen) VALUES ('z', 0, '2026-02-09')",
    )
    done = runs.archive(shop, SOURCE, store, before=date(year + 1, 1, 1))
    assert len(done.written) == 1
    with shop.begin() as connection:
        assert drops.drop(connection, SOURCE, "shop.later", lost=True).why == (
            "is no partition of a time that is over"
        )

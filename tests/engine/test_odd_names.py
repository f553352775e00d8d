"""Columns that are named by words of SQL, or by what the engine writes in its own texts."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, Table, func, select, text

from tallykeeper import SelectTally, install, refresh, verify
from tallykeeper.database import sql
from tests.integration.support import execute, rows

WORDS = ("least", "position", "between", "setof", "xmlforest", "timestamp", "{fresh}", "inner")


def tally_of(words: tuple[str, ...]) -> SelectTally:
    metadata = MetaData(schema="odd")
    key = words[0]
    source = Table(
        "source",
        metadata,
        Column("id", BigInteger, primary_key=True),
        *(Column(word, Integer, nullable=False) for word in words),
    )
    table = Table(
        "derived",
        metadata,
        Column(key, Integer, primary_key=True, autoincrement=False),
        *(Column(word, BigInteger, nullable=False) for word in words[1:]),
        Column("count", BigInteger, nullable=False),
    )
    of_keys = select(
        source.c[key],
        *(func.sum(source.c[word], type_=BigInteger).label(word) for word in words[1:]),
        func.count().label("count"),
    ).group_by(source.c[key])
    return SelectTally("odd.derived", select=of_keys, table=table)


# A column of the log of amounts.
LOGGED = ("logged_at", *WORDS[1:])


@pytest.mark.parametrize("words", [WORDS, WORDS[::-1], LOGGED, LOGGED[::-1]])
def test_columns_named_by_words_of_sql_are_counted(
    any_postgres_engine: Engine, words: tuple[str, ...]
) -> None:
    engine = any_postgres_engine
    tally = tally_of(words)
    columns = ", ".join(f'"{word}" integer NOT NULL' for word in words)
    sums = ", ".join(f'"{word}" bigint NOT NULL' for word in words[1:])
    execute(
        engine,
        "CREATE SCHEMA odd",
        f"CREATE TABLE odd.source (id bigint PRIMARY KEY, {columns})",
        f'CREATE TABLE odd.derived ("{words[0]}" integer PRIMARY KEY, {sums},'
        ' "count" bigint NOT NULL)',
        "INSERT INTO odd.source SELECT n, n % 3, 1, 2, 3, 4, 5, 6, 7 FROM generate_series(1, 9) n",
    )
    with engine.begin() as connection:
        install(connection, [tally])
    refresh(engine, tally)
    execute(
        engine,
        "DELETE FROM odd.source WHERE id < 3",
        f'UPDATE odd.source SET "{words[0]}" = 5, "{words[1]}" = 9 WHERE id = 4',
    )
    expected = [(0, 3), (1, 1), (2, 2), (5, 1)]
    live = f'SELECT "{words[0]}", "count" FROM odd.derived_live ORDER BY 1'
    assert rows(engine, live) == expected
    assert verify(engine, tally).ok
    refresh(engine, tally)
    assert rows(engine, live) == expected
    assert verify(engine, tally).ok


def test_every_word_that_postgresql_would_quote_is_quoted(any_postgres_engine: Engine) -> None:
    with any_postgres_engine.connect() as connection:
        words = connection.scalars(text("SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'"))
        assert [word for word in words if sql.quote(word) == word] == []

"""A gallery's tables made or adopted: arrays, uuids, nullable keys, sources that are partitions."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import content_tags, gen_source_stats, system
from tallykeeper import DoesNotFit, refresh, verify
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar

CREATED = [f"created the derived table {tally.name}" for tally in system.tallies]
STRATEGIES = ["delta", "group", "group", "delta"]
COMPILED = [
    f"compiled {tally.name}: {strategy}"
    for tally, strategy in zip(system.tallies, STRATEGIES, strict=True)
]
INSTALLED = [
    *COMPILED,
    *(f"installed {tally.name} (never built)" for tally in system.tallies),
]
USER, TAG, OTHER = (f"00000000-0000-0000-0000-00000000000{n}" for n in range(3))
COLUMNS = (
    " title text, content_type text, creator_id uuid NOT NULL REFERENCES gallery.users,"
    " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
    " is_private boolean NOT NULL DEFAULT false, tags uuid[] NOT NULL DEFAULT '{}'"
)
PEOPLE = (
    "CREATE SCHEMA gallery",
    "CREATE TABLE gallery.users (id uuid PRIMARY KEY, username text)",
    "CREATE TABLE gallery.tags (id uuid PRIMARY KEY, name text NOT NULL UNIQUE)",
)
ITEMS = tuple(
    f"CREATE TABLE gallery.{name} (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,{COLUMNS})"
    for name in ("content_items", "content_items_auto")
)
PARTITIONED = (
    f"CREATE TABLE gallery.content_items_all (id integer NOT NULL,{COLUMNS},"
    " source_type text NOT NULL, PRIMARY KEY (id, source_type)) PARTITION BY LIST (source_type)",
    "CREATE TABLE gallery.content_items PARTITION OF gallery.content_items_all"
    " FOR VALUES IN ('regular')",
    "CREATE TABLE gallery.content_items_auto PARTITION OF gallery.content_items_all"
    " FOR VALUES IN ('auto')",
)
JUNCTION = (
    "CREATE TABLE gallery.content_tags (content_id bigint, content_source text, tag_id uuid,"
    " PRIMARY KEY (tag_id, content_id, content_source))"
)
STATS = (
    "CREATE TABLE gallery.gen_source_stats (id serial PRIMARY KEY, user_id uuid,"
    " source_type varchar(10) NOT NULL, count integer NOT NULL, updated_at timestamptz)"
)
TWICE = "INSERT INTO gallery.gen_source_stats (source_type, count) VALUES ('auto', 1), ('auto', 2)"
LEFT_OUT = (
    "CREATE TABLE gallery.content_tags_left_out (content_id integer, content_source varchar(10),"
    " unknown_tags uuid[] NOT NULL, null_elements integer NOT NULL,"
    " PRIMARY KEY (content_id, content_source))"
)
PAIRS = "SELECT content_id, content_source, tag_id::text FROM gallery.content_tags ORDER BY 1, 2, 3"


def test_a_new_installation_has_all_that_is_declared(engine: Engine) -> None:
    done = migrate(engine, [system], with_sources=True).done
    assert done[0] == "created the schema gallery"
    assert done[5:] == CREATED + INSTALLED
    assert migrate(engine, [system], with_sources=True).done == []


def test_every_server_takes_the_tables_and_keeps_them(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    migrate(engine, [system], with_sources=True)
    _people(engine)
    for name in ("content_items", "content_items_auto"):
        execute(engine, _item(name))
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert rows(engine, PAIRS) == [(1, "auto", TAG), (1, "regular", TAG)]


def test_a_deleted_user_or_tag_takes_its_rows_along(engine: Engine) -> None:
    migrate(engine, [system], with_sources=True)
    _people(engine)
    execute(engine, _item("content_items"))
    refresh(engine, content_tags)
    refresh(engine, gen_source_stats)
    execute(
        engine,
        f"DELETE FROM gallery.tags WHERE id = '{TAG}'",
        "DELETE FROM gallery.content_items",
        "DELETE FROM gallery.users",
    )
    assert rows(engine, PAIRS) == []
    stats = "SELECT user_id, source_type, count FROM gallery.gen_source_stats"
    assert rows(engine, stats) == [(None, "regular", 1)]
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert rows(engine, stats) == []


def test_a_junction_of_other_types_and_without_a_foreign_key_is_adopted(engine: Engine) -> None:
    execute(engine, *PEOPLE, *ITEMS, JUNCTION)
    _people(engine)
    execute(
        engine,
        _item("content_items"),
        f"INSERT INTO gallery.content_tags VALUES (7, 'auto', '{TAG}'), (1, 'regular', '{OTHER}')",
    )
    done = migrate(engine, [system]).done
    assert "adopted the derived table gallery.content_tags" in done
    assert scalar(engine, "SELECT count(*) FROM gallery.content_tags_live") == 1
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert rows(engine, PAIRS) == [(1, "regular", TAG)]
    execute(engine, f"DELETE FROM gallery.tags WHERE id = '{TAG}'")
    assert scalar(engine, "SELECT count(*) FROM gallery.content_tags_live") == 0
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert rows(engine, PAIRS) == []
    assert migrate(engine, [system]).done == []


def test_tables_that_lack_indexes_or_hold_too_little_are_completed(engine: Engine) -> None:
    execute(engine, *PEOPLE, *ITEMS, JUNCTION.replace("bigint", "smallint"), STATS)
    done = migrate(engine, [system]).done
    assert done[:2] == [
        "altered the derived table gallery.gen_source_stats: created the index"
        " gen_source_stats_community, created the index gen_source_stats_user, wrote comments",
        "altered the derived table gallery.content_tags: created the index content_tags_tag, wrote"
        " comments, content_id became integer from smallint",
    ]
    _people(engine)
    execute(engine, _item("content_items"))
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert migrate(engine, [system]).done == []


def test_leaves_of_a_partitioned_table_are_sources(engine: Engine) -> None:
    execute(engine, *PEOPLE, *PARTITIONED)
    assert migrate(engine, [system]).done == CREATED + INSTALLED
    _people(engine)
    for tally in system.tallies:
        refresh(engine, tally)
    execute(
        engine,
        "INSERT INTO gallery.content_items_all (id, source_type, creator_id, tags) VALUES"
        f" (1, 'regular', '{USER}', '{{{TAG}}}'), (1, 'auto', '{USER}', '{{{TAG},{TAG}}}')",
        "INSERT INTO gallery.content_items (id, source_type, creator_id, tags) VALUES"
        f" (2, 'regular', '{USER}', '{{{TAG}}}')",
        "UPDATE gallery.content_items_all SET source_type = 'auto' WHERE id = 2",
    )
    assert scalar(engine, "SELECT count(*) FROM gallery.content_tags_live") == 3
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    found = [(1, "auto", TAG), (1, "regular", TAG), (2, "auto", TAG)]
    assert rows(engine, PAIRS) == found
    assert migrate(engine, [system]).done == []


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (
            (*ITEMS, JUNCTION.replace("tag_id uuid", "tag_id text")),
            "the derived table gallery.content_tags: tag_id is text, expected uuid",
        ),
        (
            (*ITEMS, JUNCTION.replace("bigint", "real")),
            "content_id is real, expected integer",
        ),
        (
            (*ITEMS, JUNCTION.replace("tag_id, content_id,", "content_id,")),
            "no unique index on (content_id, content_source, tag_id)",
        ),
        (
            (*ITEMS, LEFT_OUT.replace("uuid[]", "text[]")),
            "unknown_tags is text[], expected uuid[]",
        ),
        (
            (*ITEMS, LEFT_OUT.replace("uuid[]", "uuid")),
            "unknown_tags is uuid, expected uuid[]",
        ),
        (
            (*ITEMS, STATS.replace("user_id uuid", "user_id uuid NOT NULL")),
            "user_id is NOT NULL, but nulls belong in it",
        ),
        ((*ITEMS, STATS, TWICE), "no unique index on (user_id, source_type)"),
        (
            tuple(sql.replace("uuid[]", "text[]") for sql in ITEMS),
            "the source table gallery.content_items: tags is text[], expected uuid[]",
        ),
        (
            tuple(sql.replace("tags uuid[] NOT NULL", "tags jsonb NOT NULL") for sql in ITEMS),
            "tags is jsonb, expected uuid[]",
        ),
    ],
)
def test_tables_that_do_not_fit_are_named(
    engine: Engine, there: tuple[str, ...], sentence: str
) -> None:
    execute(engine, *PEOPLE, *(sql.replace("DEFAULT '{}'", "") for sql in there))
    with pytest.raises(DoesNotFit) as caught:
        migrate(engine, [system])
    assert sentence in str(caught.value)
    assert scalar(engine, "SELECT to_regnamespace('tallykeeper') IS NULL")


def _people(engine: Engine) -> None:
    execute(
        engine,
        f"INSERT INTO gallery.users (id, username) VALUES ('{USER}', 'ann')",
        f"INSERT INTO gallery.tags (id, name) VALUES ('{TAG}', 'sea'), ('{OTHER}', 'sky')",
    )


def _item(table: str) -> str:
    return (
        f"INSERT INTO gallery.{table} (creator_id, tags)"
        f" VALUES ('{USER}', ARRAY['{TAG}', NULL, '{TAG}']::uuid[])"
    )


def test_counts_that_refer_to_users_are_left_out_where_there_are_none(engine: Engine) -> None:
    items = [sql.replace(" REFERENCES gallery.users", "") for sql in ITEMS]
    execute(engine, *(sql for sql in PEOPLE if ".users" not in sql), *items)
    lacking = {"gallery.gen_source_stats": ["gallery.users"]}
    assert migrate(engine, [system]).left_out == lacking

"""The fediverse's tables made or adopted: those that processing writes, and the tallies'."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.schema import CreateSchema, CreateTable

from assets.fediverse import tables
from assets.fediverse.processing.batches import process
from assets.fediverse.replay import verify_log
from assets.fediverse.tallies import system
from tallykeeper import DoesNotFit, refresh, verify
from tallykeeper.database.sql import name_of
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar

CREATED = [f"created the derived table {name_of(table)}" for table in system.derived]
INSTALLED = [f"installed {tally.name} (never built)" for tally in system.tallies]


def test_a_new_installation_has_all_that_is_declared(engine: Engine) -> None:
    done = migrate(engine, [system], with_sources=True).done
    assert [d for d in done if d.startswith("created the derived")] == CREATED
    assert done[-len(INSTALLED) :] == INSTALLED
    assert migrate(engine, [system], with_sources=True).done == []


@pytest.fixture
def listened(engine: Engine) -> Engine:
    """A database with the raw tables alone, as a client of the stream left them."""
    with engine.begin() as connection:
        connection.execute(CreateSchema("fediverse"))
        system.metadata.create_all(connection, tables=[*tables.RAW, tables.post_sentiments])
    return engine


def declared(engine: Engine, table: Any) -> str:
    """The statement that creates the table as it is declared."""
    return str(CreateTable(table).compile(engine)).replace("%%", "%")


@pytest.mark.slow
def test_every_server_takes_the_tables_and_keeps_them(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    migrate(engine, [system], with_sources=True)
    execute(
        engine,
        "INSERT INTO fediverse.instances (base_url) VALUES ('https://a.example')",
        "INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, visibility,"
        " created_at, first_seen_at, favourites_count) VALUES"
        " (1, 5, 7, 'a.example', 'public', '2025-03-01 12:30Z', now(), 4)",
        "INSERT INTO fediverse.hashtags (instance_id, name) VALUES (1, 'sea')",
        "INSERT INTO fediverse.post_hashtags SELECT 1, 5, id FROM fediverse.hashtags",
    )
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert scalar(engine, "SELECT sum(total_engagement) FROM fediverse.hashtag_hourly_stats") == 8


def test_processed_tables_that_are_there_are_adopted_with_what_they_hold(listened: Engine) -> None:
    wider = declared(listened, tables.mastodon_accounts).replace(
        "PRIMARY KEY", "note TEXT, UNIQUE (id, instance_id), PRIMARY KEY"
    )
    execute(
        listened,
        wider,
        "INSERT INTO fediverse.mastodon_accounts (instance_id, id, observed_at)"
        " VALUES (1, '2', now())",
        "CREATE TABLE fediverse.post_deletions (post_id text, instance_id bigint,"
        " deleted_at timestamp NOT NULL, PRIMARY KEY (post_id, instance_id))",
    )
    done = migrate(listened, [system]).done
    assert [d for d in done if d.startswith("adopted")] == [
        "adopted the derived table fediverse.mastodon_accounts",
        "adopted the derived table fediverse.post_deletions",
    ]
    assert len([d for d in done if d.startswith("created the derived")]) == len(CREATED) - 2
    assert scalar(listened, "SELECT count(*) FROM fediverse.mastodon_accounts") == 1
    assert migrate(listened, [system]).done == []


@pytest.mark.parametrize(
    ("table", "old", "new", "sentence"),
    [
        (tables.mastodon_posts, "language TEXT,", "", "language is missing, expected text"),
        (
            tables.mastodon_posts,
            'account_id TEXT COLLATE "C"',
            "account_id BIGINT",
            "account_id is bigint, expected text",
        ),
        (
            tables.mastodon_posts,
            "url TEXT",
            "url VARCHAR(200)",
            "url is character varying(200), expected text",
        ),
        (
            tables.mastodon_posts,
            "url TEXT",
            "url TEXT NOT NULL DEFAULT ''",
            "url is NOT NULL, but nulls belong in it",
        ),
        (
            tables.mastodon_posts,
            "visibility TEXT NOT NULL",
            "visibility TEXT",
            "visibility may be null, expected NOT NULL",
        ),
        (
            tables.mastodon_posts,
            "GENERATED ALWAYS AS (3 * reblogs_count + 2 * favourites_count + replies_count) STORED",
            "DEFAULT 0",
            "engagement_score is not generated, expected GENERATED ALWAYS AS (3 * reblogs_count"
            " + 2 * favourites_count + replies_count) STORED",
        ),
        (
            tables.mastodon_posts,
            "edited_at TIMESTAMP WITH TIME ZONE",
            "edited_at TIMESTAMP WITH TIME ZONE GENERATED ALWAYS AS (created_at) STORED",
            "edited_at is generated, but Tallykeeper has to write it",
        ),
        (
            tables.mastodon_posts,
            "PRIMARY KEY (instance_id, id)",
            "PRIMARY KEY (instance_id, id, created_at)",
            "no unique index on (instance_id, id)",
        ),
        (
            tables.mastodon_posts,
            "PRIMARY KEY",
            "shard INTEGER NOT NULL, PRIMARY KEY",
            "shard is NOT NULL without a default, and nothing fills it",
        ),
        (
            tables.hashtags,
            "CONSTRAINT hashtags_name UNIQUE (instance_id, name)",
            "CONSTRAINT hashtags_name UNIQUE (name)",
            "no unique index on (instance_id, name)",
        ),
        (
            tables.hashtags,
            "GENERATED BY DEFAULT AS IDENTITY",
            "",
            "id is NOT NULL without a default, and nothing fills it",
        ),
        (
            tables.post_hashtags,
            "CREATE TABLE fediverse.post_hashtags",
            "CREATE VIEW fediverse.post_hashtags AS SELECT 1 AS post_id",
            "the derived table fediverse.post_hashtags: it is not a table",
        ),
        (
            tables.media_attachments,
            "position SMALLINT",
            "position REAL",
            "position is real, expected smallint",
        ),
    ],
)
def test_processed_tables_that_do_not_fit_are_named_and_nothing_is_changed(
    listened: Engine, table: Any, old: str, new: str, sentence: str
) -> None:
    statement = declared(listened, table)
    if new.startswith("CREATE VIEW"):
        statement = new
    else:
        assert old in statement
        statement = statement.replace(old, new)
    execute(listened, statement)
    before = scalar(listened, "SELECT count(*) FROM pg_class")
    with pytest.raises(DoesNotFit) as caught:
        migrate(listened, [system])
    assert sentence in str(caught.value)
    assert f"the derived table {name_of(table)}: " in str(caught.value)
    assert "Nothing was changed" in str(caught.value)
    assert scalar(listened, "SELECT count(*) FROM pg_class") == before


LINKED = (
    "SELECT h.name, s.posts_using_tag FROM fediverse.hashtag_hourly_stats_live AS s"
    " JOIN fediverse.hashtags AS h ON h.id = s.hashtag_id ORDER BY 1"
)


def observe(engine: Engine, post: int, tag: str) -> None:
    """Let an event tell of a post with a hashtag."""
    payload = {
        "id": str(post),
        "created_at": "2025-03-01T10:00:00Z",
        "visibility": "public",
        "content": "x",
        "account": {"id": "8", "acct": "ann"},
        "tags": [{"name": tag}],
    }
    execute(
        engine,
        "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type, payload)"
        f" VALUES (1, '2025-03-01 10:00:0{post}Z', 'update', '{json.dumps(payload)}')",
    )


def test_a_processed_table_that_does_not_fit_moves_aside_with_all_that_are_processed(
    listened: Engine,
) -> None:
    unnumbered = declared(listened, tables.hashtags).replace("GENERATED BY DEFAULT AS IDENTITY", "")
    execute(
        listened,
        "CREATE TABLE fediverse.stream_events_default PARTITION OF fediverse.stream_events DEFAULT",
        "INSERT INTO fediverse.instances (base_url) VALUES ('https://a.example')",
        unnumbered,
        declared(listened, tables.mastodon_posts),
        declared(listened, tables.post_hashtags),
        "CREATE TABLE fediverse.followed (server bigint, tag bigint,"
        " FOREIGN KEY (server, tag) REFERENCES fediverse.hashtags)",
        "INSERT INTO fediverse.hashtags (id, instance_id, name) VALUES (1, 1, 'forest')",
        "INSERT INTO fediverse.post_hashtags VALUES (1, '1', 1)",
    )
    observe(listened, 1, "sea")
    execute(listened, "UPDATE fediverse.stream_events SET processed_at = now()")
    done = migrate(listened, [system], move_aside=True).done
    to, along = "to the schema fediverse_aside", "which goes with fediverse.hashtags"
    assert [what for what in done if what.startswith("moved")] == [
        f"moved fediverse.mastodon_posts, {along}, {to}",
        f"moved fediverse.hashtags, which does not fit, {to}; what still goes by it is to be made"
        " anew: the foreign key of fediverse.followed",
        f"moved fediverse.post_hashtags, {along}, {to}",
    ]
    assert process(listened).posts == 1
    for tally in system.tallies:
        refresh(listened, tally)
    assert rows(listened, LINKED) == [("sea", 1)]
    assert rows(listened, "SELECT * FROM fediverse_aside.post_hashtags") == [(1, "1", 1)]
    assert verify_log(listened).ok


@pytest.mark.parametrize("table", ["hashtags", "post_mentions", "hourly_stats"])
def test_what_tallykeeper_itself_derived_of_events_is_not_moved_aside(
    engine: Engine, table: str
) -> None:
    migrate(engine, [system], with_sources=True)
    execute(engine, "INSERT INTO fediverse.instances (base_url) VALUES ('https://a.example')")
    observe(engine, 1, "sea")
    process(engine)
    for tally in system.tallies:
        refresh(engine, tally)
    counted = rows(engine, LINKED)
    execute(
        engine,
        f"ALTER TABLE fediverse.{table} ADD shard integer NOT NULL DEFAULT 1",
        f"ALTER TABLE fediverse.{table} ALTER shard DROP DEFAULT",
    )
    if table in {each.name for each in tables.PROCESSED}:
        with pytest.raises(DoesNotFit, match=rf"make room for fediverse\.{table}: shard is NOT"):
            migrate(engine, [system], move_aside=True)
        execute(engine, f"ALTER TABLE fediverse.{table} DROP shard")
    # What a tally keeps follows from what is processed, and is built again.
    done = migrate(engine, [system], move_aside=True).done
    moved = [what for what in done if what.startswith("moved")]
    assert moved == [
        f"moved fediverse.{t}, which does not fit, to the schema fediverse_aside"
        for t in [table]
        if t == "hourly_stats"
    ]
    observe(engine, 2, "sky")
    process(engine)
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert rows(engine, LINKED) == [*counted, ("sky", 1)]
    assert verify_log(engine).ok

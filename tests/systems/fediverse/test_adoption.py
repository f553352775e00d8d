"""Another application's posts are brought over whole, once, and also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from assets.fediverse.adoption import transfer as adoption
from assets.fediverse.adoption.tables import AdoptionError
from assets.fediverse.adoption.transfer import adopt
from assets.fediverse.dagster.log_checks import log_state
from assets.fediverse.load import load_fediverse
from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.storage.log import waiting
from assets.fediverse.tallies import system
from tallykeeper import DoesNotFit, refresh, verify
from tallykeeper.cli.main import tally
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate
from tests.integration.fediverse_log import created, emptied, status
from tests.integration.support import execute, rows, scalar
from tests.servers import VERSIONS, Servers

HERE = "https://one.example"
# Recent, so that its days are made once and kept.
DAY = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")
POSTS = f"""
CREATE TABLE mastodon_accounts (id varchar(64) PRIMARY KEY, acct varchar(255), username text,
  display_name text, bot boolean, followers_count integer);
CREATE TABLE mastodon_posts (id varchar(64) PRIMARY KEY, account_id varchar(64) NOT NULL,
  created_at timestamp, edited_at timestamp, content text, language varchar(10), url text,
  in_reply_to_id varchar(64), reblog_of_id varchar(64), reblogs_count integer,
  favourites_count integer, hashtags json, mentions text, deleted_at timestamp);
CREATE TABLE post_versions (id serial PRIMARY KEY, post_id varchar(64), version_seq integer,
  valid_from timestamp, content_html text);
CREATE TABLE post_metric_snapshots (id serial PRIMARY KEY, post_id varchar(64),
  captured_at timestamp, favourites_count integer);
CREATE TABLE post_sentiments (id serial PRIMARY KEY, post_id varchar(64), sentiment_label text,
  score float, model text, prompt_version text, input_hash text, analyzed_at timestamp,
  status_version_seq integer);
INSERT INTO mastodon_accounts (id, acct, followers_count) VALUES
  ('7', 'ann', 10), ('AbC9', 'Bob@B.example', 3), ('9', 'cat', NULL);
INSERT INTO mastodon_posts
  (id, account_id, created_at, content, favourites_count, hashtags, mentions, in_reply_to_id)
VALUES ('1', '7', '{DAY} 10:00', '<p>one</p>', 5, '["Sea", "sky"]', NULL, NULL),
  ('2', 'AbC9', '{DAY} 11:00', '<p>two</p>', NULL, NULL,
   '[{{"id": "7", "acct": "ann"}}]', '1');
INSERT INTO mastodon_posts (id, account_id, created_at, reblog_of_id) VALUES
  ('3', '7', '{DAY} 11:30', '2'), ('4', '7', '{DAY} 11:40', 'elsewhere'),
  ('a blank', '7', '{DAY} 11:40', NULL),
  ('6', '7', NULL, NULL);
INSERT INTO mastodon_posts (id, account_id, created_at, content, deleted_at, hashtags) VALUES
  ('01JC', '9', '{DAY} 12:00', '<p>gone</p>', '{DAY} 13:00', '[{{"name": "Sea"}}]');
INSERT INTO post_versions (post_id, version_seq, valid_from, content_html) VALUES
  ('1', 1, '{DAY} 10:00', '<p>first</p>'), ('1', 2, '{DAY} 10:30', '<p>one</p>');
INSERT INTO post_metric_snapshots (post_id, captured_at, favourites_count) VALUES
  ('1', '{DAY} 10:10', 1), ('1', '{DAY} 11:20', 4);
INSERT INTO post_sentiments
  (post_id, sentiment_label, score, model, prompt_version, input_hash, status_version_seq)
VALUES ('1', 'negative', -0.5, 'm', '1', 'x', 1), ('1', 'positive', 0.5, 'm', '1', 'y', 2);
"""
TABLES = {
    "posts": "SELECT id, account_id, domain, content_text, favourites_count, in_reply_to_id,"
    " reblog_of_id, hashtags, deleted_at IS NULL, created_at FROM fediverse.mastodon_posts",
    "accounts": "SELECT id, acct, domain, followers_count FROM fediverse.mastodon_accounts",
    "tags": "SELECT p.post_id, h.name FROM fediverse.post_hashtags AS p"
    " JOIN fediverse.hashtags AS h ON h.id = p.hashtag_id",
    "mentions": "SELECT post_id, account_id FROM fediverse.post_mentions",
    "versions": "SELECT post_id, version_seq, content_text FROM fediverse.post_versions",
    "threads": "SELECT post_id, root_post_id, depth FROM fediverse.conversation_threads",
    "events": "SELECT event_type, payload::text, process_error FROM fediverse.stream_events",
    "said": "SELECT post_id, status_version_seq, label FROM fediverse.post_sentiments",
    "favourites": "SELECT post_id, favourites_count FROM fediverse.post_metric_snapshots",
}


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def empty(fediverse: Engine) -> Engine:
    emptied(fediverse)
    execute(
        fediverse,
        "TRUNCATE fediverse.post_sentiments",
        "DROP SCHEMA IF EXISTS theirs CASCADE",
        "CREATE SCHEMA theirs",
    )
    return fediverse


def build(engine: Engine, *statements: str) -> None:
    execute(engine, "SET LOCAL search_path = theirs;" + ";".join(statements))


def found(engine: Engine) -> dict[str, list[Any]]:
    """What is here, without when it was received."""
    return {name: sorted(rows(engine, query), key=repr) for name, query in TABLES.items()}


def test_all_that_a_row_says_is_brought_over_once(empty: Engine) -> None:
    build(empty, POSTS)
    done = adopt(empty, "theirs", HERE)
    assert done.sentences() == [
        "brought over 4 posts (0 were known), 0 accounts without posts, 2 sentiments and 0 events",
        "the posts do not say who may see them: they count as public",
        "left out 3 posts:",
        "  4: it reblogs elsewhere, which is not in the table",
        "  6: created_at: expected an ISO 8601 time, came nothing",
        "  a blank: no server has such an id",
    ]
    here = found(empty)
    assert [post[:6] for post in here["posts"]] == [
        ("01JC", "9", "one.example", "gone", 0, None),
        ("1", "7", "one.example", "one", 5, None),
        ("2", "AbC9", "b.example", "two", 0, "1"),
        ("3", "7", "one.example", None, 0, None),
    ]
    assert [post[8] for post in here["posts"]] == [False, True, True, True]
    assert here["posts"][3][6] == "2"
    assert here["tags"] == [("01JC", "sea"), ("1", "sea"), ("1", "sky")]
    assert here["mentions"] == [("2", "7")]
    assert [v for v in here["versions"] if v[0] == "1"] == [("1", 1, "first"), ("1", 2, "one")]
    assert ("2", "1", 1) in here["threads"]
    assert here["said"] == [("1", 1, "negative"), ("1", 2, "positive")]
    assert [f for f in here["favourites"] if f[0] == "1"] == [("1", 1), ("1", 4), ("1", 5)]
    assert scalar(
        empty, f"SELECT created_at = '{DAY} 10:00Z' FROM fediverse.mastodon_posts WHERE id = '1'"
    )
    for each in system.tallies:
        refresh(empty, each)
        assert verify(empty, each).ok, each
    assert verify_log(empty).differences == ()
    # Neither theirs nor ours is altered by another run.
    again = adopt(empty, "theirs", HERE)
    assert (again.posts, again.accounts, again.sentiments, again.events) == (0, 0, 0, 0)
    assert again.left_out == done.left_out
    assert found(empty) == here
    # What comes to their table meanwhile comes with the next run.
    build(
        empty,
        "UPDATE mastodon_posts SET reblog_of_id = '1' WHERE id = '4'",
        "INSERT INTO mastodon_accounts (id, acct) VALUES ('10', 'dan@d.example')",
    )
    later = adopt(empty, "theirs", HERE)
    assert (later.posts, later.accounts, later.left_out_rows) == (1, 1, 2)


def test_instances_and_raw_events_are_matched_by_address(empty: Engine) -> None:
    build(
        empty,
        "CREATE TABLE instances (id integer PRIMARY KEY, base_url text)",
        "INSERT INTO instances VALUES (5, 'https://Two.example/'), (6, 'https://three.example')",
        "CREATE TABLE mastodon_posts (id bigint, instance_id integer, account_id bigint,"
        " created_at timestamptz, content text, PRIMARY KEY (id, instance_id))",
        f"INSERT INTO mastodon_posts VALUES (1, 5, 7, '{DAY} 10:00Z', 'a'),"
        f" (1, 6, 7, '{DAY} 10:00Z', 'b'), (2, 6, 8, '{DAY} 10:00Z', 'c')",
        "CREATE TABLE stream_events (id serial PRIMARY KEY, instance_id integer,"
        " received_at timestamp, event_type text, payload json)",
        f"INSERT INTO stream_events VALUES (1, 6, '{DAY} 10:20', 'delete', '\"1\"'),"
        f" (2, 6, '{DAY} 10:21', 'delete', '\"9\"'), (3, 5, '{DAY} 10:21', 'filters_changed',"
        f" NULL), (4, 6, '1999-01-01', 'delete', '\"2\"')",
    )
    only = adopt(empty, "theirs", "three.example")
    assert (only.posts, only.events) == (2, 2)
    everything = adopt(empty, "theirs")
    assert (everything.posts, everything.known, everything.events) == (1, 2, 1)
    assert sorted(
        rows(
            empty,
            "SELECT i.base_url, p.content, p.deleted_at IS NOT NULL"
            " FROM fediverse.mastodon_posts AS p"
            " JOIN fediverse.instances AS i ON i.id = p.instance_id",
        )
    ) == [
        ("https://three.example", "b", True),
        ("https://three.example", "c", False),
        ("https://two.example", "a", False),
    ]
    before = found(empty)
    assert adopt(empty, "theirs").events == 0
    assert found(empty) == before


@pytest.mark.parametrize(
    ("statements", "schema", "instance", "said"),
    [
        ((), "fediverse", HERE, "tally migrate --move-aside"),
        ((), "nowhere", HERE, "there is no id and no account_id"),
        (("CREATE TABLE mastodon_posts (id text)",), "theirs", HERE, "there is no account_id"),
        (("CREATE TABLE mastodon_posts (id text, account_id text)",), "theirs", None, "name it"),
        (
            ("CREATE TABLE mastodon_posts (id text, account_id text)",),
            "theirs",
            "a b",
            "--instance: expected an instance's address",
        ),
        (
            ("CREATE TABLE mastodon_posts (id text, account_id text, instance_id int)",),
            "theirs",
            None,
            "no table instances",
        ),
        (
            (
                "CREATE TABLE mastodon_posts (id text, account_id text, instance_id int)",
                "CREATE TABLE instances (id int, base_url text)",
                "INSERT INTO instances VALUES (1, 'a b')",
            ),
            "theirs",
            None,
            "theirs.instances: expected an instance's address",
        ),
        (
            (
                "CREATE TABLE mastodon_posts (id text, account_id text, instance_id int)",
                "CREATE TABLE instances (id int, base_url text)",
            ),
            "theirs",
            HERE,
            "there are none",
        ),
    ],
)
def test_what_cannot_be_brought_over_is_said(
    empty: Engine, statements: tuple[str, ...], schema: str, instance: str | None, said: str
) -> None:
    build(empty, *statements)
    with pytest.raises(AdoptionError) as caught:
        adopt(empty, schema, instance)
    assert said in str(caught.value)
    assert scalar(empty, "SELECT count(*) FROM fediverse.stream_events") == 0


def test_the_other_systems_are_adopted_where_they_are() -> None:
    asked = ["adopt", "gallery", "--from-schema", "public"]
    result = CliRunner().invoke(tally, asked, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)
    assert "TALLY_NAMES, and run `tally migrate`" in result.exception.message


def test_a_database_without_the_projects_tables_says_what_makes_them(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA theirs")
    build(engine, POSTS)
    with pytest.raises(AdoptionError, match="TALLY_SYSTEMS=fediverse tally migrate --with-sources"):
        adopt(engine, "theirs", HERE)


MANY = (
    "INSERT INTO mastodon_posts (id, account_id, created_at, content, favourites_count, hashtags)"
    f" SELECT 'n' || n, '7', timestamp '{DAY} 00:00' + n * interval '1 minute', 'post ' || n, n,"
    " json_build_array('t' || n % 7) FROM generate_series(1, 400) AS n"
)
KILLED = """
import sys
from assets.fediverse.adoption import transfer as adoption
from tallykeeper.database.connections import open_engine
adoption.BATCH_POSTS = 20
adoption.adopt(open_engine(sys.argv[1]), "theirs", sys.argv[2],
    lambda seen, total: print(seen, flush=True))
"""


def test_a_run_that_was_killed_is_continued(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "BATCH_POSTS", 100)
    build(empty, POSTS, MANY)
    adopt(empty, "theirs", HERE)
    whole = found(empty)
    emptied(empty)
    execute(empty, "TRUNCATE fediverse.post_sentiments")
    url = empty.url.render_as_string(hide_password=False)
    for least in (40, 100):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, url, HERE],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if int(line) >= least:
                    # Somewhere in the next batch.
                    time.sleep(0.02)
                    os.kill(run.pid, signal.SIGKILL)
                    break
        assert run.returncode == -signal.SIGKILL
    assert 0 < scalar(empty, "SELECT count(*) FROM fediverse.mastodon_posts") < 404
    adopt(empty, "theirs", HERE)
    assert found(empty) == whole


def test_a_kill_between_writing_and_processing_loses_nothing(
    empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(empty, POSTS)
    adopt(empty, "theirs", HERE)
    whole = found(empty)
    emptied(empty)
    execute(empty, "TRUNCATE fediverse.post_sentiments")
    calls = iter([True, False])

    def dies(engine: Engine) -> None:
        if not next(calls):
            raise KeyboardInterrupt
        process(engine)

    with monkeypatch.context() as patch:
        patch.setattr(adoption, "process", dies)
        with pytest.raises(KeyboardInterrupt):
            adopt(empty, "theirs", HERE)
    assert scalar(empty, "SELECT count(*) FROM fediverse.mastodon_posts") == 0
    adopt(empty, "theirs", HERE)
    assert found(empty) == whole


NAIVE_LOG = (
    "CREATE SCHEMA fediverse",
    "CREATE TABLE fediverse.instances (id integer PRIMARY KEY, base_url varchar(255) UNIQUE"
    " NOT NULL, stream_type varchar(50), created_at timestamp, last_seen_at timestamp)",
    "CREATE TABLE fediverse.stream_events (payload json, id bigserial PRIMARY KEY,"
    " instance_id integer NOT NULL, received_at timestamp NOT NULL, event_type varchar(50) NOT"
    " NULL, payload_status_id varchar(64), processed_at timestamp, process_error text, note text)",
    "CREATE TABLE fediverse.post_sentiments (instance_id bigint, post_id text, model text,"
    " prompt_version text, input_hash text, status_version_seq integer, label text,"
    " score numeric(4,3), analyzed_at timestamptz NOT NULL,"
    " PRIMARY KEY (instance_id, post_id, model, prompt_version, input_hash))",
)


def test_a_log_without_zones_and_in_json_is_checked_and_replayed(
    postgres_servers: Servers, tmp_path: Path
) -> None:
    with postgres_servers.fresh_database(VERSIONS[-1]) as url:
        engine = open_engine(url)
        execute(engine, *NAIVE_LOG)
        done = migrate(engine, [system]).done
        assert "added the column payload_reblog_id to fediverse.stream_events" in done
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
        berlin = (at + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")
        lines = [
            {"event": "update", "payload": status(1), "received_at": berlin},
            {"event": "update", "payload": status(1, favourites_count=3)},
            {"event": "update", "payload": {"id": 1}},
        ]
        file = tmp_path / "events.jsonl"
        file.write_text("\n".join(json.dumps(line) for line in lines))
        assert load_fediverse(engine, file, instance=HERE).inserted == 3
        ago = "SELECT extract(epoch FROM timezone('UTC', now()) - {}) FROM fediverse.instances"
        assert 0 <= scalar(engine, ago.format("last_seen_at")) < 600
        assert 0 <= scalar(engine, ago.format("created_at")) < 600
        with engine.connect() as connection:
            waits = waiting(connection)
            assert (waits.rows, waits.oldest) == (3, at)
            assert 3 * 3600 <= log_state(connection).age_seconds < 4 * 3600
        # What json can be that jsonb cannot costs itself alone.
        execute(
            engine,
            "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type, payload)"
            " SELECT 1, timezone('UTC', now()), 'update', '{\"id\": \"\\u0000\"}'::json",
        )
        assert process(engine).failed == 2
        captured = "SELECT captured_at, favourites_count FROM fediverse.post_metric_snapshots"
        assert rows(engine, f"{captured} ORDER BY 1")[0] == (at, 0)
        with engine.connect() as connection:
            state = log_state(connection)
            assert (state.unprocessed, state.failed) == (0, 2)
        assert verify_log(engine).differences == ()
        replay(engine, at - timedelta(hours=1), datetime.now(UTC))
        assert len(rows(engine, captured)) == 2
        assert migrate(engine, [system]).done == []
        engine.dispose()


@pytest.mark.parametrize(
    ("table", "change", "mismatch"),
    [
        ("stream_events", "ALTER payload TYPE text", "payload is text, expected jsonb"),
        # What others write is not made up: an empty column would lose every event.
        ("stream_events", "RENAME payload TO data", "payload is missing, expected jsonb"),
        ("stream_events", "RENAME received_at TO at", "received_at is missing, expected timestamp"),
        ("instances", "DROP last_seen_at", "last_seen_at is missing, expected timestamp"),
    ],
)
def test_a_log_that_cannot_be_processed_is_refused_with_what_helps(
    engine: Engine, table: str, change: str, mismatch: str
) -> None:
    execute(engine, *NAIVE_LOG, f"ALTER TABLE fediverse.{table} {change}")
    with pytest.raises(DoesNotFit) as caught:
        migrate(engine, [system])
    said = str(caught.value)
    assert f"the source table fediverse.{table}: {mismatch}" in said
    added = "SELECT FROM pg_attribute WHERE attname = 'payload_reblog_id'"
    assert rows(engine, added) == [], "nothing was changed"
    assert "tally adopt fediverse --from-schema" in said


def test_a_table_of_sentiments_of_another_shape_is_refused_with_what_helps(engine: Engine) -> None:
    execute(engine, *NAIVE_LOG, "ALTER TABLE fediverse.post_sentiments RENAME label TO said")
    with pytest.raises(DoesNotFit) as caught:
        migrate(engine, [system])
    said = str(caught.value)
    assert "the source table fediverse.post_sentiments: label is missing, expected text" in said
    assert "tally adopt fediverse --from-schema" in said
    assert "--move-aside" not in said

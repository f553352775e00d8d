"""What is not brought over is refused or counted with its reason, and runs nobody's code."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.adoption import transfer as adoption
from assets.fediverse.adoption.tables import AdoptionError
from assets.fediverse.adoption.transfer import adopt
from assets.fediverse.processing.batches import process
from assets.fediverse.tallies import system
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate
from tests.integration.fediverse_log import created, emptied, status, tagged
from tests.integration.support import execute, rows, scalar
from tests.servers import VERSIONS, Servers
from tests.systems.fediverse.test_adoption import HERE, NAIVE_LOG, POSTS, build, found

# Recent, so that its days are made once and kept.
DAY = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")
PLAIN = "CREATE TABLE mastodon_posts (id text, account_id text, created_at timestamp, content text)"


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


@pytest.fixture
def mallory(empty: Engine) -> Iterator[Engine]:
    """A role that may create things in the schema, and has a function that says who called it."""
    execute(
        empty,
        "DROP ROLE IF EXISTS mallory",
        "CREATE ROLE mallory LOGIN",
        "GRANT ALL ON SCHEMA theirs, public TO mallory",
        "SET LOCAL ROLE mallory; CREATE FUNCTION theirs.evil(text DEFAULT '') RETURNS text"
        " IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        " IF session_user <> 'mallory' AND current_user <> 'mallory' THEN"
        " RAISE 'ran as %', current_user; END IF; RETURN '7'; END $$",
    )
    yield empty
    execute(empty, "DROP OWNED BY mallory CASCADE", "DROP ROLE mallory")


ACCOUNTS = "CREATE TABLE mastodon_accounts (id text, acct text)"
FOREIGN = (
    "RESET ROLE; CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere"
    " FOREIGN DATA WRAPPER nothing; GRANT USAGE ON FOREIGN SERVER nowhere TO mallory;"
    " SET LOCAL ROLE mallory;"
)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            "CREATE VIEW mastodon_accounts AS SELECT theirs.evil() AS id",
            r"theirs\.mastodon_accounts is a view",
        ),
        (
            "CREATE MATERIALIZED VIEW stream_events AS SELECT 1 AS id",
            r"theirs\.stream_events is a materialized view",
        ),
        (
            f"{FOREIGN} CREATE FOREIGN TABLE instances (id int, base_url text) SERVER nowhere",
            r"theirs\.instances is a foreign table",
        ),
        (
            f"{FOREIGN} CREATE TABLE mastodon_accounts (id text) PARTITION BY LIST (id);"
            " CREATE FOREIGN TABLE part PARTITION OF mastodon_accounts DEFAULT SERVER nowhere",
            r"theirs\.part is a foreign table",
        ),
        (
            f"{ACCOUNTS}; CREATE INDEX sly ON mastodon_accounts ((id || theirs.evil()))",
            r"theirs\.evil\(text\), a function of the role mallory, .* the index theirs\.sly",
        ),
        (
            "CREATE DOMAIN sly AS text CHECK (theirs.evil(VALUE) = '7');"
            f"{ACCOUNTS}; CREATE INDEX ON mastodon_accounts ((id || 'x'::sly))",
            r"theirs\.evil\(text\), a function of the role mallory",
        ),
        (
            "CREATE TYPE sly AS ENUM ('a'); CREATE FUNCTION theirs.as_json(sly) RETURNS json"
            " LANGUAGE sql AS $$ SELECT to_json(theirs.evil()) $$;"
            " CREATE CAST (sly AS json) WITH FUNCTION theirs.as_json(sly);"
            " CREATE TABLE mastodon_accounts (id text, acct sly[]);"
            " INSERT INTO mastodon_accounts VALUES ('1', '{a}')",
            r"theirs\.as_json\(theirs\.sly\), .* the column acct",
        ),
    ],
    ids=["view", "materialized", "foreign", "partition", "index", "domain", "cast"],
)
def test_what_would_run_anothers_code_is_refused_by_name(
    mallory: Engine, statements: str, said: str
) -> None:
    build(mallory, f"SET LOCAL ROLE mallory; {PLAIN}", statements)
    try:
        with pytest.raises(AdoptionError, match=said):
            adopt(mallory, "theirs", HERE)
    finally:
        execute(mallory, "DROP FOREIGN DATA WRAPPER IF EXISTS nothing CASCADE")
    assert scalar(mallory, "SELECT count(*) FROM fediverse.stream_events") == 0


def test_functions_in_the_path_and_checks_of_domains_do_not_run(mallory: Engine) -> None:
    build(
        mallory,
        "SET LOCAL ROLE mallory; CREATE DOMAIN sly AS text CHECK (theirs.evil(VALUE) = '7')",
        "CREATE TABLE mastodon_posts (id sly PRIMARY KEY, account_id text, created_at timestamp)",
        f"INSERT INTO mastodon_posts VALUES ('1', '7', '{DAY} 10:00')",
        "CREATE FUNCTION public.to_jsonb(mastodon_posts) RETURNS jsonb LANGUAGE sql AS"
        " $$ SELECT pg_catalog.to_jsonb(theirs.evil()) $$",
    )
    assert adopt(mallory, "theirs", HERE).posts == 1


def test_a_table_that_hides_rows_or_may_not_be_read_is_refused_by_name(empty: Engine) -> None:
    build(empty, PLAIN, f"INSERT INTO mastodon_posts VALUES ('1', '7', '{DAY} 10:00', 'a')")
    execute(empty, "DROP ROLE IF EXISTS adopter", "CREATE ROLE adopter LOGIN")
    execute(empty, "GRANT USAGE ON SCHEMA theirs TO adopter")
    engine = open_engine(empty.url.set(username="adopter").render_as_string(hide_password=False))
    try:
        with pytest.raises(AdoptionError, match="permission denied for table mastodon_posts; GRAN"):
            adopt(engine, "theirs", HERE)
        execute(
            empty,
            "GRANT SELECT ON ALL TABLES IN SCHEMA theirs TO adopter",
            "ALTER TABLE theirs.mastodon_posts ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY second ON theirs.mastodon_posts USING (id = '2')",
        )
        with pytest.raises(
            AdoptionError, match=r"row security hides rows of theirs\.mastodon_posts .* adopter"
        ):
            adopt(engine, "theirs", HERE)
    finally:
        engine.dispose()
        execute(empty, "DROP OWNED BY adopter", "DROP ROLE adopter")


def derived(engine: Engine) -> dict[str, list[Any]]:
    """What is here but for the log, which says the same in another order."""
    return {name: all_rows for name, all_rows in found(engine).items() if name != "events"}


@pytest.mark.parametrize(("of_posts", "of_others"), [("text", "text"), ("bigint", "varchar(20)")])
def test_what_is_reblogged_comes_whole_with_the_first_reblog(
    empty: Engine, monkeypatch: pytest.MonkeyPatch, of_posts: str, of_others: str
) -> None:
    build(
        empty,
        f"CREATE TABLE mastodon_posts (id {of_posts} PRIMARY KEY, account_id {of_others},"
        f" created_at timestamp, content text, reblog_of_id {of_others}, deleted_at timestamp)",
        f"CREATE TABLE mastodon_accounts (id {of_posts}, acct text)",
        "INSERT INTO mastodon_accounts VALUES ('7', 'ann')",
        "CREATE TABLE post_versions (post_id text, valid_from timestamp, content text)",
        "CREATE TABLE post_metric_snapshots (post_id text, captured_at timestamp,"
        " favourites_count text)",
        # A reblog of a reblog, and two that reblog each other: no server has such.
        f"INSERT INTO mastodon_posts VALUES"
        f" ('1', '7', '{DAY} 11:00', NULL, '5', NULL), ('2', '7', '{DAY} 11:00', NULL, '3', NULL),"
        f" ('3', '7', '{DAY} 11:00', NULL, '2', NULL), ('4', '7', '{DAY} 11:00', NULL, '1', NULL),"
        f" ('5', '7', '{DAY} 10:00', '<p>now</p>', NULL, '{DAY} 12:00')",
        f"INSERT INTO post_versions VALUES ('5', '{DAY} 10:00', '<p>first</p>'),"
        f" ('5', '{DAY} 10:30', '<p>now</p>')",
        f"INSERT INTO post_metric_snapshots VALUES ('5', '{DAY} 10:10', '4')",
    )
    whole = adopt(empty, "theirs", HERE)
    assert (whole.posts, whole.left_out_rows) == (5, 0)
    here = derived(empty)
    assert [v for v in here["versions"] if v[0] == "5"] == [("5", 1, "first"), ("5", 2, "now")]
    assert ("5", 4) in here["favourites"]
    assert scalar(empty, "SELECT deleted_at FROM fediverse.mastodon_posts WHERE id = '5'")
    emptied(empty)
    with monkeypatch.context() as patch:
        patch.setattr(adoption, "BATCH_POSTS", 1)
        assert adopt(empty, "theirs", HERE).posts == 5
    assert derived(empty) == here
    again = adopt(empty, "theirs", HERE)
    assert (again.posts, again.known) == (0, 5)
    assert derived(empty) == here


def test_a_reblog_overwrites_nothing_of_a_post_that_is_known_here(empty: Engine) -> None:
    log = emptied(empty)
    log.say(
        "update",
        status(
            9,
            content="<p>ours</p>",
            favourites_count=100,
            visibility="unlisted",
            tags=tagged("Sea"),
            mentions=[{"id": "3", "acct": "cat"}],
            media_attachments=[{"id": "m", "type": "image", "meta": {"width": 3}}],
            account={"id": "7", "acct": "ann", "followers_count": 50},
        ),
        instance=2,
    )
    tables = ("posts", "accounts", "tags", "mentions", "versions")
    media = "SELECT to_jsonb(m) FROM fediverse.media_attachments AS m"
    before, shown = found(empty), rows(empty, media)
    build(
        empty,
        f"{PLAIN}; ALTER TABLE mastodon_posts ADD reblog_of_id text, ADD favourites_count int",
        f"INSERT INTO mastodon_posts VALUES ('10', '7', '{DAY} 10:00', NULL, '9', 0),"
        f" ('9', '7', '{DAY} 10:00', '<p>theirs</p>', NULL, 5)",
        "CREATE TABLE mastodon_accounts (id text, acct text, followers_count int)",
        "INSERT INTO mastodon_accounts VALUES ('7', 'ann', 90)",
    )
    done = adopt(empty, "theirs", "two.example")
    assert (done.posts, done.known, done.left_out_rows) == (1, 1, 0)
    after = found(empty)
    assert {n: [r for r in after[n] if r[0] != "10"] for n in tables} == {
        n: before[n] for n in tables
    }
    assert rows(empty, media) == shown
    assert rows(empty, "SELECT visibility FROM fediverse.mastodon_posts WHERE id = '9'") == [
        ("unlisted",)
    ]


def test_a_sentiment_goes_with_the_version_that_it_was_said_of(empty: Engine) -> None:
    build(
        empty,
        f"{PLAIN}; ALTER TABLE mastodon_posts ADD edited_at timestamp",
        "CREATE TABLE post_versions (post_id text, version_seq int, valid_from timestamp,"
        " content text)",
        "CREATE TABLE post_sentiments (id int, post_id text, label text, input_hash text,"
        " status_version_seq int, analyzed_at timestamp)",
        f"INSERT INTO mastodon_posts SELECT n, '7', '{DAY} 10:00', '<p>hate</p>',"
        f" CASE WHEN n < 5 THEN timestamp '{DAY} 10:30' END FROM generate_series(1, 5) AS n",
        # Of the second their first version is lost; of the fourth both.
        f"INSERT INTO post_versions VALUES ('1', 1, '{DAY} 10:00', 'love'),"
        f" ('1', 2, '{DAY} 10:30', 'hate'), ('2', 2, '{DAY} 10:00', 'love'),"
        f" ('2', 3, '{DAY} 10:30', 'hate'), ('3', 1, '{DAY} 10:00', 'love'),"
        f" ('3', 2, '{DAY} 10:30', 'hate')",
        "INSERT INTO post_sentiments VALUES"
        # By the hash, whatever the number; then by when the version began.
        " (1, '1', 'bad', md5(E'\\nhate'), NULL, NULL), (2, '1', 'good', md5(E'\\nlove'), 9, NULL),"
        " (3, '2', 'good', 'sha', 2, NULL), (4, '2', 'bad', NULL, 3, NULL),"
        # Of no version that is known; of the only one, the last that was said.
        " (5, '3', 'any', 'sha', NULL, NULL), (6, '4', 'any', 'sha', 1, NULL),"
        f" (7, '5', 'bad', 'sha', 1, '{DAY} 12:00'), (8, '5', 'old', 'sha', 1, '{DAY} 11:00'),"
        " (9, 'none', 'any', NULL, NULL, NULL), (10, NULL, 'any', NULL, NULL, NULL)",
    )
    done = adopt(empty, "theirs", HERE)
    assert rows(
        empty,
        "SELECT s.post_id, s.label, v.content_text, v.version_seq = s.status_version_seq"
        " FROM fediverse.post_sentiments AS s"
        " JOIN fediverse.post_versions AS v ON v.post_id = s.post_id"
        " AND v.content_hash = s.input_hash ORDER BY 1, 2",
    ) == [
        ("1", "bad", "hate", True),
        ("1", "good", "love", True),
        ("2", "bad", "hate", True),
        ("2", "good", "love", True),
        ("5", "bad", "hate", True),
    ]
    why = "is known to be the one it was said of"
    assert done.sentences()[-5:] == [
        "left out 4 sentiments:",
        f"  10: no version of the post  {why}",
        f"  5: no version of the post 3 {why}",
        f"  6: no version of the post 4 {why}",
        f"  9: no version of the post none {why}",
    ]


def test_rows_of_no_instance_are_counted_with_the_reason(empty: Engine) -> None:
    build(
        empty,
        "CREATE TABLE instances (id int, base_url text)",
        "INSERT INTO instances VALUES (1, 'https://one.example'), (NULL, 'https://two.example')",
        f"{PLAIN}; ALTER TABLE mastodon_posts ADD instance_id smallint",
        f"INSERT INTO mastodon_posts VALUES ('1', '7', '{DAY} 10:00', 'a', 1),"
        f" ('2', '7', '{DAY} 10:00', 'a', NULL), ('3', '7', '{DAY} 10:00', 'a', 99)",
        "CREATE TABLE mastodon_accounts (id text, instance_id text)",
        "INSERT INTO mastodon_accounts VALUES ('8', NULL), ('9', '1'), ('a b', '1'), (NULL, '1')",
        "CREATE TABLE post_versions (post_id text, valid_from timestamp)",
        "INSERT INTO post_versions SELECT '1', now() FROM generate_series(1, 7)",
    )
    done = adopt(empty, "theirs")
    assert (done.posts, done.accounts) == (1, 1)
    assert list(done.left_out.sentences()) == [
        "left out 2 posts:",
        "  2: instance_id: expected one of the table instances, came nothing",
        "  3: instance_id: expected one of the table instances, came '99'",
        "left out 3 accounts:",
        "  a b: no server has such an id",
        "  without id: no server has such an id",
        "  8: instance_id: expected one of the table instances, came nothing",
        "left out 7 versions:",
        *["  all: there is no column instance_id"] * 5,
    ]


def test_rows_that_cannot_be_read_are_counted_with_the_reason(empty: Engine) -> None:
    build(
        empty,
        PLAIN,
        f"INSERT INTO mastodon_posts VALUES (NULL, '7', '{DAY} 10:00', 'a'),"
        f" ('1', '7', '{DAY} 10:00', 'a'), ('2', NULL, '{DAY} 10:00', 'a')",
        "CREATE TABLE post_versions (post_id text, valid_from text, content text)",
        f"INSERT INTO post_versions VALUES ('1', '{DAY}T10:00', 'a'), ('1', 'noon', 'b'),"
        f" ('9', '{DAY}T10:00', 'c'), (NULL, NULL, 'd')",
        "CREATE TABLE post_metric_snapshots (id int, post_id text, captured_at timestamp,"
        " favourites_count text)",
        f"INSERT INTO post_metric_snapshots VALUES (1, '1', '{DAY} 11:00', '4'), (2, '1', NULL,"
        f" '5'), (3, '1', '{DAY} 12:00', '-1'), (4, '1', '1999-01-01', '6')",
        "CREATE TABLE stream_events (id int, received_at timestamp, event_type text, payload text)",
        f"INSERT INTO stream_events VALUES (1, '{DAY} 10:00', 'delete', '\"5\"'),"
        f" (2, NULL, 'delete', '\"6\"'), (3, '{DAY} 10:00', 'update', 'no json'),"
        f" (4, '{DAY} 10:00', NULL, '\"6\"'), (NULL, '{DAY} 10:00', 'delete', '\"6\"'),"
        f" (5, '{DAY} 10:00', 'filters_changed', NULL), (6, '2999-01-01', 'delete', '\"7\"')",
    )
    done = adopt(empty, "theirs", HERE)
    assert (done.posts, done.events) == (1, 2)
    moment = "expected a time from 2010-01-01 until now, came"
    assert list(done.left_out.sentences()) == [
        "left out 2 posts:",
        "  2: account.id: expected an id (a whole number, or 1 to 255 characters without blanks"
        " and quotes), came nothing",
        "  without id: id: expected one, came nothing",
        "left out 3 versions:",
        "  1: valid_from: expected an ISO 8601 time, came 'noon'",
        "  9: post_id: expected a post of the table, came '9'",
        "  without id: post_id: expected a post of the table, came nothing",
        "left out 3 snapshots:",
        f"  2: captured_at: {moment} nothing",
        "  3: favourites_count: expected a whole number, came '-1'",
        f"  4: captured_at: {moment} '1999-01-01T00:00:00'",
        "left out 5 raw events:",
        f"  2: received_at: {moment} nothing",
        "  3: payload: expected JSON, came 'no json'",
        "  4: event_type: expected a name, came nothing",
        f"  6: received_at: {moment} '2999-01-01T00:00:00'",
        "  without id: id: expected one, came nothing",
    ]
    assert [f for f in found(empty)["favourites"] if f[0] == "1"] == [("1", 0), ("1", 4)]
    again = adopt(empty, "theirs", HERE)
    assert (again.left_out, again.events) == (done.left_out, 0)


def test_nobody_sees_a_post_of_which_it_is_not_known_who_may(empty: Engine) -> None:
    build(
        empty,
        f"{PLAIN}; ALTER TABLE mastodon_posts ADD visibility text, ADD reblog_of_id text",
        f"INSERT INTO mastodon_posts VALUES ('1', '7', '{DAY} 10:00', 'a', NULL, NULL),"
        f" ('2', '7', '{DAY} 10:00', 'a', 'private', NULL),"
        f" ('3', '7', '{DAY} 10:00', NULL, 'public', 1)",
    )
    done = adopt(empty, "theirs", HERE)
    assert rows(empty, "SELECT id, visibility FROM fediverse.mastodon_posts") == [("2", "private")]
    assert done.sentences()[1:] == [
        "left out 2 posts:",
        "  1: visibility: expected one of Mastodon's, it is missing",
        "  3: reblog: visibility: expected one of Mastodon's, it is missing",
    ]
    # What could not be read is tried again when it says something else, and only then.
    build(empty, "UPDATE mastodon_posts SET visibility = 'direct' WHERE id = '1'")
    later = adopt(empty, "theirs", HERE)
    assert (later.posts, later.known, later.left_out_rows) == (2, 1, 0)
    assert adopt(empty, "theirs", HERE).posts == 0


def test_a_post_that_fails_again_is_not_written_again(empty: Engine) -> None:
    build(empty, PLAIN, "INSERT INTO mastodon_posts VALUES ('6', '7', NULL, 'a')")
    adopt(empty, "theirs", HERE)
    build(empty, "UPDATE mastodon_posts SET account_id = 'a b'")
    said = adopt(empty, "theirs", HERE).sentences()
    assert said[-1].startswith("  6: account.id: expected an id")
    assert scalar(empty, "SELECT count(*) FROM fediverse.stream_events") == 2
    assert adopt(empty, "theirs", HERE).sentences() == said
    assert scalar(empty, "SELECT count(*) FROM fediverse.stream_events") == 2
    build(empty, f"UPDATE mastodon_posts SET account_id = '8', created_at = '{DAY} 10:00'")
    assert adopt(empty, "theirs", HERE).sentences()[0].startswith("brought over 1 posts (0 were")


@pytest.fixture(scope="module")
def naive(postgres_servers: Servers) -> Iterator[Engine]:
    """A log of json, short names and times without a zone, where the time of the day is another."""
    with postgres_servers.fresh_database(VERSIONS[-1]) as url:
        engine = open_engine(url)
        execute(engine, *NAIVE_LOG, "CREATE SCHEMA theirs")
        name = scalar(engine, "SELECT current_database()")
        execute(engine, f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
        engine.dispose()
        yield engine
        engine.dispose()


def test_marks_of_another_worker_are_forgotten_once(naive: Engine) -> None:
    execute(
        naive,
        f"INSERT INTO fediverse.instances (id, base_url) VALUES (1, '{HERE}')",
        "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type, payload,"
        f" processed_at) VALUES (1, '{DAY} 09:00', 'delete', '\"9\"', '{DAY} 09:01'),"
        f" (1, '{DAY} 09:00', 'delete', '\"8\"', NULL)",
    )
    done = migrate(naive, [system]).done
    assert "1 events that another worker has marked as processed will be processed again" in done
    assert process(naive).events == 2
    assert scalar(naive, "SELECT count(*) FROM fediverse.post_deletions") == 2
    # Something is derived by now, also where the progress is not known any more.
    execute(naive, "DROP TABLE tallykeeper.fediverse_log")
    assert not [said for said in migrate(naive, [system]).done if "another worker" in said]
    assert process(naive).events == 0


def test_times_without_a_zone_are_in_utc_and_rows_that_do_not_fit_cost_themselves(
    naive: Engine,
) -> None:
    migrate(naive, [system])
    long = "x" * 70
    execute(naive, "ALTER TABLE fediverse.post_sentiments ALTER model TYPE varchar(3)")
    build(
        naive,
        POSTS,
        f"INSERT INTO mastodon_posts (id, account_id, created_at) VALUES ('{'y' * 64}', '7',"
        f" '{DAY} 12:00')",
        f"ALTER TABLE mastodon_posts ALTER id TYPE text; INSERT INTO mastodon_posts (id,"
        f" account_id, created_at) VALUES ('{long}', '7', '{DAY} 12:00')",
        "INSERT INTO post_sentiments (post_id, sentiment_label, model, status_version_seq)"
        " VALUES ('2', 'neutral', 'longer', 1), ('01JC', 'neutral', 'm', 1)",
        "CREATE TABLE stream_events (id int, received_at timestamp, event_type text, payload json)",
        f"INSERT INTO stream_events VALUES (1, '{DAY} 10:00', 'delete', '\"5\"'),"
        f" (2, '{DAY} 10:05', '{long}', '1'), (3, '{DAY} 10:06', 'delete', '\"4\"')",
    )
    done = adopt(naive, "theirs", HERE)
    assert (done.posts, done.sentiments, done.events) == (5, 3, 2)
    assert [s for s in done.sentences() if "the database refuses it" in s] == [
        f"  {long}: the database refuses it: value too long for type character varying(64)",
        "  2: the database refuses it: value too long for type character varying(3)",
        "  2: the database refuses it: value too long for type character varying(50)",
    ]
    assert rows(
        naive,
        "SELECT (captured_at AT TIME ZONE 'UTC')::text FROM fediverse.post_metric_snapshots"
        " WHERE post_id = '1' ORDER BY 1 LIMIT 2",
    ) == [(f"{DAY} 10:10:00",), (f"{DAY} 11:20:00",)]
    assert scalar(
        naive,
        "SELECT count(*) FROM fediverse.stream_events"
        f" WHERE payload #>> '{{}}' IN ('4', '5') AND received_at < '{DAY} 10:07'"
        f" AND received_at >= '{DAY} 10:00'",
    )
    before = scalar(naive, "SELECT count(*) FROM fediverse.stream_events")
    assert adopt(naive, "theirs", HERE).events == 0
    assert scalar(naive, "SELECT count(*) FROM fediverse.stream_events") == before

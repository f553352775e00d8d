"""The fediverse over HTTP, each answer against SQL over the posts, right after a write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from assets.fediverse.tallies import system
from tallykeeper import refresh
from tallykeeper.http.app import create_app
from tests.fediverse_posts import add_instance, add_post
from tests.integration.serving_client import Client
from tests.integration.support import create, execute, rows, scalar

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPAN = {"instance": "1", "start": "2025-11-20T10:00Z", "end": "2025-11-20T14:00:00+00:00"}
LATEST = "/api/summaries/latest?instance=1"
PER_HOUR = (
    'SELECT to_char(h, \'YYYY-MM-DD"T"HH24:MI:SS"Z"\'),'
    " count(p.id) FILTER (WHERE reblog_of_id IS NULL),"
    " count(DISTINCT account_id) FILTER (WHERE reblog_of_id IS NULL)"
    " FROM generate_series(timestamp '2025-11-20 10:00', '2025-11-20 13:00', '1 hour') AS h"
    " LEFT JOIN fediverse.mastodon_posts AS p ON p.instance_id = 1 AND p.deleted_at IS NULL"
    " AND date_trunc('hour', p.created_at AT TIME ZONE 'UTC') = h GROUP BY h ORDER BY h"
)


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """Built, and written to since."""
    create(engine, system)
    assert add_instance(engine) == 1
    for number in range(6):
        at = NOON - 2 * HOUR + number * timedelta(minutes=25)
        add_post(engine, 1, at, account_id=number % 3, tags=["cats"], favourites_count=number)
    for tally in system.tallies:
        refresh(engine, tally)
    for number in range(4):
        add_post(engine, 1, NOON + number * timedelta(minutes=9), account_id=number, tags=["cats"])
    execute(engine, "DELETE FROM fediverse.mastodon_posts WHERE favourites_count = 3")
    return engine


@pytest.fixture
def client(fediverse: Engine) -> Client:
    return Client(create_app(fediverse, ["fediverse"]))


def test_hours_are_those_of_the_posts(fediverse: Engine, client: Client) -> None:
    body = client.get("/api/stats/hourly", params=SPAN).json()
    found = [(h["hour"], h["post_count"], h["unique_accounts"]) for h in body["hours"]]
    assert found == rows(fediverse, PER_HOUR)
    assert list(body) == ["hours", "as_of"]


def test_hours_of_a_hashtag_are_those_of_the_posts_that_have_it(
    fediverse: Engine, client: Client
) -> None:
    body = client.get("/api/hashtags/CATS/hourly", params=SPAN).json()
    found = [(h["hour"], h["posts"], h["accounts"]) for h in body["hours"]]
    assert found == rows(fediverse, PER_HOUR)
    nobody = client.get("/api/hashtags/nothing/hourly", params=SPAN).json()
    assert [h["posts"] for h in nobody["hours"]] == [0] * 4


def test_trends_are_worked_out_from_the_posts(client: Client) -> None:
    asked = {"instance": "1", "at": "2025-11-20T13:00Z", "hours": "1", "baseline_hours": "4"}
    body = client.get("/api/hashtags/trending", params=asked).json()
    (cats,) = body["hashtags"]
    assert body["at"] == "2025-11-20T13:00:00Z"
    assert (cats["name"], cats["posts"], cats["accounts"], cats["baseline_posts"]) == (
        "cats",
        5,
        4,
        4,
    )
    # One of the five was posted at 12:05, as the last of the six.
    assert cats["rise"] == pytest.approx((5 / 1 + 1) / (4 / 4 + 1))


def test_days_and_the_latest_of_them_are_those_of_the_posts(
    fediverse: Engine, client: Client
) -> None:
    add_post(fediverse, 1, NOON + 48 * HOUR)
    query = (
        "SELECT (created_at AT TIME ZONE 'UTC')::date::text, count(*)"
        " FROM fediverse.mastodon_posts GROUP BY 1 ORDER BY 1"
    )
    asked = {"instance": "1", "start": "2025-11-01", "end": "2025-12-01"}
    days = client.get("/api/summaries", params=asked).json()["summaries"]
    assert [(d["window_start"][:10], d["post_count"]) for d in days] == rows(fediverse, query)
    latest = client.get("/api/summaries/latest?instance=1").json()["summary"]
    assert latest == days[-1]
    assert latest["sentiment_sum"] == 0
    missing = client.get("/api/summaries/latest?instance=2")
    assert (missing.status_code, missing.json()["status"]) == (404, 404)


def test_a_text_that_is_written_alters_the_tags_of_its_day(
    fediverse: Engine, client: Client
) -> None:
    of_days = "/api/summaries?instance=1&start=2025-11-01&end=2025-12-01"
    before = [client.get(a).headers["etag"] for a in (of_days, LATEST)]
    execute(
        fediverse,
        "UPDATE fediverse.daily_summaries SET model = 'm', prompt_version = '1',"
        " summary_text = 'A quiet day.', summary_input_hash = 'other'",
    )
    after = [client.get(a).headers["etag"] for a in (of_days, LATEST)]
    assert not set(before) & set(after)
    summary = client.get(LATEST).json()["summary"]
    assert (summary["summary_text"], summary["text_is_current"]) == ("A quiet day.", False)


def test_what_posts_gained_is_reported_with_ids_as_text(fediverse: Engine, client: Client) -> None:
    post = scalar(fediverse, "SELECT max(id) FROM fediverse.mastodon_posts")
    for minutes, favourites in ((0, 1), (30, 11)):
        execute(
            fediverse,
            "INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at,"
            f" favourites_count, reblogs_count, replies_count) VALUES (1, {post},"
            f" timestamptz '2025-11-20 12:30Z' + interval '{minutes} min', {favourites}, 0, 0)",
        )
    body = client.get("/api/posts/velocity", params=SPAN).json()
    assert [(p["post_id"], p["gained"]) for p in body["posts"]] == [(str(post), 11)]
    since = SPAN | {"baseline": "first_seen"}
    body = client.get("/api/posts/velocity", params=since).json()
    assert [(p["post_id"], p["gained"]) for p in body["posts"]] == [(str(post), 10)]
    none = client.get("/api/posts/velocity", params=since | {"more_than": "10"}).json()
    assert none["posts"] == []
    late = SPAN | {"start": "2025-11-20T12:45Z"}
    assert client.get("/api/posts/rising", params=late).json()["posts"] == []
    (risen,) = client.get("/api/posts/rising", params=late | {"minimum_before": "2"}).json()[
        "posts"
    ]
    assert (risen["post_id"], risen["growth"], risen["engagement"]) == (str(post), 10.0, 22)
    series = client.get(f"/api/posts/{post}/counts?instance=1").json()
    assert [(c["captured_at"], c["favourites_count"]) for c in series["counts"]] == [
        ("2025-11-20T12:30:00Z", 1),
        ("2025-11-20T13:00:00Z", 11),
    ]
    assert series["created_at"] == "2025-11-20T12:27:00Z"
    one = client.get(f"/api/posts/{post}/counts?instance=1&limit=1&end=2025-11-20T13:00Z").json()
    assert [c["favourites_count"] for c in one["counts"]] == [1]
    assert client.get("/api/posts/1/counts?instance=1").status_code == 404


def test_edits_that_changed_what_a_model_says_are_reported(
    fediverse: Engine, client: Client
) -> None:
    post = scalar(fediverse, "SELECT max(id) FROM fediverse.mastodon_posts")
    for seq, label in ((1, "good"), (2, "bad")):
        execute(
            fediverse,
            "INSERT INTO fediverse.post_versions (instance_id, post_id, version_seq, valid_from,"
            f" content_hash) VALUES (1, '{post}', {seq}, '2025-11-20 12:0{seq}Z', 'h{seq}')",
            "INSERT INTO fediverse.post_sentiments (instance_id, post_id, model, prompt_version,"
            f" input_hash, label, score) VALUES (1, '{post}', 'm', '1', 'h{seq}', '{label}', 0.5)",
        )
    (change,) = client.get("/api/posts/sentiment-changes", params=SPAN).json()["changes"]
    assert (change["post_id"], change["label_before"], change["label"]) == (
        str(post),
        "good",
        "bad",
    )
    assert (change["version_seq"], change["score"]) == (2, 0.5)
    none = client.get("/api/posts/sentiment-changes", params=SPAN | {"model": "n"}).json()
    assert none["changes"] == []


def test_growing_and_spiking_hashtags_are_worked_out_from_the_posts(client: Client) -> None:
    asked = {"instance": "1", "at": "2025-11-20T13:00Z"}
    windows = {"hours": "1", "baseline_hours": "4"}
    (cats,) = client.get("/api/hashtags/growing", params=asked | windows).json()["hashtags"]
    assert (cats["posts"], cats["baseline_posts"], cats["rise"]) == (5, 4, 5.0)
    none = client.get("/api/hashtags/growing", params=asked | windows | {"above": "5"}).json()
    assert none["hashtags"] == []
    hour = {"hours_before": "1", "decay_hours": "1000"}
    (cats,) = client.get("/api/hashtags/spiking", params=asked | hour).json()["hashtags"]
    # Before 12:00 two of the posts, for the one at 11:15 was deleted.
    assert (cats["posts"], cats["baseline_posts"], cats["rise"]) == (5, 1, 4.0)


def test_hashtags_used_together_are_reported(fediverse: Engine, client: Client) -> None:
    add_post(fediverse, 1, NOON, tags=["dogs", "cats"])
    add_post(fediverse, 1, NOON, tags=["dogs", "fish"])
    pairs = client.get("/api/hashtags/cooccurrence", params=SPAN).json()["pairs"]
    assert [(p["hashtag"], p["other"], p["posts"]) for p in pairs] == [
        ("cats", "dogs", 1),
        ("dogs", "fish", 1),
    ]
    of_cats = client.get("/api/hashtags/cooccurrence", params=SPAN | {"hashtag": "#Cats"}).json()
    assert [p["other"] for p in of_cats["pairs"]] == ["dogs"]


def test_domains_have_totals_hours_and_tags(fediverse: Engine, client: Client) -> None:
    add_post(fediverse, 1, NOON, domain="other.example", reblogs_count=2)
    totals = client.get("/api/domains", params=SPAN)
    assert [(d["domain"], d["post_count"]) for d in totals.json()["domains"]] == [
        ("m.social", 9),
        ("other.example", 1),
    ]
    hours = client.get("/api/domains/other.example/hourly", params=SPAN)
    assert [(h["post_count"], h["total_engagement"]) for h in hours.json()["hours"]] == [
        (0, 0),
        (0, 0),
        (1, 6),
        (0, 0),
    ]
    for address, answer in (("", totals), ("/other.example/hourly", hours)):
        again = client.get(
            f"/api/domains{address}",
            params=SPAN,
            headers={"If-None-Match": answer.headers["etag"]},
        )
        assert again.status_code == 304
    add_post(fediverse, 1, NOON, domain="other.example")
    (_, other) = client.get("/api/domains", params=SPAN).json()["domains"]
    assert other["post_count"] == 2


def test_a_post_has_its_history_and_one_that_is_unknown_is_not_found(
    fediverse: Engine, client: Client
) -> None:
    post = scalar(fediverse, "SELECT max(id) FROM fediverse.mastodon_posts")
    body = client.get(f"/api/posts/{post}/history?instance=1").json()
    assert (body["post_id"], body["instance_id"], body["versions"]) == (str(post), 1, [])
    assert body["created_at"] == "2025-11-20T12:27:00Z"
    assert client.get("/api/posts/1/history?instance=1").status_code == 404


ADDRESS = "https://a.example/?n=%20&é'#/counts"


@pytest.mark.parametrize(
    ("id_", "path"),
    [
        ("01HWRRWYV739R3GG41NDQEYZ86", "01HWRRWYV739R3GG41NDQEYZ86"),
        ("https://a.example/notes/7", "https://a.example/notes/7"),
        (ADDRESS, quote(ADDRESS, safe="")),
    ],
    ids=["a ULID", "an address as it stands", "an address percent-encoded"],
)
def test_a_post_is_found_by_any_id(fediverse: Engine, client: Client, id_: str, path: str) -> None:
    add_post(fediverse, 1, NOON, id=id_)
    for what in ("history", "counts"):
        body = client.get(f"/api/posts/{path}/{what}?instance=1").json()
        assert body["post_id"] == id_


def test_instances_are_listed(client: Client) -> None:
    body = client.get("/api/instances").json()
    assert body["instances"] == [{"id": 1, "base_url": "https://m.social"}]


def test_without_a_span_the_last_day_is_reported(client: Client) -> None:
    body = client.get("/api/stats/hourly?instance=1").json()
    assert len(body["hours"]) in (24, 25)
    assert body["as_of"].endswith("Z"), "moments are UTC, whatever the server's zone"
    assert body["hours"][-1]["hour"] <= body["as_of"]


UNASKABLE = [
    "/api/stats/hourly",
    "/api/stats/hourly?instance=-1",
    "/api/stats/hourly?instance=9223372036854775808",
    "/api/stats/hourly?instance=1&start=2025-11-20T12:00Z&end=2025-11-20T12:00Z",
    "/api/stats/hourly?instance=1&start=2000-01-01",
    "/api/stats/hourly?instance=1&end=0001-01-01",
    "/api/stats/hourly?instance=1&end=9999-12-31T23:59:59Z",
    "/api/stats/hourly?instance=1&start=10000-01-01",
    "/api/stats/hourly?instance=1&start=infinity",
    "/api/stats/hourly?instance=1&start=1763640000",
    "/api/stats/hourly?instance=1&start=2025-11-20T12:00:00%2B25:00",
    "/api/summaries?instance=1&start=0001-01-01T00:00:00%2B01:00",
    "/api/summaries?instance=1&start=2000-01-01",
    "/api/hashtags/%00/hourly?instance=1",
    "/api/hashtags/%20/hourly?instance=1",
    "/api/hashtags/trending?instance=1&hours=0",
    "/api/hashtags/trending?instance=1&limit=1001",
    "/api/hashtags/trending?instance=1&at=0001-01-01",
    "/api/hashtags/growing?instance=1&above=-1",
    "/api/hashtags/spiking?instance=1&decay_hours=0",
    "/api/hashtags/spiking?instance=1&at=0001-01-01",
    "/api/hashtags/cooccurrence?instance=1&hashtag=%20",
    "/api/domains/%00/hourly?instance=1",
    "/api/domains?instance=1&limit=0",
    "/api/posts/velocity?instance=1&baseline=birth",
    "/api/posts/velocity?instance=1&start=2025-11-20&end=2025-11-20",
    "/api/posts/rising?instance=1&minimum_before=0",
    "/api/posts/1/counts?instance=1&start=2025-11-21&end=2025-11-20",
    "/api/posts/sentiment-changes?instance=1&model=%00",
    f"/api/posts/{'x' * 256}/history?instance=1",
    "/api/posts/%00/history?instance=1",
    f"/api/posts/{'x' * 256}/counts?instance=1",
    "/api/posts/1/history",
]


def test_what_cannot_be_asked_is_a_problem(client: Client) -> None:
    for address in UNASKABLE:
        answer = client.get(address)
        assert answer.status_code == 422, (address, answer.text)
        assert answer.json()["title"] == "The parameters are not valid"

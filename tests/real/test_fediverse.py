"""Real statuses, stream events and edit histories, processed, against pandas alone.

The expected figures are computed from the published files, with what the standard library knows of
Unicode; nothing of the project's reading of events is used.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from assets.fediverse.load import load_fediverse
from assets.fediverse.processing.batches import Processed, process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.database.connections import open_engine
from tests.integration.support import create, rows, scalar
from tests.real.data import real_file
from tests.servers import VERSIONS, Servers

pytestmark = pytest.mark.real

EVENTS = "mastodonpy_stream_events.jsonl.gz"
STATUSES = "rtoot_status_observations.jsonl.gz"
HISTORIES = "mastodonpy_status_edit_histories.jsonl.gz"
STREAM = "http://localhost:3000"

POST = ["server", "id"]
COUNTS = ["replies_count", "reblogs_count", "favourites_count"]
SERVER = "JOIN fediverse.instances AS i ON i.id = {}.instance_id"


@dataclass(frozen=True)
class Processing:
    """The published files, read, and the database that they were loaded into and processed in.

    `seen` has a row for each status in an event or observation, in order of receipt, also for
    those within a reblog; `listed` one for each version in an edit history.
    """

    engine: Engine
    files: list[tuple[Path, bool]]
    done: Processed
    seen: pd.DataFrame
    listed: pd.DataFrame
    deleted: pd.DataFrame

    def latest(self) -> pd.DataFrame:
        """Each post as of its latest version; of one that was seen again, as seen last."""
        edited = self.seen["edited_at"].fillna(pd.Timestamp(0, tz="UTC"))
        ordered = self.seen.assign(edited=edited).sort_values("edited", kind="stable")
        return ordered.drop_duplicates(POST, keep="last")

    def counted(self) -> pd.DataFrame:
        """Posts that are there for everybody, with their counts as observed last."""
        counts = self.seen.drop_duplicates(POST, keep="last")[[*POST, *COUNTS]]
        latest = self.latest().drop(columns=COUNTS).merge(counts, on=POST)
        gone = latest.merge(self.deleted, on=POST, how="left", indicator=True)["_merge"] == "both"
        latest = latest[~gone & latest["visibility"].isin(["public", "unlisted"])]
        engagement = (
            3 * latest["reblogs_count"] + 2 * latest["favourites_count"] + latest["replies_count"]
        )
        hour = latest["created_at"].dt.floor("h")
        is_reblog = latest["is_reblog"].astype(bool)
        return latest.assign(hour=hour, engagement=engagement.where(~is_reblog, 0))


def lines_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def of_status(server: str, status: dict[str, Any]) -> list[dict[str, Any]]:
    """The status and, if it is a reblog, the one within."""
    inner = status.get("reblog")
    row = {
        "server": server,
        "id": str(status["id"]),
        "account": str(status["account"]["id"]),
        "content": status["content"],
        "visibility": status["visibility"],
        "created_at": status["created_at"],
        "edited_at": status.get("edited_at"),
        "is_reblog": bool(inner),
        "is_reply": bool(status["in_reply_to_id"]),
        "tags": [tag["name"] for tag in status["tags"]],
        # An early Mastodon does not tell the replies.
        **{n: status.get(n, 0) for n in COUNTS},
    }
    return [row, *(of_status(server, inner) if inner else [])]


def read(folder: Path) -> dict[str, pd.DataFrame]:
    seen: list[dict[str, Any]] = []
    deleted: list[dict[str, Any]] = []
    for line in lines_of(folder / EVENTS):
        if line["event"] in {"update", "status.update"}:
            seen += of_status(STREAM, line["payload"])
        elif line["event"] == "delete":
            deleted.append({"server": STREAM, "id": str(line["payload"])})
    for line in lines_of(folder / STATUSES):
        seen += of_status(f"https://{line['host']}", line["status"])
    listed = [
        {
            "server": f"https://{line['host']}",
            "id": str(line["status_id"]),
            "created_at": version["created_at"],
            "content": version["content"],
        }
        for line in lines_of(folder / HISTORIES)
        for version in line["history"]
    ]
    frames = {"seen": pd.DataFrame(seen), "listed": pd.DataFrame(listed)}
    for frame in frames.values():
        for name in {"created_at", "edited_at"} & set(frame.columns):
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    frames["deleted"] = pd.DataFrame(deleted).drop_duplicates()
    return frames


def normalised(name: str) -> str:
    """As Mastodon does it: compatibility form, and case folded."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


@pytest.fixture(scope="module")
def processed(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Processing]:
    folder = tmp_path_factory.mktemp("fediverse")
    files = [(real_file(n, folder), n != EVENTS) for n in (EVENTS, STATUSES, HISTORIES)]
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        create(engine, system)
        load(engine, files)
        done = process(engine, batch_events=100)
        yield Processing(engine, files, done, **read(folder))
        engine.dispose()


def load(engine: Engine, files: list[tuple[Path, bool]]) -> None:
    for path, by_host in files:
        load_fediverse(engine, path, instance=STREAM, by_host=by_host)


def frame(engine: Engine, query: str, columns: list[str]) -> pd.DataFrame:
    """The query's rows; instants in UTC."""
    found = pd.DataFrame(rows(engine, query), columns=columns)
    for name in columns:
        if isinstance(found[name].dtype, pd.DatetimeTZDtype) or name.endswith(("_at", "hour")):
            found[name] = pd.to_datetime(found[name], utc=True)
    return found


def alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    names = list(found.columns)
    left, right = (each[names].sort_values(names, ignore_index=True) for each in (found, expected))
    assert len(left) == len(right)
    pd.testing.assert_frame_equal(left, right, check_dtype=False)


def tag_uses(posts: pd.DataFrame) -> pd.DataFrame:
    """Which post has which hashtag, once."""
    uses = posts[~posts["is_reblog"].astype(bool)].explode("tags").dropna(subset="tags")
    return uses.assign(tag=uses["tags"].map(normalised)).drop_duplicates([*POST, "tag"])


def test_every_event_is_processed_and_none_is_refused(processed: Processing) -> None:
    lines = sum(len(lines_of(path)) for path, _ in processed.files)
    assert lines == 194 + 1_106 + 33
    assert (processed.done.events, processed.done.failed) == (lines, 0)
    unprocessed = "SELECT count(*) FROM fediverse.stream_events WHERE processed_at IS NULL"
    assert scalar(processed.engine, unprocessed) == 0


def test_posts_are_those_that_pandas_finds_with_their_latest_content_and_counts(
    processed: Processing,
) -> None:
    columns = [*POST, "account", "visibility", "created_at", "edited_at", "is_reblog", "is_reply"]
    found = frame(
        processed.engine,
        "SELECT i.base_url, p.id, account_id, visibility, p.created_at, edited_at,"
        " reblog_of_id IS NOT NULL, in_reply_to_id IS NOT NULL"
        f" FROM fediverse.mastodon_posts AS p {SERVER.format('p')}",
        columns,
    )
    # Mastodon forgets what was answered; processing does not.
    replies = processed.seen.groupby(POST)["is_reply"].max().reset_index()
    expected = processed.latest().drop(columns="is_reply").merge(replies, on=POST)
    alike(found, expected)
    assert len(found) == 1_035
    assert found["edited_at"].notna().sum() == expected["edited_at"].notna().sum() > 30


def test_counts_are_those_observed_last_also_where_they_fell(processed: Processing) -> None:
    found = frame(
        processed.engine,
        f"SELECT i.base_url, p.id, {', '.join(COUNTS)} FROM fediverse.mastodon_posts AS p"
        f" {SERVER.format('p')} WHERE reblog_of_id IS NULL",
        [*POST, *COUNTS],
    )
    own = processed.seen[~processed.seen["is_reblog"]]
    alike(found, own.drop_duplicates(POST, keep="last"))
    last, most = (getattr(own.groupby(POST)["favourites_count"], how)() for how in ("last", "max"))
    assert (last < most).any()


def test_distinct_hashtags_are_those_of_pandas_after_normalisation(processed: Processing) -> None:
    found = frame(
        processed.engine,
        "SELECT i.base_url, p.post_id, h.name FROM fediverse.post_hashtags AS p"
        " JOIN fediverse.hashtags AS h ON h.instance_id = p.instance_id AND h.id = p.hashtag_id"
        f" {SERVER.format('p')}",
        [*POST, "tag"],
    )
    expected = tag_uses(processed.latest())
    alike(found, expected)
    assert len(found[["server", "tag"]].drop_duplicates()) > 200
    assert expected["tag"].map(str.isascii).eq(False).any()


def test_tag_uses_per_hour_are_those_of_pandas_live_and_refreshed(processed: Processing) -> None:
    uses = tag_uses(processed.counted())
    key = ["server", "tag", "hour"]
    expected = uses.groupby(key).agg(
        posts=("id", "size"), accounts=("account", "nunique"), engagement=("engagement", "sum")
    )
    query = (
        "SELECT i.base_url, h.name, hour_ts, posts_using_tag, unique_accounts_using_tag,"
        " total_engagement FROM fediverse.{} AS s JOIN fediverse.hashtags AS h"
        f" ON h.instance_id = s.instance_id AND h.id = s.hashtag_id {SERVER.format('s')}"
    )
    columns = [*key, "posts", "accounts", "engagement"]
    live = frame(processed.engine, query.format("hashtag_hourly_stats_live"), columns)
    alike(live, expected.reset_index())
    for tally in system.tallies:
        refresh(processed.engine, tally)
        assert verify(processed.engine, tally).ok
    stored = frame(processed.engine, query.format("hashtag_hourly_stats"), columns)
    alike(stored, expected.reset_index())
    assert expected["posts"].max() > 1


def test_hours_are_those_of_pandas(processed: Processing) -> None:
    posts = processed.counted()
    is_reblog = posts["is_reblog"].astype(bool)
    per_hour = posts.assign(post=~is_reblog, reblog=is_reblog).groupby(["server", "hour"])
    expected = per_hour.agg(
        posts=("post", "sum"),
        reblogs=("reblog", "sum"),
        engagement=("engagement", "sum"),
        accounts=("account", "nunique"),
    )
    found = frame(
        processed.engine,
        "SELECT i.base_url, hour, post_count, reblog_count, total_engagement, unique_accounts"
        f" FROM fediverse.hourly_stats_live AS s {SERVER.format('s')}",
        ["server", "hour", "posts", "reblogs", "engagement", "accounts"],
    )
    alike(found, expected.reset_index())


def test_versions_are_the_instants_of_statuses_and_histories(processed: Processing) -> None:
    own = processed.seen[~processed.seen["is_reblog"]]
    # A status shows the original, or the edit that it names.
    shown = own.assign(valid_at=own["edited_at"].fillna(own["created_at"]))
    listed = processed.listed.rename(columns={"created_at": "valid_at"})
    version = [*POST, "valid_at"]
    expected = pd.concat([shown, listed]).groupby(version)["content"].first().reset_index()
    found = frame(
        processed.engine,
        "SELECT i.base_url, v.post_id, valid_from, content_html AS content"
        " FROM fediverse.post_versions AS v"
        f" {SERVER.format('v')}",
        [*version, "content"],
    )
    alike(found, expected)
    numbered = rows(
        processed.engine,
        "SELECT count(*), max(version_seq), count(*) FILTER (WHERE valid_to IS NULL),"
        " min(version_seq)"
        " FROM fediverse.post_versions GROUP BY instance_id, post_id",
    )
    assert all(count == last and open_ == first == 1 for count, last, open_, first in numbered)
    assert len(listed[POST].drop_duplicates()) == 14


def test_deletes_are_the_numbers_beyond_a_double_that_the_stream_names(
    processed: Processing,
) -> None:
    deletions = "SELECT i.base_url, d.post_id FROM fediverse.post_deletions AS d"
    found = frame(processed.engine, f"{deletions} {SERVER.format('d')}", POST)
    alike(found, processed.deleted)
    assert len(found) == 29
    deleted = "SELECT i.base_url, p.id FROM fediverse.mastodon_posts AS p"
    deleted = f"{deleted} {SERVER.format('p')} WHERE deleted_at IS NOT NULL"
    alike(
        frame(processed.engine, deleted, POST),
        processed.deleted.merge(processed.seen[POST].drop_duplicates()),
    )


def test_the_log_is_verified_and_replaying_it_writes_nothing(processed: Processing) -> None:
    assert verify_log(processed.engine).ok
    assert replay(processed.engine).rows == {}

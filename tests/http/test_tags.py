"""Entity tags: the same tag is the same answer, whatever is written, refreshed or committed."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.schema import CreateSchema

from assets.media.tallies import daily_contributions
from assets.media.tallies import system as media
from tallykeeper import install, rebuild, refresh
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.http import database
from tallykeeper.http.app import create_app
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import COLLISIONS
from tests.integration.serving_client import Client
from tests.integration.support import create, execute

WRITE = "INSERT INTO media.media_files (path, original_created_at) VALUES ('{}', '{}')"
DAILY = "/api/media/daily-counts"
OLD_WINDOW = f"{DAILY}?start=2020-01-01&end=2020-12-31"
STATEMENTS = 30

ADDRESSES = {
    "media": [
        DAILY,
        f"{DAILY}?start=2024-03-02&end=2024-03-04",
        f"{DAILY}?end=2024-03-01",
        f"{DAILY}?start=2024-03-05",
        "/api/media/hourly-counts?day=2024-03-03",
    ],
    "gallery": [
        "/api/v1/content/stats/unified",
        f"/api/v1/content/stats/unified?user_id={UUID(int=1)}",
    ],
    "fediverse by hand": [
        "/api/stats/hourly?instance=1&start=2024-03-01T20:00Z&end=2024-03-03T04:00Z",
        "/api/stats/hourly?instance=2&start=2024-03-01T22:00Z&end=2024-03-01T23:00Z",
        "/api/hashtags/cats/hourly?instance=1&start=2024-03-01T20:00Z&end=2024-03-03T04:00Z",
        "/api/summaries?instance=1&start=2024-02-28&end=2024-03-05",
        "/api/summaries/latest?instance=1",
    ],
    "classroom": [
        *(f"/api/{e}/1/counts" for e in ("submissions", "assignments", "courses", "users")),
        "/api/assignment-groups/1/counts",
        "/api/submissions/counts?ids=0,1,2,3,4,5,6",
        "/api/users/counts?ids=0,1,2,3",
    ],
}


@pytest.fixture
def library(engine: Engine) -> Engine:
    """Two files, six years apart; all is refreshed."""
    create(engine, media)
    execute(engine, WRITE.format("a", "2020-05-01Z"), WRITE.format("b", "2025-11-20Z"))
    for tally in media.tallies:
        refresh(engine, tally)
    return engine


@pytest.fixture
def client(library: Engine) -> Client:
    return Client(create_app(library, ["media"]))


def tag_of(client: Client, address: str = DAILY) -> str:
    return client.get(address).headers["etag"]


def again(client: Client, tag: str, address: str = DAILY) -> int:
    return client.get(address, headers={"if-none-match": tag}).status_code


def test_a_change_that_commits_late_alters_the_tag(library: Engine, client: Client) -> None:
    """Its row of the log is older than one that was committed, and answered with, before."""
    with library.connect() as early:
        early.exec_driver_sql(WRITE.format("early", "2025-11-20Z"))
        execute(library, WRITE.format("late", "2025-11-20Z"))
        tag = tag_of(client)
        assert again(client, tag) == 304
        early.commit()
    assert again(client, tag) == 200
    assert client.get(DAILY).json()["total_files"] == 4


def test_a_change_that_commits_during_a_refresh_alters_the_tag(
    library: Engine, client: Client
) -> None:
    """The refresh did not see it, and its row stays in the log."""
    with library.connect() as early:
        early.exec_driver_sql(WRITE.format("early", "2025-11-20Z"))
        execute(library, WRITE.format("late", "2025-11-20Z"))
        refresh(library, daily_contributions)
        tag = tag_of(client)
        early.commit()
    assert again(client, tag) == 200
    tag = tag_of(client)
    refresh(library, daily_contributions)
    execute(library, "DELETE FROM media.media_files WHERE path = 'early'")
    assert again(client, tag) == 200


def test_a_change_that_is_rolled_back_leaves_the_tag(library: Engine, client: Client) -> None:
    tag = tag_of(client)
    with library.connect() as connection:
        connection.exec_driver_sql(WRITE.format("never", "2025-11-20Z"))
        assert again(client, tag) == 304
        connection.rollback()
    assert again(client, tag) == 304


def test_a_window_that_no_change_touched_keeps_its_tag(library: Engine, client: Client) -> None:
    tag = tag_of(client, OLD_WINDOW)
    execute(library, WRITE.format("c", "2025-11-20Z"), WRITE.format("d", "2019-12-31 23:59:59Z"))
    assert again(client, tag, OLD_WINDOW) == 304
    for each in (refresh, rebuild):
        each(library, daily_contributions)
        assert again(client, tag, OLD_WINDOW) == 304
    execute(library, WRITE.format("e", "2020-12-31 23:59:59Z"))
    assert again(client, tag, OLD_WINDOW) == 200


def test_days_that_exchange_their_counts_alter_the_tag(library: Engine, client: Client) -> None:
    execute(library, WRITE.format("c", "2025-11-20Z"))
    refresh(library, daily_contributions)
    tag = tag_of(client)
    execute(
        library,
        "UPDATE media.media_files SET original_created_at = CASE WHEN path = 'a'"
        " THEN timestamptz '2025-11-20Z' ELSE '2020-05-01Z' END",
    )
    refresh(library, daily_contributions)
    assert again(client, tag) == 200


def test_a_write_by_hand_alters_the_tag(library: Engine, client: Client) -> None:
    tag = tag_of(client)
    execute(
        library,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 7 WHERE date < '2021-01-01'",
    )
    assert again(client, tag) == 200


def test_days_are_distinguished_in_utc_in_a_table_without_time_zones(engine: Engine) -> None:
    """As it may be adopted, whatever the reader's own time zone."""
    with engine.begin() as connection:
        connection.execute(CreateSchema("media"))
        media.metadata.create_all(connection)
        connection.exec_driver_sql(
            "ALTER TABLE media.daily_contributions ALTER date TYPE timestamp"
            " USING date AT TIME ZONE 'UTC'"
        )
        install(connection, media.tallies)
        connection.exec_driver_sql(
            f"ALTER DATABASE \"{engine.url.database}\" SET timezone = 'Asia/Kathmandu'"
        )
    engine.dispose()
    execute(engine, WRITE.format("a", "2025-11-20 23:30Z"))
    refresh(engine, daily_contributions)
    client = Client(create_app(engine, ["media"]))
    address = f"{DAILY}?start=2025-11-20&end=2025-11-20"
    tag = tag_of(client, address)
    execute(engine, WRITE.format("b", "2025-11-20 00:30Z"))
    refresh(engine, daily_contributions)
    assert again(client, tag, address) == 200
    assert client.get(address).json()["total_files"] == 2


def test_a_stale_tally_has_no_tag(library: Engine, client: Client) -> None:
    """Its answers come from the sources, whose every change need not be captured."""
    execute(library, "TRUNCATE media.media_files")
    answer = client.get(DAILY)
    assert (answer.status_code, answer.json()["total_files"]) == (200, 0)
    assert "etag" not in answer.headers
    assert client.get(DAILY, headers={"if-none-match": "*"}).status_code == 200
    refresh(library, daily_contributions)
    assert again(client, tag_of(client)) == 304


def test_a_client_that_has_the_answer_is_answered_so_without_reading_it(
    library: Engine, client: Client
) -> None:
    answer = client.get(DAILY)
    assert answer.headers["cache-control"] == "private, max-age=0, must-revalidate"
    tag = answer.headers["etag"]
    for given in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        with statements_of(library) as sent:
            unchanged = client.get(DAILY, headers={"if-none-match": given})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == tag
        assert unchanged.headers["cache-control"] == answer.headers["cache-control"]
        assert sent
        assert not any("daily_contributions_live" in statement for statement in sent)
    for given in ('"other"', "nonsense", tag.strip('W/"'), ""):
        assert again(client, given) == 200


def test_what_was_answered_is_remembered_until_something_changes(
    library: Engine, client: Client
) -> None:
    first = client.get(DAILY).json()
    with statements_of(library) as sent:
        second = client.get(DAILY).json()
    assert not any("daily_contributions_live" in statement for statement in sent)
    assert second.pop("as_of") > first.pop("as_of")
    assert second == first
    execute(library, WRITE.format("c", "2025-11-20Z"))
    assert client.get(DAILY).json()["total_files"] == first["total_files"] + 1


def test_each_question_has_a_tag_of_its_own(client: Client) -> None:
    tags = [tag_of(client, a) for a in (DAILY, OLD_WINDOW, f"{DAILY}?start=2020-01-01")]
    assert len(set(tags)) == 3
    assert again(client, tags[0], OLD_WINDOW) == 200


def test_what_can_change_without_a_trace_has_no_tag(engine: Engine) -> None:
    for name in ("gallery", "fediverse"):
        create(engine, SUBJECTS[name].system)
    client = Client(create_app(engine, ["gallery", "fediverse"]))
    for address in (
        "/api/v1/content/unified",
        "/api/v1/tags",
        "/api/instances",
        "/api/hashtags/trending?instance=1",
        "/api/posts/velocity?instance=1",
    ):
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        assert "etag" not in answer.headers


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_same_tag_is_the_same_answer_whatever_is_written(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The service would else answer out of its memory, by that very tag.
    monkeypatch.setattr(database, "REMEMBERED_BYTES", 0)
    subject, rng = SUBJECTS[name], random.Random(7)
    with engine.begin() as connection:
        subject.create(connection)
    client = Client(create_app(engine, [subject.system.name]))
    known: dict[tuple[str, str], Any] = {}
    last: dict[str, str] = {}
    kept = 0
    weights = [operation.weight for operation in subject.operations]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        for number in range(STATEMENTS):
            (operation,) = rng.choices(subject.operations, weights)
            try:
                with driver.transaction(), driver.cursor() as cursor:
                    operation.run(cursor, rng)
            except COLLISIONS:
                continue
            for tally in subject.system.tallies:
                if number % 10 == 0:
                    refresh(engine, tally)
                elif rng.random() < 0.1:
                    rng.choice((refresh, rebuild))(engine, tally)
            for address in ADDRESSES[name]:
                kept += check(client, address, known, last)
    assert kept > 0
    assert len(known) > 3 * len(ADDRESSES[name])


def check(
    client: Client, address: str, known: dict[tuple[str, str], Any], last: dict[str, str]
) -> bool:
    """The answer is the one that had its tag before; says whether the client could have kept it."""
    answer = client.get(address)
    assert answer.status_code in (200, 404), answer.text
    tag = answer.headers.get("etag")
    if tag is None:
        return False
    body = answer.json()
    del body["as_of"]
    assert known.setdefault((address, tag), body) == body, (address, tag)
    same = last.get(address) == tag
    if address in last:
        assert (again(client, last[address], address) == 304) is same
    last[address] = tag
    return same


class statements_of:  # noqa: N801 -- used as a function
    """The statements that an engine sends within a block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sent: list[str] = []

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self._sent

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._sent.append(statement)

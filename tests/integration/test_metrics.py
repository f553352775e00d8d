"""The figures for Prometheus: each says what the database says, and nothing sick hides others."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import click
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions, hourly_contributions
from assets.media.tallies import system as media
from tallykeeper import refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.faults import incidents
from tallykeeper.operations import figures, metrics
from tallykeeper.operations.metrics import exposition
from tallykeeper.operations.metrics_server import exporting
from tests.integration.support import DAILY_LOG, HOURLY_LOG, create, execute
from tests.role_world import divide, world_of

ADD_FILES = (
    "INSERT INTO media.media_files (path, original_created_at)"
    " SELECT n::text, timestamptz '2020-01-01Z' + n * interval '1 day'"
    " FROM generate_series(1, 3) AS n"
)
DAILY = {"system": "media", "tally": "media.daily_contributions"}
HOURLY = {"system": "media", "tally": "media.hourly_contributions"}


class Figures:
    """The samples of one exposition."""

    def __init__(self, body: bytes) -> None:
        self.families = list(text_string_to_metric_families(body.decode()))
        self._samples = [sample for family in self.families for sample in family.samples]

    def of(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """The one sample with exactly these labels; None where there is none."""
        wanted = dict(labels or {})
        found = [
            s.value for s in self._samples if s.name == f"tallykeeper_{name}" and s.labels == wanted
        ]
        assert len(found) < 2, found
        return found[0] if found else None

    def subjects(self, name: str) -> set[str]:
        """Of which tallies a figure is shown."""
        return {s.labels["tally"] for s in self._samples if s.name == f"tallykeeper_{name}"}


def scrape(engine: Engine, *systems: object) -> Figures:
    return Figures(exposition(engine, systems or (media,))[0])  # type: ignore[arg-type]


@pytest.fixture
def kept(engine: Engine) -> Engine:
    """The media system, with three files, built."""
    create(engine, media)
    execute(engine, ADD_FILES)
    for tally in media.tallies:
        refresh(engine, tally)
    return engine


def test_a_tally_tells_what_is_pending_and_since_when(kept: Engine) -> None:
    before = scrape(kept)
    assert before.of("up") == 1
    assert before.of("tally_up", DAILY) == 1
    assert before.of("pending_changes", DAILY) == 0
    assert before.of("oldest_pending_seconds", DAILY) == 0
    execute(kept, "DELETE FROM media.media_files WHERE path <> '1'")
    execute(kept, CLAIM_WRITING, f"UPDATE {DAILY_LOG} SET logged_at = now() - interval '1 hour'")
    after = scrape(kept)
    assert after.of("pending_changes", DAILY) == 2
    assert 3600 <= (after.of("oldest_pending_seconds", DAILY) or 0) < 3700
    assert 0 <= (after.of("oldest_pending_seconds", HOURLY) or -1) < 100


def test_a_tally_tells_of_its_last_refresh_and_its_rows(kept: Engine) -> None:
    figures = scrape(kept)
    assert abs((figures.of("last_refresh_timestamp_seconds", DAILY) or 0) - time.time()) < 100
    assert 0 < (figures.of("last_refresh_duration_seconds", DAILY) or 0) < 100
    assert figures.of("rows", DAILY) == 3


def test_a_tally_tells_of_its_last_verify_and_what_differed(kept: Engine) -> None:
    assert scrape(kept).of("differing_keys", DAILY) is None, "never verified"
    execute(kept, CLAIM_WRITING, "DELETE FROM media.daily_contributions")
    assert not verify(kept, daily_contributions).ok
    assert verify(kept, hourly_contributions).ok
    figures = scrape(kept)
    assert figures.of("differing_keys", DAILY) == 3
    assert figures.of("differing_keys", HOURLY) == 0
    assert abs((figures.of("last_verify_timestamp_seconds", DAILY) or 0) - time.time()) < 100


def test_a_tally_tells_whether_it_is_stale(kept: Engine) -> None:
    assert scrape(kept).of("stale", DAILY) == 0
    execute(kept, "TRUNCATE media.media_files")
    assert scrape(kept).of("stale", DAILY) == 1


def test_a_tally_tells_the_sizes_of_its_table_and_log(kept: Engine) -> None:
    execute(kept, "DELETE FROM media.media_files")
    figures = scrape(kept)
    for name in ("table_bytes", "log_bytes"):
        size = figures.of(name, DAILY) or 0
        assert size >= 8192, name
        assert size % 8192 == 0, name


def test_counting_pending_changes_ends_somewhere(
    kept: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_PENDING", 2)
    execute(kept, "DELETE FROM media.media_files")
    assert scrape(kept).of("pending_changes", DAILY) == 2


def test_every_tally_of_a_system_is_named_and_every_figure_says_what_it_is(kept: Engine) -> None:
    figures = scrape(kept)
    assert figures.subjects("rows") == {"media.daily_contributions", "media.hourly_contributions"}
    assert all(len(family.documentation) > 20 for family in figures.families)


def test_one_sick_tally_hides_no_other(kept: Engine, caplog: pytest.LogCaptureFixture) -> None:
    execute(kept, f"DROP TABLE {HOURLY_LOG} CASCADE")
    figures = scrape(kept)
    assert figures.of("up") == 1
    assert figures.of("tally_up", HOURLY) == 0
    assert figures.of("rows", HOURLY) == 3, "the rest that can be had"
    assert figures.of("pending_changes", HOURLY) is None
    assert figures.of("tally_up", DAILY) == 1
    assert "media.hourly_contributions could not be read (relation" in caplog.text


def test_a_tally_that_is_in_the_way_of_time_hides_no_other(
    kept: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LOCK_MILLISECONDS", 100)
    with kept.begin() as other:
        other.exec_driver_sql(f"LOCK TABLE {DAILY_LOG} IN ACCESS EXCLUSIVE MODE")
        figures = scrape(kept)
    assert (figures.of("tally_up", DAILY), figures.of("tally_up", HOURLY)) == (0, 1)


def test_a_scrape_ends_in_time_whatever_is_left_to_read(
    kept: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 0.3)
    with kept.begin() as other:
        other.exec_driver_sql(f"LOCK TABLE {DAILY_LOG} IN ACCESS EXCLUSIVE MODE")
        figures = scrape(kept)
    assert (figures.of("tally_up", DAILY), figures.of("tally_up", HOURLY)) == (0, 0)
    assert figures.of("up") == 1


def test_a_system_that_was_never_migrated_is_down_and_one_without_sources_is_not_there(
    engine: Engine,
) -> None:
    execute(engine, "CREATE SCHEMA media", "CREATE TABLE media.media_files ()")
    figures = scrape(engine, media, gallery)
    assert figures.of("up") == 1
    assert figures.of("tally_up", DAILY) == 0
    assert figures.subjects("tally_up") == {
        "media.daily_contributions",
        "media.hourly_contributions",
    }


def test_a_system_that_is_wanted_is_named_even_without_its_sources(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "media")
    assert scrape(engine).of("tally_up", DAILY) == 0


def test_an_unreachable_database_is_a_figure_and_no_error(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine(database_url.replace("test_", "missing_"))
    figures = scrape(engine)
    assert figures.of("up") == 0
    assert figures.of("scrape_duration_seconds") is not None
    assert "connecting failed" in caplog.text


def test_what_waits_in_a_raw_log_is_reported_of_its_system(engine: Engine) -> None:
    from assets.fediverse.tallies import system as fediverse

    create(engine, fediverse)
    figures = scrape(engine, fediverse)
    assert figures.of("waiting_rows", {"system": "fediverse"}) == 0
    assert figures.of("oldest_waiting_seconds", {"system": "fediverse"}) == 0


def test_incidents_are_counted_while_open_by_subject_and_for_ever_by_kind(kept: Engine) -> None:
    assert scrape(kept).of("incidents_total", {"kind": "differs"}) == 0
    with kept.begin() as connection:
        incidents.report(connection, DAILY["tally"], "differs", "1 key differs")
        incidents.report(connection, DAILY["tally"], "differs", "2 keys differ")
        incidents.report(connection, DAILY["tally"], "capture", "a trigger is missing")
        incidents.report(connection, HOURLY["tally"], "differs", "1 key differs")
        incidents.resolve(connection, HOURLY["tally"], "differs", "a check")
    figures = scrape(kept)
    one = {"subject": DAILY["tally"], "kind": "differs"}
    assert figures.of("open_incidents", one) == 1
    assert figures.of("open_incidents", one | {"kind": "capture"}) == 1
    assert figures.of("open_incidents", one | {"subject": HOURLY["tally"]}) is None
    assert figures.of("incidents_total", {"kind": "differs"}) == 2
    assert figures.of("incidents_total", {"kind": "run"}) == 0


def test_a_database_of_an_earlier_version_has_no_incidents_and_the_rest(kept: Engine) -> None:
    execute(kept, "DROP TABLE tallykeeper.incidents, tallykeeper.pruned_incidents CASCADE")
    figures = scrape(kept)
    assert figures.of("up") == figures.of("tally_up", DAILY) == 1
    assert figures.of("incidents_total", {"kind": "differs"}) is None


def test_a_role_that_only_reads_may_read_all_figures(engine: Engine) -> None:
    from assets.fediverse.tallies import system as fediverse

    with world_of(engine, [media, fediverse]) as world:
        divide(world, [media, fediverse])
        figures = scrape(world.look, media, fediverse)
    down = [
        t.name
        for system in (media, fediverse)
        for t in system.tallies
        if figures.of("tally_up", {"system": system.name, "tally": t.name}) != 1
    ]
    assert down == []
    assert figures.of("waiting_rows", {"system": "fediverse"}) == 0
    assert figures.of("incidents_total", {"kind": "differs"}) == 0


def test_open_metrics_is_spoken_to_who_asks_for_it(kept: Engine) -> None:
    body, content_type = exposition(kept, [media], "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert {f.name for f in open_metrics(body.decode())} >= {"tallykeeper_build", "tallykeeper_up"}
    assert exposition(kept, [media])[1].startswith("text/plain; version=0.0.4")


def test_two_scrapes_at_once_see_the_same(kept: Engine) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(exposition(kept, [media])[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Figures(body).of("rows", DAILY) for body in found] == [3] * 4


def test_it_serves_what_is_true_at_each_scrape(
    kept: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", database_url)
    monkeypatch.setenv("TALLY_SYSTEMS", "media")
    with exporting(("127.0.0.1", 0)) as url:
        assert _ask(url).of("pending_changes", DAILY) == 0
        execute(kept, "DELETE FROM media.media_files")
        assert _ask(url).of("pending_changes", DAILY) == 3


def test_a_port_in_use_is_a_clear_error(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", database_url)
    with exporting(("127.0.0.1", 0)) as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        with (
            pytest.raises(click.ClickException, match=f"cannot listen on port {port} of 127.0.0.1"),
            exporting(("127.0.0.1", port)),
        ):
            pass


def _ask(url: str) -> Figures:
    answer = httpx.get(url, timeout=30)
    assert answer.status_code == 200
    return Figures(answer.content)

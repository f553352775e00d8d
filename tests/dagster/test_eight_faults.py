"""What goes wrong with such tables, each end to end: found, reported, resolved, and written down.

Runs, the sensor and its repairs go as the daemon has them go, in this process; `tally migrate` is
called as a function. In each test a change slips by, or a figure is wrong, before anything is done
about it, and at the end every figure is what the sources say.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._daemon.monitoring.run_monitoring import monitor_started_run
from sqlalchemy import Engine, Integer, cast, func, select, text

import tallykeeper
from assets.media import tables
from assets.media.tallies import hourly_contributions
from assets.media.tallies import system as media
from tallykeeper import Incident, SelectTally, System
from tallykeeper.dagster.assets import build_assets
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.connections import open_engine
from tallykeeper.faults import incidents
from tallykeeper.installation.migrate import migrate
from tests.concurrency.server import Server
from tests.dagster.location import Location
from tests.webhook import Webhook, webhook

DAILY, HOURLY = (tally.name for tally in media.tallies)
SLIPPED_BY = "DELETE FROM media.media_files WHERE original_created_at < '2025-06-02Z'"
A_RUN = """
import sys
import dagster as dg
from assets.media.tallies import system
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.connections import open_engine
from tests.dagster.location import Location

with dg.DagsterInstance.get() as instance:
    Location(instance, open_engine(sys.argv[1]), [assets_of(system, daily())]).hourly()
"""


@dataclass
class Kept:
    """A code location that is kept: its runs, its sensor, and where it reports."""

    location: Location
    hook: Webhook

    def hour(self) -> list[str]:
        """An hourly run, and what follows from it by itself; the titles of what was reported."""
        self.location.hourly()
        return self.attend()

    def attend(self) -> list[str]:
        """What the sensor does, with the repairs it asks for; the titles of what was reported."""
        before = len(self.hook.received)
        for request in self.location.look("alerts").run_requests or ():
            self.location.run(request.job_name, request.run_config, tags=request.tags)
            self.location.look("alerts")
        return self.hook.titles[before:]

    def incidents(self, kind: str) -> dict[str, Incident]:
        """The incidents of a kind, by their subject."""
        with self.location.engine.connect() as connection:
            found = [i for i in incidents.listed(connection) if i.kind == kind]
        assert len({i.subject for i in found}) == len(found), "written down twice"
        return {i.subject: i for i in found}

    def all_is_well(self) -> None:
        """Nothing is open, and every figure is what the sources say."""
        with self.location.engine.connect() as connection:
            assert incidents.open_counts(connection) == {}
        for built in self.location.built:
            for tally in built.system.tallies:
                assert tallykeeper.verify(self.location.engine, tally).ok


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as hook:
        monkeypatch.setenv("TALLY_ALERT_URLS", hook.url)
        yield hook


def keep(location: Location, hook: Webhook) -> Kept:
    """Three files on three days; everything built, found right, and processed."""
    location.add(*(f"2025-06-{day:02} 12:00Z" for day in range(1, 4)))
    location.build()
    location.audit()
    location.look("alerts")
    assert hook.received == []
    return Kept(location, hook)


@pytest.fixture
def library(location: Location, hook: Webhook) -> Kept:
    return keep(location, hook)


@pytest.mark.parametrize(
    ("fault", "called"),
    [
        (
            ("ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_delete", SLIPPED_BY),
            "the delete trigger is disabled, or not enabled always",
        ),
        (
            ("DROP TRIGGER tallykeeper_delete ON media.media_files", SLIPPED_BY),
            "the delete trigger is missing",
        ),
        (
            # As pg_restore --disable-triggers does.
            (
                "ALTER TABLE media.media_files DISABLE TRIGGER ALL",
                "DELETE FROM media.media_files",
                "INSERT INTO media.media_files (path, original_created_at)"
                " VALUES ('restored', '2019-01-01Z')",
                "ALTER TABLE media.media_files ENABLE TRIGGER ALL",
            ),
            "the delete trigger is disabled, or not enabled always",
        ),
    ],
    ids=["trigger disabled", "trigger dropped", "source restored with triggers off"],
)
def test_capture_that_was_off(library: Kept, fault: tuple[str, ...], called: str) -> None:
    library.location.execute(*fault)
    assert sorted(library.hour()) == [
        f"{DAILY}: changes may be missed",
        f"{HOURLY}: changes may be missed",
    ]
    assert "`tally migrate`" in library.hook.received[-1]["body"]
    for incident in library.incidents("capture").values():
        assert incident.is_open
        assert f"media.media_files: {called}" in (incident.cause or "")

    migrate(library.location.engine, [media])
    assert sorted(library.hour()) == [
        f"{DAILY}: recovered (changes may be missed)",
        f"{DAILY}: was rebuilt: its capture was found broken and repaired",
        f"{HOURLY}: recovered (changes may be missed)",
        f"{HOURLY}: was rebuilt: its capture was found broken and repaired",
    ]
    for incident in library.incidents("capture").values():
        assert (incident.is_open, incident.resolved_by) == (False, "the check capture_intact")
    assert set(library.incidents("stale")) == {DAILY, HOURLY}
    library.all_is_well()


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        ("UPDATE media.daily_contributions SET count = 9 WHERE date = '2025-06-02Z'", "UPDATE"),
        ("DELETE FROM media.daily_contributions WHERE date = '2025-06-02Z'", "DELETE"),
        ("INSERT INTO media.daily_contributions (date, count) VALUES ('2025-06-07Z', 9)", "INSERT"),
    ],
    ids=["row edited", "row deleted", "row added"],
)
def test_a_row_of_a_tally_changed_by_hand(library: Kept, fault: str, operation: str) -> None:
    library.location.execute(fault)
    (message,) = library.hour()
    assert message.startswith(f"{DAILY}: was written by hand")
    (incident,) = library.incidents("edited").values()
    assert (incident.subject, incident.is_open, incident.resolved_by) == (DAILY, False, "rebuilt")
    assert re.match(rf"edited by hand: {operation} of (up to )?\d+ rows? by ", incident.what)
    library.all_is_well()


def test_a_partition_attached_without_capture(
    instance: dg.DagsterInstance, engine: Engine, hook: Webhook
) -> None:
    location = Location(instance, engine, [assets_of(media, daily())])
    location.execute(
        "CREATE SCHEMA media",
        "CREATE SEQUENCE media.ids",
        "CREATE TABLE media.media_files (id bigint NOT NULL DEFAULT nextval('media.ids'),"
        " path text NOT NULL, original_created_at timestamptz,"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
        " PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)",
        "CREATE TABLE media.recent PARTITION OF media.media_files"
        " FOR VALUES FROM ('2020-01-01Z') TO (MAXVALUE)",
    )
    migrate(engine, [media])
    library = keep(location, hook)
    location.execute(
        "CREATE TABLE media.old (LIKE media.media_files INCLUDING DEFAULTS)",
        "INSERT INTO media.old (path, created_at) VALUES ('came with it', '2019-05-01Z')",
        "ALTER TABLE media.media_files ATTACH PARTITION media.old"
        " FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-01Z')",
        "INSERT INTO media.old (path, created_at) VALUES ('named it', '2019-05-02Z')",
    )
    assert f"{DAILY}: changes may be missed" in library.hour()
    said = "media.old: belongs to the source now, and is not captured with it"
    assert said in str(library.incidents("capture")[DAILY])

    migrate(engine, [media])
    assert f"{DAILY}: recovered (changes may be missed)" in library.hour()
    assert library.incidents("capture")[DAILY].resolved_at is not None
    library.all_is_well()


def test_a_declaration_that_changed(library: Kept) -> None:
    day = func.date_trunc("day", tables.media_files.c.created_at, "UTC").label("date")
    changed = SelectTally(
        DAILY,
        select=select(day, cast(func.count(), Integer).label("count")).group_by(day),
        table=tables.daily_contributions,
    )
    try:
        other = System("media", tables.metadata, [changed, hourly_contributions])
        before = library.location
        released = Location(before.instance, before.engine, [build_assets(other, daily())])
        kept = Kept(released, library.hook)
        assert kept.hour() == ["media_hourly: a run failed"]
        migrate(before.engine, [other])
        why = "its change log was missing, another table, or had other columns"
        assert kept.hour() == [
            "media_hourly: recovered (a run failed)",
            f"{DAILY}: was rebuilt: {why}",
            f"{DAILY}: was rebuilt: its declaration changed",
        ]
        with before.engine.connect() as connection:
            found = [i for i in incidents.listed(connection) if i.kind == "stale"]
        assert {(i.subject, i.resolved_by) for i in found} == {(DAILY, "rebuilt")}
        assert "its declaration changed" in {i.what for i in found}
        kept.all_is_well()
    finally:
        System("media", tables.metadata, list(media.tallies))


def test_the_refresher_is_killed(library: Kept) -> None:
    location = library.location
    location.add("2025-06-02 13:00Z")
    with held(location.engine) as waits:
        url = location.engine.url.render_as_string(hide_password=False)
        refresher = subprocess.Popen(
            [sys.executable, "-c", A_RUN, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until(waits)
        finally:
            refresher.kill()
            refresher.wait()
    notice_its_end(location.instance)
    assert library.attend() == ["media_hourly: a run failed"]
    assert library.incidents("run")["media_hourly"].is_open
    assert all(tallykeeper.verify(location.engine, t).ok for t in media.tallies), (
        "nothing half done"
    )

    assert library.hour() == ["media_hourly: recovered (a run failed)"]
    assert library.incidents("run")["media_hourly"].resolved_by == "a run of media_hourly"
    library.all_is_well()


def test_the_server_is_killed(instance: dg.DagsterInstance, hook: Webhook) -> None:
    # Not pytest's own folder, whose path is too long for a socket and closed to other users.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        server = Server(Path(folder) / "pg")
        server.start()
        engine = open_engine(server.create_database("kept"))
        try:
            migrate(engine, [media], with_sources=True)
            library = keep(Location(instance, engine, [assets_of(media, daily())]), hook)
            _kill_server_in_a_run(library, server)
        finally:
            engine.dispose()
            server.stop()


def _kill_server_in_a_run(library: Kept, server: Server) -> None:
    location = library.location
    location.add("2025-06-02 13:00Z")
    running = threading.Thread(target=location.hourly)
    with held(location.engine) as waits:
        running.start()
        until(waits)
        server.kill()
        running.join()
    location.engine.dispose()
    assert library.attend() == [], "nobody can say yet whether it is down or away for a moment"
    server.start()
    assert library.attend() == ["media_hourly: a run failed"]
    assert all(tallykeeper.verify(location.engine, t).ok for t in media.tallies), (
        "nothing half done"
    )

    assert library.hour() == ["media_hourly: recovered (a run failed)"]
    assert library.incidents("run")["media_hourly"].resolved_by == "a run of media_hourly"
    library.all_is_well()


@contextmanager
def held(engine: Engine) -> Iterator[Callable[[], bool]]:
    """Keep a refresh from ending when it has written everything; tells whether one waits for that.

    The row of its tally's state is the last that it writes.
    """
    with engine.connect() as holder, engine.connect() as watcher:
        holder.execute(text("SELECT FROM tallykeeper.tally_state FOR UPDATE"))

        def waits() -> bool:
            watcher.rollback()
            return bool(
                watcher.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND datname = current_database() AND query LIKE '%tally_state%'"
                    )
                )
            )

        yield waits
        # The server may have ended; if not, the end of the session lets go.
        holder.invalidate()
        watcher.invalidate()


def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def notice_its_end(instance: dg.DagsterInstance) -> None:
    """What the daemon does every few seconds: a run whose process has ended is marked as failed."""
    (record,) = instance.get_run_records(
        dg.RunsFilter(job_name="media_hourly", statuses=[dg.DagsterRunStatus.STARTED])
    )
    gone = {"host": "localhost", "socket": "/nowhere/at/all"}
    instance.add_run_tags(record.dagster_run.run_id, {GRPC_INFO_TAG: json.dumps(gone)})
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[record.dagster_run.run_id]))
    workspace: Any = None
    monitor_started_run(instance, workspace, record, logging.getLogger(__name__))

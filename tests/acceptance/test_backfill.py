"""`tally backfill`, as people run it: built, shown, refused, interrupted and gone on with."""

from __future__ import annotations

import signal
import time

import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import content_tags
from tallykeeper import backfill
from tests import gallery
from tests.acceptance.command import Command, Result, without_progress
from tests.gallery import JUNCTION, differing
from tests.integration.support import execute, scalar

NAME = "gallery.content_tags"


@pytest.fixture
def items(tally: Command, engine: Engine) -> Command:
    """A gallery with items, migrated, and nothing built."""
    tally.environment["TALLY_SYSTEMS"] = "gallery"
    tally.ok("migrate", "--with-sources")
    gallery.fill(engine, 50)
    return tally


def test_a_backfill_tells_what_it_did(items: Command, engine: Engine) -> None:
    line = items.ok("backfill", NAME).out.rstrip()
    total = scalar(engine, f"SELECT count(*) FROM {JUNCTION}")
    assert line.startswith(f"{NAME}: backfilled regular, auto in ")
    assert line.endswith(f" s; 2 batches, 100 items, {total} rows, {total} written")
    assert differing(engine) == 0
    again = items.ok("backfill", "content_tags", "--lane", "auto", "--target-seconds", "0.5")
    assert "backfilled auto in" in again.out
    assert again.out.rstrip().endswith(" 0 written")


def test_what_is_left_to_do_is_said(items: Command, engine: Engine) -> None:
    one = items.ok("backfill", NAME, "--lane", "regular").out.splitlines()[-1]
    assert one.endswith("; still to be built: lane auto is not built yet")
    items.ok("backfill", NAME)
    execute(engine, "UPDATE gallery.content_items SET tags = tags[2:] WHERE id = 1")
    over = items.ok("backfill", NAME, "--restart").out.splitlines()[-1]
    assert over.endswith(f"; 1 pending: `tally refresh {NAME}` takes them")
    assert differing(engine, f"{JUNCTION}_live") == 0


def test_what_is_asked_wrongly_is_explained(items: Command) -> None:
    no_lane = items.run("backfill", NAME, "--lane", "manual")
    assert (no_lane.code, no_lane.out) == (2, "")
    assert "no lane 'manual'; it has regular, auto; see `tally backfill --help`" in no_lane.err
    no_batches = items.run("backfill", "gen_source_stats")
    assert no_batches.code == 2
    assert "is not built in batches; `tally rebuild gallery.gen_source_stats`" in no_batches.err
    assert items.run("backfill", NAME, "--target-seconds", "0").code == 2


def test_a_second_backfill_is_refused(items: Command, engine: Engine) -> None:
    refused: list[Result] = []

    def second(_progress: object) -> None:
        if not refused:
            refused.append(items.run("backfill", NAME))
            refused.append(items.run("status"))

    backfill(engine, content_tags, on_progress=second)
    assert (refused[0].code, refused[0].out) == (1, "")
    assert refused[0].err.startswith(f"tally: {NAME} is being backfilled by the session with")
    assert "50 of 100 items done; wait until it is through, or stop it" in refused[0].err
    assert f"{NAME}: is being backfilled (auto 0 of 50 items)" in refused[1].out


def test_ctrl_c_ends_it_and_the_same_command_goes_on(items: Command, engine: Engine) -> None:
    with engine.connect() as holder:
        holder.exec_driver_sql(f"LOCK TABLE {JUNCTION} IN SHARE ROW EXCLUSIVE MODE")
        process = items.start("backfill", NAME)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        deadline = time.monotonic() + 30
        while not scalar(engine, waiting) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert without_progress(err) == (
        "tally: interrupted; the batches so far stay, and the same command goes on from there\n"
    )
    items.ok("backfill", NAME)
    assert differing(engine) == 0


def test_an_interrupted_backfill_is_seen_in_the_status(items: Command, engine: Engine) -> None:
    class Cut(Exception):
        pass

    def cut(_progress: object) -> None:
        raise Cut

    with pytest.raises(Cut):
        backfill(engine, content_tags, on_progress=cut)
    shown = items.ok("status").out
    assert f"{NAME}: its backfill was interrupted (auto 0 of 50 items)" in shown
    assert f"`tally backfill {NAME}` goes on" in shown
    assert items.ok("migrate").out == "nothing to do\n"
    assert items.ok("backfill", NAME).out.splitlines()[-1].startswith(f"{NAME}: resumed and")
    assert "backfill" not in items.ok("status").out

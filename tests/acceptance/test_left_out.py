"""A tally whose source is missing is named by `migrate` and `status`; the others go on."""

from __future__ import annotations

from sqlalchemy import Engine

from tests.acceptance.command import Command
from tests.integration.support import execute
from tests.integration.test_missing_sources import WITHOUT_USERS


def test_a_tally_without_its_source_is_named(tally: Command, engine: Engine) -> None:
    execute(engine, *WITHOUT_USERS)
    migrated = tally.ok("migrate").out
    assert "left out gallery.gen_source_stats: there is no gallery.users\n" in migrated
    assert "installed gallery.content_tags (never built)\n" in migrated
    assert "rebuilt" in tally.ok("refresh").out
    said = (
        "gallery.gen_source_stats is left out: there is no gallery.users; create it and run `tally"
    )
    assert said in tally.ok("status").out
    assert tally.run("refresh", "gen_source_stats").code == 1

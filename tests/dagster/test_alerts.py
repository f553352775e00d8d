"""The sensor `alerts`: what it makes incidents of, and what people are told, and when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tallies import incidents
from tests.dagster.location import Location
from tests.webhook import Webhook, webhook

BROKEN = "UPDATE media.daily_contributions SET count = 7 WHERE date = '2020-06-02Z'"
MENDED = "UPDATE media.daily_contributions SET count = 1 WHERE date = '2020-06-02Z'"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as hook:
        monkeypatch.setenv("TALLY_ALERT_URLS", hook.url)
        yield hook


@pytest.fixture
def library(location: Location, hook: Webhook) -> Location:
    """Three files on three days, all tallies built, all checks found right and heard of."""
    location.add(*(f"2020-06-{day:02} 12:00Z" for day in range(1, 4)))
    location.build()
    location.audit()
    location.look("alerts")
    assert hook.received == []
    return location


def all_incidents(location: Location) -> list[incidents.Incident]:
    with location.engine.connect() as connection:
        return incidents.listed(connection)


def test_a_failed_check_is_told_with_keys_and_values_and_so_is_its_recovery(
    library: Location, hook: Webhook
) -> None:
    library.execute(BROKEN)
    ran = library.audit()
    library.look("alerts")
    (told,) = hook.received
    assert told["title"] == "media.daily_contributions: 1 key differs from the sources"
    lines = told["body"].splitlines()
    assert lines[0] == "2020-06-02: stored 7, expected 1"
    assert lines[1].startswith("Found at 20")
    assert lines[2].startswith("Likely cause: edited by hand: UPDATE by ")
    assert "A repair was requested" in lines[3]
    assert lines[4] == f"Run: http://127.0.0.1:3000/runs/{ran.run_id}"
    assert lines[5] == "Asset: http://127.0.0.1:3000/assets/media/daily_contributions"

    library.execute(MENDED)
    library.audit()
    library.look("alerts")
    assert hook.titles[1:] == [
        "media.daily_contributions: recovered (1 key differs from the sources)"
    ]
    (incident,) = all_incidents(library)
    assert incident.mended_by == "the check matches_source"
    library.look("alerts")
    assert len(hook.received) == 2

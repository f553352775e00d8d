"""The settings of the classroom alone: defaults, and what is refused."""

from __future__ import annotations

import pytest

from assets.classroom import settings
from tallykeeper.settings import SettingError


def test_a_pause_counts_for_five_minutes_or_as_long_as_wished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.idle_seconds() == 300
    monkeypatch.setenv("TALLY_CLASSROOM_IDLE_SECONDS", "120")
    assert settings.idle_seconds() == 120
    monkeypatch.setenv("TALLY_CLASSROOM_IDLE_SECONDS", "0")
    with pytest.raises(SettingError, match="expected a whole number of seconds from 1"):
        settings.idle_seconds()

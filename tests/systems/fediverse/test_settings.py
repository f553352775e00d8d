"""The settings of the fediverse alone: defaults, and what is refused."""

from __future__ import annotations

import pytest

from assets.fediverse import settings
from tallykeeper.settings import SettingError


def test_raw_events_are_kept_for_thirty_days_or_as_many_as_wished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.keep_events_days() == 30
    monkeypatch.setenv("TALLY_FEDIVERSE_KEEP_DAYS", "7")
    assert settings.keep_events_days() == 7
    monkeypatch.setenv("TALLY_FEDIVERSE_KEEP_DAYS", "0")
    with pytest.raises(SettingError, match="KEEP_DAYS: expected a whole number of days from 1"):
        settings.keep_events_days()


def test_deleted_posts_are_redacted_where_it_says_1_and_nothing_else_is_guessed_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not settings.redact_deleted()
    for value, redact in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", value)
        assert settings.redact_deleted() is redact
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "yes")
    with pytest.raises(SettingError, match="REDACT: expected 1 or 0, but it is 'yes'"):
        settings.redact_deleted()


def test_a_token_comes_as_it_stands_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.mastodon_token() is None
    monkeypatch.setenv("TALLY_MASTODON_TOKEN", " s3-cret_ ")
    assert settings.mastodon_token() == "s3-cret_"
    for value in ("s3cret\nX-More: 1", "s3 cret", "s3cr\u00e9t"):
        monkeypatch.setenv("TALLY_MASTODON_TOKEN", value)
        with pytest.raises(SettingError, match="expected an access token") as caught:
            settings.mastodon_token()
        assert "s3" not in str(caught.value)

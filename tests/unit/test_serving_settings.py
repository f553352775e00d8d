"""Settings of the service: defaults, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tallykeeper import settings
from tallykeeper.settings import SettingError

TOKEN = "0123456789abcdef"


def test_the_service_reads_where_all_else_does_and_nobody_may_rebuild(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.serve_database_url() is None
    assert settings.serve_token() is None
    assert (settings.serve_ready_seconds(), settings.serve_statement_seconds()) == (7200, 5)
    monkeypatch.setenv("TALLY_SERVE_DATABASE_URL", "postgresql://reader@db/app")
    monkeypatch.setenv("TALLY_SERVE_TOKEN", TOKEN)
    monkeypatch.setenv("TALLY_SERVE_READY_SECONDS", "60")
    monkeypatch.setenv("TALLY_SERVE_STATEMENT_SECONDS", "2")
    assert settings.serve_database_url() == "postgresql://reader@db/app"
    assert settings.serve_token() == TOKEN
    assert (settings.serve_ready_seconds(), settings.serve_statement_seconds()) == (60, 2)


@pytest.mark.parametrize("value", ["short", "with a blank in its middle", "é" * 20])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TALLY_SERVE_TOKEN", value)
    with pytest.raises(SettingError, match="TALLY_SERVE_TOKEN: expected at least 16") as caught:
        settings.serve_token()
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("TALLY_SERVE_READY_SECONDS", settings.serve_ready_seconds),
        ("TALLY_SERVE_STATEMENT_SECONDS", settings.serve_statement_seconds),
    ],
)
def test_limits_of_the_service_are_whole_numbers_from_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, read: Callable[[], int]
) -> None:
    monkeypatch.setenv(variable, "0")
    with pytest.raises(SettingError, match=f"{variable}: expected a whole number of seconds"):
        read()

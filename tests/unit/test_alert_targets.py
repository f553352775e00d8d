"""Addresses of alerts: how they are read, and that nothing shows them."""

from __future__ import annotations

import logging

import pytest
from click.testing import CliRunner

from tallykeeper import settings
from tallykeeper.cli import main as cli
from tallykeeper.operations.alert_targets import NotSent, name_of, targets, targets_of
from tallykeeper.settings import SettingError
from tests.webhook import webhook

SECRET = "json://somebody:pass-word-1@127.0.0.1:1/token-2/channel-3?key=value-4"
PIECES = ("somebody", "pass-word-1", "token-2", "channel-3", "value-4")


def test_addresses_stand_between_blanks_or_commas_and_each_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.alert_urls() == []
    monkeypatch.setenv(
        "TALLY_ALERT_URLS",
        "json://a/b?to=x,y, mailto://u:p@h json://c,json://d\n slack://x, json://c,",
    )
    assert settings.alert_urls() == [
        "json://a/b?to=x,y",
        "mailto://u:p@h",
        "json://c",
        "json://d",
        "slack://x",
    ]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("secret-word", "1 of 1"),
        ("json://a secret-word", "2 of 2"),
        ("json://a, secret-word://x", "2 of 2"),
        ("mailto://secret-word", "1 of 1"),
    ],
)
def test_a_malformed_address_is_reported_by_its_place_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, place: str
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TALLY_ALERT_URLS", value)
    with pytest.raises(SettingError, match=f"TALLY_ALERT_URLS: .* in place {place}") as error:
        targets()
    assert "secret-word" not in str(error.value)
    assert "secret-word" not in caplog.text


def test_a_target_is_known_by_its_kind_and_a_digest() -> None:
    (target,) = targets_of([SECRET])
    assert target.name == name_of(SECRET)
    assert target.name.startswith("json-")
    assert name_of(SECRET + "x") != target.name
    assert not any(piece in repr(target) for piece in PIECES)


def test_why_nothing_was_sent_is_reported_without_the_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    (target,) = targets_of([SECRET])
    with pytest.raises(NotSent, match=r"[Cc]onnection error") as error:
        target.send("title", "body")
    for piece in PIECES:
        assert piece not in str(error.value)
        assert piece not in caplog.text


def test_pieces_of_the_address_in_what_the_other_side_says_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def refuse(*_: object, **__: object) -> bool:
        logging.getLogger("apprise").warning("no channel-3 for token-2 at https://x/y?z=value-4")
        return False

    monkeypatch.setattr(NotifyJSON, "send", refuse)
    with pytest.raises(NotSent) as error:
        targets_of([SECRET])[0].send("title", "body")
    assert str(error.value) == "no *** for *** at ***"


def test_a_plugin_that_breaks_off_is_a_message_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def break_off(*_: object, **__: object) -> bool:
        raise KeyError("token-2")

    monkeypatch.setattr(NotifyJSON, "send", break_off)
    with pytest.raises(NotSent, match="broke off with KeyError") as error:
        targets_of([SECRET])[0].send("title", "body")
    assert "token-2" not in str(error.value)


def test_others_may_still_log_what_they_send(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    targets_of([SECRET])
    logging.getLogger("urllib3.connectionpool").debug("somebody else's request")
    assert "somebody else's request" in caplog.text


def test_links_lead_to_the_ui_of_one_s_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.ui_url() == "http://127.0.0.1:3000"
    monkeypatch.setenv("TALLY_UI_URL", "https://dagster.example.org/prefix/")
    assert settings.ui_url() == "https://dagster.example.org/prefix"


@pytest.mark.parametrize("value", ["dagster.example.org", "https://u:p@h", "ftp://h", "http://a b"])
def test_what_is_no_address_of_a_page_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TALLY_UI_URL", value)
    with pytest.raises(SettingError, match="TALLY_UI_URL: expected an address like http"):
        settings.ui_url()


def test_what_is_still_wrong_is_reported_again_after_six_hours_or_as_many_as_wished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.alert_repeat_hours() == 6
    monkeypatch.setenv("TALLY_ALERT_REPEAT_HOURS", "24")
    assert settings.alert_repeat_hours() == 24
    monkeypatch.setenv("TALLY_ALERT_REPEAT_HOURS", "0")
    with pytest.raises(SettingError, match="TALLY_ALERT_REPEAT_HOURS: expected a whole number"):
        settings.alert_repeat_hours()


@pytest.mark.parametrize("command", ["status", "up"])
def test_no_command_begins_with_a_malformed_address(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    value = "mailto://secret-word" if command == "up" else "secret-word"
    monkeypatch.setenv("TALLY_ALERT_URLS", value)
    ended = CliRunner().invoke(cli.tally, [command])
    assert isinstance(ended.exception, SettingError)
    assert "in place 1 of 1" in str(ended.exception)
    assert "secret-word" not in f"{ended.exception}{ended.output}"


def test_a_test_message_goes_to_each_address_and_says_which_did_not_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with webhook() as one, webhook() as other:
        other.status = 500
        monkeypatch.setenv("TALLY_ALERT_URLS", f"{one.url} {other.url}")
        ended = CliRunner().invoke(cli.tally, ["test-alert"], standalone_mode=False)
    assert ended.return_value == 1, ended.output
    sent, failed = ended.output.splitlines()
    assert sent == f"{name_of(one.url)}: sent"
    assert failed.startswith(f"{name_of(other.url)}: not sent: ")
    assert one.titles == ["Tallykeeper: a test message"]
    assert "hook-secret-1" not in ended.output


def test_without_addresses_there_is_nobody_to_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_ALERT_URLS", raising=False)
    ended = CliRunner().invoke(cli.tally, ["test-alert"])
    assert ended.exit_code == 1
    assert "name at least one address in TALLY_ALERT_URLS" in ended.output

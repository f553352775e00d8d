"""Settings: what is unset has its default, what is malformed is refused in one clear sentence."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tallykeeper import settings
from tallykeeper.settings import SettingError


def test_a_system_lives_in_the_schema_of_its_name() -> None:
    assert settings.schema_of("media") == "media"


def test_a_system_can_live_in_another_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_SCHEMA_MEDIA", "public")
    assert settings.schema_of("media") == "public"
    assert settings.schema_of("gallery") == "gallery"


@pytest.mark.parametrize(
    "schema",
    ["1st", "a b", "a;b", 'a"b', "a.b", "x" * 64, "pg_temp", "information_schema", "tallykeeper"],
)
def test_no_schema_that_an_application_could_not_own(
    monkeypatch: pytest.MonkeyPatch, schema: str
) -> None:
    monkeypatch.setenv("TALLY_SCHEMA_MEDIA", schema)
    with pytest.raises(SettingError, match=r"TALLY_SCHEMA_MEDIA: expected .* but it is .*media"):
        settings.schema_of("media")


def test_the_file_of_names_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.names_file() is None
    file = tmp_path / "names.toml"
    monkeypatch.setenv("TALLY_NAMES", str(file))
    with pytest.raises(SettingError, match="TALLY_NAMES: expected a TOML file, but it is"):
        settings.names_file()
    file.touch()
    assert settings.names_file() == file


def test_home_is_in_the_project_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_HOME")
    assert settings.home() == settings.project_root() / ".tally"
    assert (settings.project_root() / "pyproject.toml").is_file()


def test_the_projects_file_is_parsed_once_and_again_when_it_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parsed: list[str] = []
    loads = tomllib.loads

    def noting(text: str) -> dict[str, object]:
        parsed.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", noting)
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.tallykeeper]\npage = "shop.page"\n')
    monkeypatch.chdir(tmp_path)
    assert [settings.project_page() for _ in range(3)] == ["shop.page"] * 3
    assert len(parsed) == 1
    file.write_text('[tool.tallykeeper]\npage = "mart.page"\n')
    assert settings.project_page() == "mart.page"
    file.unlink()
    assert settings.project_root() != tmp_path


def test_home_is_absolute_and_need_not_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_HOME", "a/../b")
    assert settings.home() == tmp_path / "b"


def test_home_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TALLY_HOME", "~/tallies")
    assert settings.home() == tmp_path / "tallies"


def test_home_of_an_unknown_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_HOME", "~nobody-of-that-name/x")
    with pytest.raises(SettingError, match="without ~"):
        settings.home()


def test_home_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TALLY_HOME", str(tmp_path / "file"))
    with pytest.raises(SettingError, match="TALLY_HOME: expected a folder"):
        settings.home()


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TALLY_DATABASE_URL", "DAGSTER_PG_URL", "TALLY_SYSTEMS", "TALLY_START_DATE"):
        monkeypatch.setenv(name, "  ")
    assert settings.database_url() is None
    assert settings.dagster_pg_url() is None
    assert settings.wanted_systems() is None
    assert settings.start_date() == date(datetime.now(UTC).year - 1, 1, 1)


def test_addresses_come_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", " postgresql://a@b/c ")
    monkeypatch.setenv("DAGSTER_PG_URL", "postgresql://d@e/f")
    assert settings.database_url() == "postgresql://a@b/c"
    assert settings.dagster_pg_url() == "postgresql://d@e/f"


def test_the_first_day_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_START_DATE", "1999-12-31")
    assert settings.start_date() == date(1999, 12, 31)


@pytest.mark.parametrize("value", ["2015", "20150101", "2015-W01-4", "2015-02-30", "01.01.2015"])
def test_the_first_day_is_written_in_one_way(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TALLY_START_DATE", value)
    with pytest.raises(SettingError, match=r"expected a date like .*YYYY-MM-DD"):
        settings.start_date()


def test_the_first_day_is_not_still_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    after_tomorrow = datetime.now(UTC).date() + timedelta(days=2)
    monkeypatch.setenv("TALLY_START_DATE", after_tomorrow.isoformat())
    with pytest.raises(SettingError, match="not after today"):
        settings.start_date()


def test_systems_are_named_with_commas_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "media, gallery,media")
    assert settings.wanted_systems() == ["media", "gallery"]


@pytest.mark.parametrize("value", ["media,,gallery", "media;gallery", "Media", ","])
def test_a_malformed_list_of_systems_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", value)
    with pytest.raises(SettingError, match="TALLY_SYSTEMS: expected names of systems"):
        settings.wanted_systems()


def test_limits_have_defaults_and_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.fresh_seconds() == 7_200
    assert settings.pressure_rows() == 100_000
    monkeypatch.setenv("TALLY_FRESH_SECONDS", "60")
    monkeypatch.setenv("TALLY_PRESSURE_ROWS", "5")
    assert settings.fresh_seconds() == 60
    assert settings.pressure_rows() == 5


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "²"])
def test_a_limit_is_a_whole_number_from_one(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TALLY_FRESH_SECONDS", value)
    with pytest.raises(SettingError, match="TALLY_FRESH_SECONDS: expected a whole number"):
        settings.fresh_seconds()


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("192.0.2.7:1", ("192.0.2.7", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("metrics-1.example.org:0", ("metrics-1.example.org", 0)),
    ],
)
def test_metrics_are_served_where_it_says_and_a_port_alone_is_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, value: str, address: tuple[str, int]
) -> None:
    assert settings.metrics_address() is None
    monkeypatch.setenv("TALLY_METRICS_ADDRESS", value)
    assert settings.metrics_address() == address


@pytest.mark.parametrize(
    "value", ["localhost", "localhost:", "::1:9464", "65536", "a b:1", "http://a:1", "a:1/metrics"]
)
def test_a_malformed_address_to_listen_at_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TALLY_METRICS_ADDRESS", value)
    with pytest.raises(SettingError, match="TALLY_METRICS_ADDRESS: expected an address to listen"):
        settings.metrics_address()


def test_repairs_are_limited_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.repairs_per_day() == 3
    monkeypatch.setenv("TALLY_REPAIRS_PER_DAY", "0")
    assert settings.repairs_per_day() == 0
    monkeypatch.setenv("TALLY_REPAIRS_PER_DAY", "-1")
    with pytest.raises(SettingError, match="expected a whole number of repairs from 0"):
        settings.repairs_per_day()


def test_runs_and_incidents_are_kept_as_long_as_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.keep_runs_days() == 90
    assert settings.keep_incidents_days() == 365
    monkeypatch.setenv("TALLY_KEEP_RUNS_DAYS", "7")
    monkeypatch.setenv("TALLY_KEEP_INCIDENTS_DAYS", "30")
    assert settings.keep_runs_days() == 7
    assert settings.keep_incidents_days() == 30
    monkeypatch.setenv("TALLY_KEEP_RUNS_DAYS", "0")
    monkeypatch.setenv("TALLY_KEEP_INCIDENTS_DAYS", "a year")
    with pytest.raises(SettingError, match="TALLY_KEEP_RUNS_DAYS: expected a whole number of days"):
        settings.keep_runs_days()
    with pytest.raises(SettingError, match="TALLY_KEEP_INCIDENTS_DAYS: expected a whole number"):
        settings.keep_incidents_days()


def test_event_triggers_are_installed_unless_the_setting_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings.event_triggers() == "auto"
    monkeypatch.setenv("TALLY_EVENT_TRIGGERS", "refuse")
    assert settings.event_triggers() == "refuse"
    monkeypatch.setenv("TALLY_EVENT_TRIGGERS", "on")
    with pytest.raises(settings.SettingError, match="one of auto, off, refuse"):
        settings.event_triggers()

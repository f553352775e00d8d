"""The dashboard and the alert rules: they ask for figures that there are, and can be read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from tallykeeper.database.connections import open_engine
from tallykeeper.operations.metrics import exposition
from tallykeeper.settings import project_root

DEPLOY = project_root() / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
COLUMNS = 24
SUFFIX = {"counter": "_total", "info": "_info"}


@pytest.fixture(scope="module")
def figures() -> set[str]:
    """The names of all figures; they are shown whether or not there is a database."""
    engine = open_engine("postgresql://nobody@127.0.0.1:1/nowhere")
    families = text_string_to_metric_families(exposition(engine, [])[0].decode())
    # The text format has no type for what OpenMetrics calls info.
    return {family.name + SUFFIX.get(family.type, "") for family in families}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "tallykeeper.json").read_text())
    return found


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _named(text: str) -> set[str]:
    return set(re.findall(r"\btallykeeper_[a-z_]+", text))


def _queries(dashboard: dict[str, Any]) -> list[str]:
    panels = [target["expr"] for panel in _drawn(dashboard) for target in panel["targets"]]
    variables = dashboard["templating"]["list"]
    return panels + [v["query"]["query"] for v in variables if v["type"] == "query"]


def _drawn(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_the_dashboard_asks_for_figures_that_there_are_and_for_every_one(
    dashboard: dict[str, Any], figures: set[str]
) -> None:
    assert {name for query in _queries(dashboard) for name in _named(query)} == figures


def test_the_rules_ask_for_figures_that_there_are(
    rules: list[dict[str, Any]], figures: set[str]
) -> None:
    assert {name for rule in rules for name in _named(rule["expr"])} <= figures


def test_grafana_finds_what_it_needs_in_the_dashboard(dashboard: dict[str, Any]) -> None:
    assert (dashboard["id"], dashboard["uid"]) == (None, "tallykeeper")
    assert dashboard["title"]
    assert dashboard["schemaVersion"] >= 36
    ids = Counter(panel["id"] for panel in dashboard["panels"])
    assert set(ids.values()) == {1}
    for panel in _drawn(dashboard):
        assert panel["title"], panel
        assert panel["description"], panel
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) >= 1


def test_the_data_source_is_chosen_in_the_dashboard_and_nowhere_fixed(
    dashboard: dict[str, Any],
) -> None:
    first, *others = dashboard["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [*_drawn(dashboard), *others, *(t for p in _drawn(dashboard) for t in p["targets"])]
    assert all(each["datasource"] == chosen for each in asking)


def test_every_variable_of_a_query_is_one_of_the_dashboard(dashboard: dict[str, Any]) -> None:
    there = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = {name for query in _queries(dashboard) for name in re.findall(r"\$(\w+)", query)}
    assert used == {"system", "tally"}
    assert used < there


def test_no_panel_lies_over_another(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        under = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or under, (one, other)


def test_a_legend_names_only_what_its_query_leaves(dashboard: dict[str, Any]) -> None:
    for panel in _drawn(dashboard):
        for target in panel["targets"]:
            left = re.search(r"by \(([^)]*)\)", target["expr"])
            labels = set(left[1].split(", ")) if left else set()
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, target


def test_each_rule_says_how_bad_it_is_since_when_and_what_to_do(
    rules: list[dict[str, Any]],
) -> None:
    assert max(Counter(rule["alert"] for rule in rules).values()) == 1
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        said = " ".join(rule["annotations"].values())
        left = re.search(r"by \(([^)]*)\)", rule["expr"])
        labels = set(left[1].split(", ")) if left else set()
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= labels, rule


def test_prometheus_reads_the_rules_and_scrapes_with_more_patience_than_a_scrape_takes() -> None:
    from tallykeeper.operations.metrics import SCRAPE_SECONDS

    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).is_file() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "tallykeeper", "the rule that it is down names it"
    assert float(job["scrape_timeout"].removesuffix("s")) > SCRAPE_SECONDS + 10, "to connect"


def test_each_rule_has_a_case_in_which_it_fires(rules: list[dict[str, Any]]) -> None:
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fires = {
        case["alertname"]
        for test in cases
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fires == {rule["alert"] for rule in rules}


def test_the_rules_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, which comes with Prometheus, is not installed")
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
    ):
        checked = subprocess.run(
            [promtool, *arguments],
            cwd=PROMETHEUS,
            env={"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr

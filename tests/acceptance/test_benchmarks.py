"""Each benchmark that proves a claim still runs: all of them, as small as can be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import runs, tiny
from benchmarks.__main__ import BENCHMARKS, ONLY_ON_REQUEST
from tallykeeper.settings import project_root
from tests.environment import environment

# The writers of `day` are processes of their own for as long as a test of a day is (`test_day.py`).
NAMES = [name for name in BENCHMARKS if name not in {*ONLY_ON_REQUEST, "day"}]

# Twelve times what it takes on an idle machine.
SECONDS = 1200


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=project_root(),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_each_runs_at_a_tiny_size() -> None:
    ran = run("--tiny", *(f"--only={name}" for name in NAMES))
    assert ran.returncode == 0, ran.stderr
    shown = [line.removeprefix("## ") for line in ran.stdout.splitlines() if line.startswith("##")]
    assert shown == NAMES


def test_a_size_that_a_benchmark_no_longer_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "_SIZES", {runs: {"REPEATED": 1}})
    with pytest.raises(AttributeError, match=r"benchmarks\.runs has no size 'REPEATED'"):
        tiny.shrink()


def test_tiny_figures_come_into_no_page() -> None:
    ran = run("--tiny", "--output", "docs/reference/benchmarks.md")
    assert ran.returncode == 2
    assert "no --output" in ran.stderr

"""What the embedded server takes of a machine: a fitting part, and never at durability's cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallykeeper.embedded.server_settings import GIB, MIB, Machine, measure, settings_for

SMALL = Machine(memory=512 * MIB, cores=1, free_disk=GIB, shared_memory=None)
LARGE = Machine(memory=512 * GIB, cores=64, free_disk=4096 * GIB, shared_memory=256 * GIB)


def _mib(settings: dict[str, str], name: str) -> int:
    return int(settings[name].removesuffix("MB"))


@pytest.mark.parametrize("machine", [SMALL, LARGE])
def test_the_server_leaves_room_for_others(machine: Machine) -> None:
    settings = settings_for(machine)
    at_once = 4 * _mib(settings, "work_mem") + 2 * _mib(settings, "maintenance_work_mem")
    assert _mib(settings, "shared_buffers") + at_once < machine.memory / MIB / 2
    assert int(settings["max_parallel_workers"]) <= machine.cores


def test_more_memory_gives_more() -> None:
    small, large = settings_for(SMALL), settings_for(LARGE)
    for name in ("shared_buffers", "effective_cache_size", "work_mem", "max_wal_size"):
        assert _mib(small, name) < _mib(large, name)


@pytest.mark.parametrize("machine", [SMALL, LARGE])
def test_nothing_is_traded_for_durability(machine: Machine) -> None:
    unsafe = {"fsync", "synchronous_commit", "full_page_writes"}
    assert not unsafe & settings_for(machine).keys()


def test_small_shared_memory_of_a_container_is_not_relied_on() -> None:
    container = Machine(memory=8 * GIB, cores=4, free_disk=GIB, shared_memory=64 * MIB)
    assert settings_for(container)["dynamic_shared_memory_type"] == "mmap"
    assert "dynamic_shared_memory_type" not in settings_for(LARGE)
    assert "dynamic_shared_memory_type" not in settings_for(SMALL)


def test_a_containers_memory_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(
        "tallykeeper.embedded.server_settings._CGROUP_LIMITS", (limit, tmp_path / "none")
    )
    limit.write_text("max\n")
    whole = measure(tmp_path)
    limit.write_text(f"{100 * MIB}\n")
    assert measure(tmp_path).memory == 100 * MIB < whole.memory
    assert whole.cores >= 1
    assert whole.free_disk > 0

"""How much of this machine the embedded PostgreSQL may use, as settings for its conf file.

Measures the machine (a container's limits included) and decides; starts nothing. Invariants:
nothing here trades safety for speed. What was committed survives a crash and a power cut.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1024**2
GIB = 1024**3

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- looked at for its size only
_LEAST_SHARED_MEMORY = 512 * MIB


@dataclass(frozen=True)
class Machine:
    """What the server may count on: bytes of memory and of free disk, cores, bytes of /dev/shm."""

    memory: int
    cores: int
    free_disk: int
    shared_memory: int | None


def measure(folder: Path) -> Machine:
    """This machine, or the container that the process runs in; the disk is that of `folder`."""
    memory = psutil.virtual_memory().total
    for file in _CGROUP_LIMITS:
        if file.is_file() and (limit := file.read_text().strip()).isdigit():
            memory = min(memory, int(limit))
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    shared = shutil.disk_usage(_SHARED_MEMORY).total if _SHARED_MEMORY.is_dir() else None
    return Machine(memory, cores, shutil.disk_usage(folder).free, shared)


def settings_for(machine: Machine) -> dict[str, str]:
    """The settings for a server that shares the machine with what else runs on it."""
    memory, cores = machine.memory, max(1, machine.cores)
    parallel = min(4, cores // 2)
    chosen = {
        "shared_buffers": _mib(memory / 8, 32 * MIB, 4 * GIB),
        "effective_cache_size": _mib(memory / 2, 64 * MIB, memory),
        # Per sort or hash of a rebuild or a verify, and few of those run at once.
        "work_mem": _mib(memory / 128, 4 * MIB, 128 * MIB),
        "maintenance_work_mem": _mib(memory / 16, 32 * MIB, GIB),
        # More of it makes bulk loads faster, recovery longer, and takes disk.
        "max_wal_size": _mib(machine.free_disk / 10, 256 * MIB, 4 * GIB),
        "checkpoint_timeout": "15min",
        "max_worker_processes": str(cores + 6),
        "max_parallel_workers": str(cores),
        "max_parallel_workers_per_gather": str(parallel),
        "max_parallel_maintenance_workers": str(parallel),
        "random_page_cost": "1.1",
        # Compiling a plan takes longer than the small statements that a refresh consists of.
        "jit": "off",
        "max_connections": "100",
        "max_prepared_transactions": "20",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
    }
    if machine.shared_memory is not None and machine.shared_memory < _LEAST_SHARED_MEMORY:
        # Containers often have 64 MB there, on which a parallel hash join fails.
        chosen["dynamic_shared_memory_type"] = "mmap"
    return chosen


def _mib(wanted: float, least: int, most: int) -> str:
    """An amount of memory between two bounds, in whole MB as PostgreSQL writes it."""
    return f"{max(1, round(min(max(wanted, least), most) / MIB))}MB"

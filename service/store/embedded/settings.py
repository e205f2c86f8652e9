"""The parameters of the embedded PostgreSQL, by the machine's memory and the disk of the data."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from service.machine.memory import usable_memory_bytes

_MIB = 1 << 20
_LEAST_SHARED_BUFFERS_MB = 128
_MOST_SHARED_BUFFERS_MB = 2048
_LEAST_MAINTENANCE_MB = 64
_MOST_MAINTENANCE_MB = 256
_LEAST_WAL_MB = 64
_MOST_WAL_MB = 4096
_LEAST_CONNECTIONS = 100
# For migrations, sweeps and psql; PostgreSQL keeps three for superusers.
_FURTHER_CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """The size of the embedded server.

    shared_buffers_mb: 0 for a quarter of the usable memory, from 128 to 2048.
    connections: limit on the connections of all processes of the service.
    """

    shared_buffers_mb: int = 0
    connections: int = 0


def parameters(
    settings: EmbeddedSettings, disk_bytes: int, memory_bytes: int | None = None
) -> dict[str, str]:
    """The server parameters by name. Durability (fsync and the like) stays on.

    Args:
        disk_bytes: size of the file system of the data.
        memory_bytes: memory that the server shares with the service; None for the usable memory.
    """
    memory_mb = (usable_memory_bytes() if memory_bytes is None else memory_bytes) // _MIB
    shared_buffers_mb = settings.shared_buffers_mb or _within(
        _LEAST_SHARED_BUFFERS_MB, memory_mb // 4, _MOST_SHARED_BUFFERS_MB
    )
    maintenance_mb = _within(_LEAST_MAINTENANCE_MB, memory_mb // 16, _MOST_MAINTENANCE_MB)
    found = {
        "shared_buffers": f"{shared_buffers_mb}MB",
        # For the planner alone; the models and the service need memory, too.
        "effective_cache_size": f"{max(shared_buffers_mb, memory_mb // 2)}MB",
        "maintenance_work_mem": f"{maintenance_mb}MB",
        # Writes of vectors and indexes are scattered, and after a checkpoint the log has each page
        # as a whole: checkpoints are rare, unless the log would fill a small disk.
        "max_wal_size": f"{_within(_LEAST_WAL_MB, disk_bytes // _MIB // 8, _MOST_WAL_MB)}MB",
        "max_connections": str(
            max(_LEAST_CONNECTIONS, settings.connections + _FURTHER_CONNECTIONS)
        ),
    }
    if _syncs_file_systems():
        # After a crash, all files are synced before the recovery. One call for the file system
        # replaces one for each of thousands of files, which takes seconds.
        found["recovery_init_sync_method"] = "syncfs"
    return found


def _syncs_file_systems() -> bool:
    """Whether syncfs(2) reports errors, as it does from Linux 5.8 on."""
    if sys.platform != "linux":
        return False
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.split("-")[0])) >= (5, 8)


def _within(least: int, number: int, most: int) -> int:
    return max(least, min(number, most))

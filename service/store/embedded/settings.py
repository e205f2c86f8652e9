"""What the embedded PostgreSQL runs with: its own defaults are for a small machine of long ago."""

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
_LEAST_CONNECTIONS = 100
# Migrations, sweeps and an operator's psql; three of them are kept for superusers.
_FURTHER_CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """How large the embedded server is made.

    shared_buffers_mb: 0 = a quarter of the memory that the process may use, 128 to 2048.
    max_wal_size_mb: log between two checkpoints.
    connections: that the service holds at most, over all its processes.
    """

    shared_buffers_mb: int = 0
    max_wal_size_mb: int = 4096
    connections: int = 0


def parameters(settings: EmbeddedSettings, memory_bytes: int | None = None) -> dict[str, str]:
    """PostgreSQL's parameters by name; durability (fsync and the like) stays as it is, on.

    Args:
        memory_bytes: to share with the service; None = what this process may use.
    """
    memory_mb = (usable_memory_bytes() if memory_bytes is None else memory_bytes) // _MIB
    shared_buffers_mb = settings.shared_buffers_mb or _within(
        _LEAST_SHARED_BUFFERS_MB, memory_mb // 4, _MOST_SHARED_BUFFERS_MB
    )
    maintenance_mb = _within(_LEAST_MAINTENANCE_MB, memory_mb // 16, _MOST_MAINTENANCE_MB)
    found = {
        "shared_buffers": f"{shared_buffers_mb}MB",
        # For the planner only: the models and the service want memory, too.
        "effective_cache_size": f"{max(shared_buffers_mb, memory_mb // 2)}MB",
        "maintenance_work_mem": f"{maintenance_mb}MB",
        # Vectors and their index are written all over: each checkpoint has whole pages logged anew.
        "max_wal_size": f"{settings.max_wal_size_mb}MB",
        "max_connections": str(
            max(_LEAST_CONNECTIONS, settings.connections + _FURTHER_CONNECTIONS)
        ),
    }
    if _syncs_file_systems():
        # After a crash every file is made durable first: one call, instead of one for each of
        # thousands, which takes seconds before recovery even begins.
        found["recovery_init_sync_method"] = "syncfs"
    return found


def _syncs_file_systems() -> bool:
    """Whether syncfs(2) can be relied on: from Linux 5.8 on it reports what failed."""
    if sys.platform != "linux":
        return False
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.split("-")[0])) >= (5, 8)


def _within(least: int, number: int, most: int) -> int:
    return max(least, min(number, most))

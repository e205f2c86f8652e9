"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from service.runtime.cgroups import CGROUPS, OWN_CGROUPS, bounding_folders

# Version 2, then version 1.
_LIMITS = ("memory.max", "memory.limit_in_bytes")


def usable_memory_bytes(cgroups: Path = CGROUPS, own_cgroups: Path = OWN_CGROUPS) -> int:
    """The machine's memory, reduced to the smallest limit of the cgroups.

    Source: sysconf(3), cgroups(7), and the kernel's documents on `memory.max` (version 2) and
    `memory.limit_in_bytes` (version 1, which says a number beyond any memory for no limit).
    """
    limits = [
        limit
        for folder in bounding_folders("memory", cgroups, own_cgroups)
        for name in _LIMITS
        if (limit := _limit(folder / name))
    ]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such cgroup, or its limit is "max"
        return None

"""How many cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_V2_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota_file: Path = _CGROUP_V2_QUOTA) -> int:
    """Cores by affinity mask, reduced to the cgroup's CPU quota where one is set; at least 1.

    Source: sched_getaffinity(2) and the kernel's cgroup-v2 document (`cpu.max`: quota period).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup v2, or the quota is "max"
        return cores
    return max(1, min(cores, share))

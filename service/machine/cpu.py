"""The processor: the cores and the instruction sets that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from service.machine.cgroups import CGROUPS, OWN_CGROUPS, bounding_folders

_CPUINFO = Path("/proc/cpuinfo")

# Dot products of unsigned and signed bytes that add up in 32 bits: AVX512-VNNI, AVX-VNNI, AMX, and
# Arm's. Without them x86 adds pairs of products in 16 bits (VPMADDUBSW), which saturate.
_EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def usable_cores(cgroups: Path = CGROUPS, own_cgroups: Path = OWN_CGROUPS) -> int:
    """Cores by affinity mask, reduced to the smallest CPU quota of the cgroups; at least 1.

    A quota of 2.5 cores counts as 3 cores, the last of them half used.

    Source: sched_getaffinity(2), cgroups(7), and the kernel's documents on `cpu.max` (version 2)
    and `cpu.cfs_quota_us` (version 1).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    folders = bounding_folders("cpu", cgroups, own_cgroups)
    quotas = [share for folder in folders if (share := _quota(folder))]
    return max(1, min([cores, *(math.ceil(share) for share in quotas)]))


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The instruction sets of the first core as Linux reports them; empty elsewhere."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:  # not Linux
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86, Arm
            return frozenset(value.split())
    return frozenset()


def adds_int8_exactly(flags: frozenset[str]) -> bool:
    """Whether 8-bit models compute here exactly what they computed when they were verified."""
    return not _EXACT_INT8.isdisjoint(flags)


def _quota(folder: Path) -> float | None:
    """Cores that a cgroup allows; None without a limit."""
    try:
        if (unified := folder / "cpu.max").exists():
            quota, period = unified.read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such cgroup, or its quota is "max"
        return None
    return cores if cores > 0 else None  # version 1 says -1 for no limit

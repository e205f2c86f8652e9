"""The cgroups that may bound this process, of either version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def bounding_folders(controller: str, cgroups: Path, own_cgroups: Path) -> Iterator[Path]:
    """Every cgroup folder that may bound this process: its own folders and their parents.

    In a container the own path may not exist; the root is the container's cgroup.

    Args:
        controller: as version 1 names it: cpu, memory. Version 2 has one folder for all.
    """
    try:
        lines = own_cgroups.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controllers
        own = root / path.lstrip("/")
        yield from (own, *own.parents[: len(own.parts) - len(root.parts)])

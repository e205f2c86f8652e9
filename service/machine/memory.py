"""Memory: the limit of this process, free pages, and the garbage collector's work."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

from service.machine.cgroups import CGROUPS, OWN_CGROUPS, bounding_folders

# Version 2, then version 1.
_LIMITS = ("memory.max", "memory.limit_in_bytes")


def release_free_memory() -> None:
    """Return free pages of the C library to the operating system; without glibc do nothing.

    Photos are large and short-lived, and glibc keeps the memory that they free: after a few
    12-megapixel photos the service held twice the memory that it needed (malloc_trim(3)).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle_heap() -> None:
    """Collect garbage once, and exclude all live objects from later collections.

    A collection over modules, models and compiled kernels blocks the event loop for 70 to 80 ms,
    every few seconds under load, and finds nothing: they live as long as the process, or until an
    exchange of the models, after which this is called again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


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
    except (OSError, ValueError):  # no such cgroup, or no limit
        return None

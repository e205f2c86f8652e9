"""Processor time of other processes to the nanosecond, where `/proc` counts in hundredths."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

# The clock of all threads of a process, as `clock_getcpuclockid` of the C library makes it.
_CLOCK_BITS, _CLOCK_OF_PROCESS = 3, 2


def processor_s(pid: int) -> float:
    """Processor time so far of a process that runs, in seconds.

    Raises:
        ProcessLookupError: there is none.
    """
    try:
        return time.clock_gettime((~pid << _CLOCK_BITS) | _CLOCK_OF_PROCESS)
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def tree_s(root: psutil.Process) -> float:
    """Processor time so far of a process and of all that it started and that still run."""
    total = processor_s(root.pid)
    for process in root.children(recursive=True):
        with suppress(ProcessLookupError):  # it ended meanwhile
            total += processor_s(process.pid)
    return total

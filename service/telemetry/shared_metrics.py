"""The folder in which the processes of one service share their metrics."""

from __future__ import annotations

import os
import shutil
from typing import Final

from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

# prometheus_client reads it when it is imported.
_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


def shared_metrics_environment(folder: str) -> dict[str, str]:
    """Environment variables that make a new process share its metrics in a folder."""
    return {_VARIABLE: folder}


def shared_metrics_dir() -> str | None:
    """The folder of this process; None where it shares its metrics with no other.

    Raises:
        RuntimeError: the variable was set after prometheus_client had been imported, so that each
            process would report its own numbers alone.
    """
    folder = os.environ.get(_VARIABLE)
    if folder and values.ValueClass is values.MutexValue:
        raise RuntimeError(f"{_VARIABLE} was set after prometheus_client had been imported")
    return folder or None


def forget_process(pid: int, folder: str) -> None:
    """Leave an ended process out of the gauges; its counters stay in the sums."""
    mark_process_dead(pid, path=folder)  # type: ignore[no-untyped-call]


def remove_shared_metrics() -> None:
    """Remove the folder of this process, if it has one, after the supervisor has died."""
    if folder := os.environ.get(_VARIABLE):
        shutil.rmtree(folder, ignore_errors=True)

"""The exit statuses of `facette`, for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class Status(IntEnum):
    """How a command ended."""

    DONE = 0
    INCOMPLETE = 1
    NOT_RUN = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Final[Mapping[Status, str]] = {
    Status.DONE: "everything was done",
    Status.INCOMPLETE: "a part was not done, or something is wrong: photos failed, nobody was "
    "found, the doctor has a fault, data are missing, requests were cut off, there are too few "
    "answers to learn from",
    Status.NOT_RUN: "the command could not run: an argument, the configuration, a file or the "
    "database",
    Status.UNREACHABLE: "the service does not answer, or cannot do it now",
    Status.REFUSED: "the service refuses the key, or the key may not do this",
    Status.INTERRUPTED: "Ctrl-C stopped it; the same command goes on",
    Status.TERMINATED: "SIGTERM stopped it; the same command goes on",
}
"""What each status says; docs/commandline.md has the same table."""

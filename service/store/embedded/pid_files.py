"""The pid files of PostgreSQL: postmaster.pid, and the lock file beside a socket."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

POSTMASTER_PID = "postmaster.pid"


@dataclass(frozen=True, slots=True)
class PidFile:
    """The lines of a pid file, of which the last may be missing while the server starts.

    Source: miscadmin.h of PostgreSQL, LOCK_FILE_LINE_*.
    """

    lines: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> PidFile:
        """The file at `path`; an empty one where there is none.

        Raises:
            PermissionError: the file may not be read.
        """
        try:
            text = os.fsdecode(path.read_bytes())
        except FileNotFoundError:
            return cls()
        return cls(tuple(line.strip() for line in text.splitlines()))

    @property
    def pid(self) -> int | None:
        """Process id of the server; None where the file has none."""
        try:
            return int(self._line(1))
        except ValueError:
            return None

    @property
    def port(self) -> int | None:
        """Port, which is part of the name of the socket."""
        port = self._line(4)
        return int(port) if port.isdecimal() else None

    @property
    def socket_dir(self) -> Path | None:
        """Folder of the socket."""
        folder = self._line(5)
        return Path(folder) if folder else None

    @property
    def shared_memory(self) -> list[str]:
        """Key and id of the shared memory segment; empty where the server has none."""
        return self._line(7).split()

    @property
    def status(self) -> str:
        """State of the server, as it writes it: starting, ready, stopping, standby."""
        return self._line(8) or "starting"

    def _line(self, number: int) -> str:
        """A line, counted from 1; empty where it is missing."""
        return self.lines[number - 1] if len(self.lines) >= number else ""

"""What an ingest remembers on this machine: hashes of files, and what a service refused.

The service alone knows what it has. The journal only saves reading files again, so it may be
removed at any time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.commands.ingest.files import FoundFile

_BUSY_S: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS file (
    path BLOB PRIMARY KEY, size_bytes INT, changed_ns INT, inode INT, sha256 BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    service TEXT, sha256 BLOB, code TEXT, reason TEXT, PRIMARY KEY (service, sha256)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service does not take a photo: the stable code, and words."""

    code: str
    reason: str


def state_file() -> Path:
    """The journal of this account, by the XDG Base Directory Specification."""
    base = os.environ.get("XDG_STATE_HOME") or ""
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return folder / "facette" / "ingest.sqlite"


class Journal:
    """The journal of one service; what is noted is written at once.

    No transaction is left open: another ingest of this account writes to the same file.

    Attributes:
        trouble: why nothing is remembered beyond this run; empty where it is.
    """

    def __init__(self, path: Path, service: str) -> None:
        self._path = path
        self._service = service
        self.trouble = ""
        try:
            self._database = self._open(path)
        except (OSError, sqlite3.Error) as error:
            self._forget(error)

    def sha256_of(self, file: FoundFile) -> bytes | None:
        """The hash of a file that is as it was; None where it is not known."""
        found = self._database.execute(
            "SELECT sha256 FROM file WHERE path = ? AND size_bytes = ? AND changed_ns = ? "
            "AND inode = ?",
            (_key(file), file.size_bytes, file.changed_ns, file.inode),
        ).fetchone()
        return None if found is None else found[0]

    def note_files(self, hashed: Iterable[tuple[FoundFile, bytes]]) -> None:
        """Remember the hashes of files, by one transaction."""
        self._write(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)",
            [
                (_key(file), file.size_bytes, file.changed_ns, file.inode, sha256)
                for file, sha256 in hashed
            ],
        )

    def refusal_of(self, sha256: bytes) -> Refusal | None:
        """Why the service refused a photo of these bytes; None where it did not."""
        found = self._database.execute(
            "SELECT code, reason FROM refused WHERE service = ? AND sha256 = ?",
            (self._service, sha256),
        ).fetchone()
        return None if found is None else Refusal(*found)

    def note_refusal(self, sha256: bytes, refusal: Refusal) -> None:
        """Remember that the service refused a photo of these bytes."""
        self._write(
            "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)",
            [(self._service, sha256, refusal.code, refusal.reason)],
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        try:
            with self._database:
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:  # the disk is full, or another one holds the file
            self._database.close()
            self._forget(error)
            with self._database:
                self._database.executemany(statement, rows)

    def _forget(self, error: Exception) -> None:
        """Go on with a journal in memory, which ends with this run."""
        self.trouble = f"{self._path}: {getattr(error, 'strerror', None) or error}"
        self._database = sqlite3.connect(":memory:")
        self._database.executescript(_SCHEMA)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Names of photos are nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(path, timeout=_BUSY_S)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        return database


def _key(file: FoundFile) -> bytes:
    return os.fsencode(Path(file.path).absolute())

"""The checkout, and temporary folders that PostgreSQL can work in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder outside pytest's own, in memory where there is room for it.

    As root, PostgreSQL runs as a user of its own; every pytest that starts closes the folder it
    shares with the others to all users but its own, under the feet of a running database.

    A database is 300 files, and many tests make and drop one. ext4 gives no file the inode of one
    that went within the last five seconds, and looks at each of those before it finds another.
    """
    is_roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    with tempfile.TemporaryDirectory(
        prefix="facette-test-", dir=_MEMORY if is_roomy else None, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)

"""The checkout, and temporary folders that PostgreSQL can work in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def open_folder(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder outside pytest's own; parent: where temporary files lie, unless given.

    As root, PostgreSQL runs as a user of its own; every pytest that starts closes the folder it
    shares with the others to all users but its own, under the feet of a running database.
    """
    with tempfile.TemporaryDirectory(
        prefix="facette-test-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)

"""What the tests of the client share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.calls import Photos, decode, encode


@pytest.fixture
def folder(photos: Photos, tmp_path: Path) -> Path:
    """A folder with a photo of each of two people, one of both, and a copy of another size."""
    copy = decode(photos.astronaut)
    for name, data in {
        "anna.jpg": photos.astronaut,
        "ben.jpg": photos.hopper,
        "both.jpg": photos.both,
        "copy.jpg": encode(copy.resize((copy.width * 3 // 2, copy.height * 3 // 2))),
        "README.md": b"no photo",
    }.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path

"""A small photo for the tests of processes, so that an insert takes little time."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.calls import encode


@pytest.fixture(scope="session")
def photo(portraits: list[Path]) -> bytes:
    """A portrait of one person."""
    with Image.open(portraits[1]) as file:
        return encode(file.convert("RGB").resize((213, 250)))

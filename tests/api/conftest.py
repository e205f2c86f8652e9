"""Small photos for the API tests, so that an insert takes little time."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.calls import Photos, encode


@pytest.fixture(scope="session")
def photos(portraits: list[Path]) -> Photos:
    """The two portraits, cut to the head and made small, alone and side by side."""
    with Image.open(portraits[0]) as file:
        astronaut = file.convert("RGB").crop((120, 0, 350, 300)).resize((192, 250))
    with Image.open(portraits[1]) as file:
        hopper = file.convert("RGB").resize((213, 250))
    return Photos(
        astronaut=encode(astronaut),
        hopper=encode(hopper),
        both=encode(_grid([astronaut, hopper], columns=2)),
        twins=encode(_grid([astronaut, astronaut], columns=2)),
        crowd=encode(_grid([astronaut.resize((108, 140))] * 12, columns=4)),
        nobody=encode(Image.new("RGB", (96, 64), "white")),
    )


def _grid(tiles: list[Image.Image], columns: int) -> Image.Image:
    width, height = max(tile.width for tile in tiles), tiles[0].height
    sheet = Image.new("RGB", (columns * width, len(tiles) // columns * height), "gray")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % columns * width, place // columns * height))
    return sheet

"""One photo in every kind of file: it decodes to the same upright pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.vision.decode import decode, read_header
from service.vision.formats.base import DecodeLimits
from tests.support.odd_photos import odd_photos

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")
ENOUGH = DecodeLimits(1_000_000, 1_000_000)


def test_every_kind_of_file_gives_the_pixels_of_the_photo(portraits: list[Path]) -> None:
    with Image.open(portraits[0]) as file:
        photos = odd_photos(file.convert("RGB").crop((110, 0, 330, 256)))
    wrong = {}
    for photo in photos:
        pixels = decode(photo.data, ENOUGH, hashed=False).pixels
        header = read_header(photo.data, ENOUGH)
        if pixels.shape != photo.expected.shape:
            wrong[photo.name] = f"{pixels.shape} for {photo.expected.shape}"
        elif header.upright_size != pixels.shape[1::-1]:
            wrong[photo.name] = f"{pixels.shape} announced as {header}"
        else:
            difference = float(np.abs(pixels.astype(int) - photo.expected).mean())
            if difference > photo.tolerance:
                wrong[photo.name] = f"{difference:.2f} beside {photo.tolerance}"
    assert wrong == {}
    assert len(photos) > 180

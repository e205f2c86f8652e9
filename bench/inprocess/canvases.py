"""Photos made from real ones: of a given size, or with a given number of faces."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import cv2
import numpy as np

from bench.common.harness import Pixels
from bench.common.photos import Photo
from service.domain.types import Detection

_TILE = 128
_GRAY = 127


def scaled(pixels: Pixels, megapixels: float) -> Pixels:
    """The photo with `megapixels` million pixels and its own proportions."""
    height, width = pixels.shape[:2]
    scale = math.sqrt(megapixels * 1e6 / (height * width))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=way)
    return np.asarray(resized, dtype=np.uint8)


async def face_tiles(
    photos: Sequence[Photo], detect: Callable[[Pixels], Awaitable[Sequence[Detection]]]
) -> list[Pixels]:
    """The best face of each photo with as much around it as its box is wide, 128 px square."""
    tiles = []
    for photo in photos:
        if not (found := await detect(photo.pixels)):
            continue
        box = found[0].box
        side = max(box.x2 - box.x1, box.y2 - box.y1)
        left, right = (max(0, int(x)) for x in (box.x1 - side / 2, box.x2 + side / 2))
        top, bottom = (max(0, int(y)) for y in (box.y1 - side / 2, box.y2 + side / 2))
        cut = photo.pixels[top:bottom, left:right]
        tile = cv2.resize(cut, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
        tiles.append(np.asarray(tile, dtype=np.uint8))
    return tiles


def mosaic(tiles: Sequence[Pixels], faces: int, side: int) -> Pixels:
    """A gray square of `side` pixels with `faces` tiles on it, which may repeat."""
    canvas = np.full((side, side, 3), _GRAY, dtype=np.uint8)
    columns = side // _TILE
    if not 0 < faces <= columns**2:
        raise ValueError(f"{faces} faces do not fit on {side} pixels")
    for number in range(faces):
        row, column = divmod(number, columns)
        top, left = row * _TILE, column * _TILE
        canvas[top : top + _TILE, left : left + _TILE] = tiles[number % len(tiles)]
    return canvas


def jpeg(pixels: Pixels) -> bytes:
    """The photo as a JPEG file's bytes, quality 90."""
    encoded, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not encoded:
        raise ValueError("the photo cannot be encoded")
    return data.tobytes()

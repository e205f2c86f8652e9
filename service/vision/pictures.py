"""Small pictures of a photo as JPEG files: a thumbnail of all of it, or the part around a face.

They are made from decoded pixels, so nothing of what the file says about itself, such as a place or
the name of a camera, gets into them.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.domain.types import Box
from service.vision.decode import decode, read_header
from service.vision.formats.base import DecodeLimits, PhotoHeader

# What changes here in how pictures look changes `_LOOK` of service/usecases/pictures.py too.
# Of 12 photos at 256 pixels: 8.5 KB and a structural similarity of 0.966 to the pixels. Tables of
# its own make a file 4 % smaller and take 0.3 ms; a progressive file is no smaller at this size,
# 4 % at 1,024 pixels, and takes twice to four times as long.
_QUALITY: Final = 85
# Decoded pixels along a side of a pixel of the picture. The reduction of a decoder does the rest:
# from more pixels a picture becomes no more like that of the whole photo (structural similarity to
# four digits), and from 1 less so. A thumbnail of 256 pixels takes half as long as full decoding.
_DETAIL: Final = 1.5


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be made.

    size: the longest side in pixels; never more than the photo has there.
    box: the part of the photo in the middle, in pixels of the upright photo; None for all of it.
    margin: the sides of the picture as multiples of those of the box; 1 for the box alone.
    """

    size: int
    box: Box | None = None
    margin: float = 1.0

    def part(self, width: int, height: int) -> Box:
        """The part of an upright photo of that size that is shown; at least a pixel of it."""
        if self.box is None:
            return Box(0, 0, width, height)
        x1, x2 = _span(self.box.x1, self.box.x2, self.margin, width)
        y1, y2 = _span(self.box.y1, self.box.y2, self.margin, height)
        return Box(x1, y1, x2, y2)


def read_picture_header(data: bytes, picture: Picture, limits: DecodeLimits) -> PhotoHeader:
    """The header of a photo as it is decoded for a picture: at the smallest scale that will do.

    Raises:
        InputError: as `decode` raises it.
    """
    return read_header(data, _limits(data, picture, limits))


def render(data: bytes, picture: Picture, limits: DecodeLimits) -> bytes:
    """Make a picture of a photo, upright, as a JPEG file.

    Transparent pixels are blended with white.

    Raises:
        InputError: as `decode` raises it.
    """
    photo = decode(data, _limits(data, picture, limits), hashed=False)
    part = picture.part(photo.width, photo.height).scaled(1 / photo.shrink)
    return _encoded(_resized(photo.pixels, part, picture.size))


def _limits(data: bytes, picture: Picture, limits: DecodeLimits) -> DecodeLimits:
    """Limits for which the decoded part has the pixels that the picture needs."""
    enough = picture.size * _DETAIL
    if picture.box is not None:
        width, height = read_header(data, limits).upright_size
        part = picture.part(width, height)
        enough *= max(width, height) / max(part.x2 - part.x1, part.y2 - part.y1)
    return replace(limits, enough_side=math.ceil(enough))


def _span(low: float, high: float, margin: float, side: int) -> tuple[float, float]:
    """The span of a margin times the length, clipped to a side, and at least a pixel long."""
    more = (high - low) * (margin - 1) / 2
    start = min(max(low - more, 0.0), side - 1.0)
    return start, min(max(high + more, start + 1.0), float(side))


def _resized(pixels: NDArray[np.uint8], part: Box, size: int) -> Image.Image:
    """A part of a photo, in decoded pixels, reduced to a longest side."""
    height, width = pixels.shape[:2]
    left, top = math.floor(part.x1), math.floor(part.y1)
    right, bottom = min(math.ceil(part.x2), width), min(math.ceil(part.y2), height)
    left, top = min(left, right - 1), min(top, bottom - 1)
    image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    inside = (
        max(part.x1 - left, 0.0),
        max(part.y1 - top, 0.0),
        min(part.x2 - left, right - left),
        min(part.y2 - top, bottom - top),
    )
    wide, high = inside[2] - inside[0], inside[3] - inside[1]
    scale = min(1.0, size / max(wide, high))
    target = max(1, round(wide * scale)), max(1, round(high * scale))
    return image.resize(target, Image.Resampling.LANCZOS, inside, reducing_gap=_DETAIL)


def _encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue()

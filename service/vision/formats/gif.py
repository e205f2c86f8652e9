"""GIF: the first picture alone reaches the decoder, without comments and other extensions.

Graphics Interchange Format, version 89a.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from PIL import Image

from service.domain.errors import CorruptImageError, ImageTooComplexError
from service.vision.formats.base import (
    MAX_PARTS,
    OTHER_BYTES,
    PIXEL_WORK_US,
    DecodeLimits,
    PhotoFormat,
    PhotoHeader,
    Raster,
    check_size,
    check_work,
)
from service.vision.formats.exif import UPRIGHT
from service.vision.formats.metered import MeteredFile

_SIGNATURES = (b"GIF87a", b"GIF89a")
_HEAD_BYTES: Final = 13
_EXTENSION, _PICTURE, _END = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9

# Microseconds of a core, measured: see `MAX_WORK_US`.
_FILE_US = 300.0
_BLOCK_US = 0.3
_BYTE_US = 0.015
_PIXEL_US = 0.018


@dataclass(frozen=True, slots=True)
class FirstPicture:
    """The first picture of a file.

    width, height: of the canvas. head: the bytes up to the colours of all pictures. control: the
    graphic control extension that holds for the picture, or nothing. start: where it begins.
    blocks: what is in front of it.
    """

    width: int
    height: int
    head: bytes
    control: bytes
    start: int
    blocks: int


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a GIF file."""
    return data.startswith(_SIGNATURES)


def find_picture(data: bytes) -> FirstPicture:
    """Find the first picture.

    Raises:
        CorruptImageError: there is none.
        ImageTooComplexError: there are more blocks in front of it than in photos.
    """
    if len(data) < _HEAD_BYTES:
        raise CorruptImageError("The GIF file ends early.")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = _HEAD_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    head, control, blocks = data[:place], b"", 0
    while place + 1 < len(data) and data[place] != _END:
        blocks += 1
        if blocks > MAX_PARTS:
            raise ImageTooComplexError
        if data[place] == _PICTURE:
            if place + 10 > len(data):
                break
            left, top, wide, high = struct.unpack_from("<HHHH", data, place + 1)
            width, height = max(width, left + wide), max(height, top + high)
            return FirstPicture(width, height, head, control, place, blocks)
        if data[place] != _EXTENSION:
            place += 1  # as Pillow does
            continue
        start = place
        place += 2
        while place < len(data) and data[place]:
            place += 1 + data[place]
            blocks += 1
            if blocks > MAX_PARTS:
                raise ImageTooComplexError
        place += 1
        if data[start + 1] == _GRAPHIC_CONTROL and data[start + 2 : start + 3] == b"\4":
            control = data[start : start + 7] + b"\0"
    raise CorruptImageError("The GIF file ends early.")


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError
    """
    found = find_picture(data)
    width, height = found.width, found.height
    check_size(width, height, limits)
    pixels = width * height
    work = _FILE_US + found.blocks * _BLOCK_US + (len(data) - found.start) * _BYTE_US
    work += pixels * (_PIXEL_US + PIXEL_WORK_US)
    check_work(work)
    return PhotoHeader("gif", width, height, 1, UPRIGHT, pixels * OTHER_BYTES, work)


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode the first picture, as a file of its own."""
    found = find_picture(data)
    alone = b"".join((found.head, found.control, data[found.start :]))
    return Image.open(MeteredFile(alone), formats=("GIF",))


GIF = PhotoFormat("gif", "GIF", recognizes, read_header, decode)

"""BMP: raw pixels through Pillow, runs of pixels through OpenCV.

Pillow decodes runs in Python, half a microsecond each.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from PIL import Image

from service.domain.errors import CorruptImageError
from service.vision.formats.base import (
    OTHER_BYTES,
    PIXEL_WORK_US,
    PLAIN_BYTES,
    DecodeLimits,
    PhotoFormat,
    PhotoHeader,
    Raster,
    check_size,
    check_work,
)
from service.vision.formats.exif import UPRIGHT

_FILE_HEAD_BYTES: Final = 14
_CORE_HEAD_BYTES: Final = 12
_RUNS = (1, 2)
_TOP_DOWN = 0xFF

# Microseconds of a core, measured: see `MAX_WORK_US`.
_FILE_US = 300.0
_PIXEL_US = 0.006
_RUN_BYTE_US = 0.01

# What OpenCV has to say about a damaged file is in our own error.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, slots=True)
class Head:
    """The header. runs: whether the pixels are in runs."""

    width: int
    height: int
    bits: int
    runs: bool


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a BMP file."""
    return data.startswith(b"BM")


def read_head(data: bytes) -> Head:
    """Read the header.

    Raises:
        CorruptImageError: it ends early.
    """
    try:
        (size,) = struct.unpack_from("<L", data, _FILE_HEAD_BYTES)
        if size == _CORE_HEAD_BYTES:
            width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
            return Head(width, height, bits, runs=False)
        width, height, _, bits, packing = struct.unpack_from("<LLHHL", data, 18)
    except struct.error as error:
        raise CorruptImageError("The BMP file ends early.") from error
    if height >> 24 == _TOP_DOWN:
        height = (1 << 32) - height
    return Head(width, height, bits, packing in _RUNS)


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError
    """
    head = read_head(data)
    check_size(head.width, head.height, limits)
    pixels = head.width * head.height
    work = _FILE_US + pixels * (_PIXEL_US + PIXEL_WORK_US)
    work += len(data) * _RUN_BYTE_US * head.runs
    check_work(work)
    each = OTHER_BYTES if head.bits == 32 else PLAIN_BYTES
    return PhotoHeader("bmp", head.width, head.height, 1, UPRIGHT, pixels * each, work)


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode the picture."""
    if not read_head(data).runs:
        return Image.open(io.BytesIO(data), formats=("BMP",))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise ValueError("OpenCV does not decode it")
    return np.asarray(pixels, np.uint8)


BMP = PhotoFormat("bmp", "BMP", recognizes, read_header, decode)

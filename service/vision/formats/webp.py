"""WebP: the first picture alone reaches the decoder, without profiles and metadata.

RFC 9649. The frames behind the first one are dropped.
"""

from __future__ import annotations

import io
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
from service.vision.formats.exif import UPRIGHT, orientation_of

_HEAD_BYTES: Final = 12
_ANIMATED, _WITH_ALPHA = 0x02, 0x10
_FRAME_HEAD_BYTES = 16
# Bytes a pixel of the decoder: its pixels, and two canvases.
_DECODER_BYTES = 12

# Microseconds of a core, measured: see `MAX_WORK_US`.
_FILE_US = 400.0
_CHUNK_US = 0.5
_LOSSY_PIXEL_US, _LOSSLESS_PIXEL_US = 0.02, 0.008
_LOSSY_BYTE_US, _LOSSLESS_BYTE_US = 0.035, 0.015
# RFC 9649, section 3.7: each square of 4 x 4 pixels of a lossless picture may have tables of its
# own, which take 20 bits of the file. Their number stands behind data that has to be decoded.
_MOST_TABLES = 1 << 16
_TABLES_SQUARE = 4
_TABLES_BITS = 20
_TABLES_BYTES = 6144
_TABLES_US = 8.0


@dataclass(frozen=True, slots=True)
class FirstPicture:
    """The first picture of a file.

    width, height: of the canvas. chunks: what the picture needs, in order. has_lossless, has_lossy:
    whether some of it is coded so; transparency of a lossy picture may be lossless. exif: EXIF
    data. count: the number of chunks of the file.
    """

    width: int
    height: int
    chunks: tuple[bytes, ...]
    has_lossless: bool
    has_lossy: bool
    orientation: int
    exif: bytes
    count: int


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def find_picture(data: bytes) -> FirstPicture:
    """Find the first picture.

    Raises:
        CorruptImageError: there is none.
        ImageTooComplexError: there are more chunks than in photos.
    """
    canvas = animation = alpha = frame = exif = b""
    orientation, count, place = UPRIGHT, 0, _HEAD_BYTES
    while place + 8 <= len(data):
        count += 1
        if count > MAX_PARTS:
            raise ImageTooComplexError
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        chunk = slice(place, place + 8 + size + size % 2)
        if kind == b"VP8X" and count == 1 and size >= 10:
            canvas = data[chunk]
        elif kind == b"ANIM" and not animation:
            animation = data[chunk]
        elif kind == b"ALPH" and not frame:
            alpha = data[chunk]
        elif kind in (b"ANMF", b"VP8 ", b"VP8L") and not frame:
            frame = data[chunk]
        elif kind == b"EXIF":
            exif = data[place + 8 : place + 8 + size]
            orientation = orientation_of(exif)
        place = chunk.stop
    width, height = _size(canvas or frame)
    moving = frame.startswith(b"ANMF")
    if moving and not (canvas and animation):
        raise CorruptImageError("The WebP file is damaged.")
    chunks: tuple[bytes, ...] = (frame,)
    if canvas:
        flags = _WITH_ALPHA | _ANIMATED if moving else _WITH_ALPHA
        chunks = (_canvas(canvas, flags), animation if moving else alpha, frame)
    inside = frame[8 + _FRAME_HEAD_BYTES :][:4] if moving else frame[:4]
    return FirstPicture(
        width,
        height,
        chunks,
        bool(alpha) or inside in (b"VP8L", b"ALPH"),
        inside != b"VP8L",
        orientation,
        exif,
        count,
    )


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError
    """
    found = find_picture(data)
    width, height = found.width, found.height
    check_size(width, height, limits)
    pixels, size = width * height, sum(map(len, found.chunks))
    memory, work = pixels * OTHER_BYTES, _FILE_US + found.count * _CHUNK_US
    work += pixels * PIXEL_WORK_US
    if found.has_lossless:
        squares = -(-width // _TABLES_SQUARE) * -(-height // _TABLES_SQUARE)
        tables = min(_MOST_TABLES, squares, 8 * size // _TABLES_BITS)
        memory = max(memory, pixels * _DECODER_BYTES + tables * _TABLES_BYTES)
        work += pixels * _LOSSLESS_PIXEL_US + size * _LOSSLESS_BYTE_US + tables * _TABLES_US
    if found.has_lossy:
        work += pixels * _LOSSY_PIXEL_US + size * _LOSSY_BYTE_US
    check_work(work)
    return PhotoHeader("webp", width, height, 1, found.orientation, memory, work, found.exif)


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode the first picture, as a file of its own."""
    body = b"WEBP" + b"".join(find_picture(data).chunks)
    alone = b"RIFF" + struct.pack("<L", len(body)) + body
    return Image.open(io.BytesIO(alone), formats=("WEBP",))


def _size(chunk: bytes) -> tuple[int, int]:
    """Width and height by the first chunk.

    Raises:
        CorruptImageError: it is no chunk of pixels, or ends early.
    """
    kind, body = chunk[:4], chunk[8:22]
    if kind == b"VP8X" and len(body) >= 10:
        return _three(body, 4) + 1, _three(body, 7) + 1
    if kind == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        (bits,) = struct.unpack_from("<L", body, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise CorruptImageError("The WebP file is damaged or ends early.")


def _three(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 3], "little")


def _canvas(chunk: bytes, flags: int) -> bytes:
    """VP8X without the flags of chunks that are dropped."""
    return chunk[:8] + bytes([chunk[8] & flags]) + chunk[9:]


WEBP = PhotoFormat("webp", "WebP", recognizes, read_header, decode)

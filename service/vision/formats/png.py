"""PNG: only the chunks that the pixels need reach the decoder.

Portable Network Graphics (PNG) Specification, third edition. Texts, profiles, frames of an
animation and everything else are dropped unseen: none of them can spoil a photo. EXIF data with a
wrong checksum is dropped, too.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from service.domain.errors import CorruptImageError, ImageTooComplexError
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
from service.vision.formats.deflate import inflating_us
from service.vision.formats.exif import UPRIGHT, orientation_of
from service.vision.formats.metered import MeteredFile

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Some encoders write a chunk for each row, or for each 4 KiB.
MAX_CHUNKS: Final = 131_072

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {
    _GREY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _RGBA: (8, 16),
}
_MOST_COLORS = 256
# ImageMagick wrote EXIF data as a text in hexadecimal digits before PNG had a chunk for it.
_TEXTS = (b"tEXt", b"zTXt")
_EXIF_TEXT = b"Raw profile type exif\0"
_MOST_TEXT_BYTES = 1 << 18
_CHUNK_BYTES = 12

# Microseconds of a core, measured: see `MAX_WORK_US`.
_FILE_US = 400.0
_CHUNK_US = 1.5
# For each byte that the pixels inflate to, and for each pixel.
_RAW_BYTE_US = 0.0032
_PIXEL_US = 0.001
_ALPHA_PIXEL_US = 0.012
_INTERLACED_PIXEL_US = 0.005
# No encoder makes pixels larger than this share of what they inflate to, and a few bytes.
_MOST_EXPANSION = 1.1
_SPARE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Head:
    """The chunk IHDR."""

    width: int
    height: int
    depth: int
    color_type: int
    interlaced: bool

    @property
    def raw_bytes(self) -> int:
        """The bytes that the pixels inflate to, without the filter types of the rows."""
        return -(-self.width * _SAMPLES[self.color_type] * self.depth // 8) * self.height


@dataclass(slots=True)
class Chunks:
    """What is kept of a file.

    head: IHDR. colors, transparency: PLTE and tRNS, empty where there is none that counts.
    pixels: the places of the contents of IDAT. exif: EXIF data. chunks: the number of all of them.
    """

    head: Head
    colors: bytes = b""
    transparency: bytes = b""
    pixels: list[slice] = field(default_factory=list)
    orientation: int = UPRIGHT
    exif: bytes = b""
    chunks: int = 0


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a PNG file."""
    return data.startswith(SIGNATURE)


def read_chunks(data: bytes) -> Chunks:
    """Find the chunks that are kept.

    Raises:
        CorruptImageError: a chunk that the pixels need is damaged or missing.
        ImageTooComplexError: there are more chunks than in photos.
    """
    found: Chunks | None = None
    has_exif = False
    place = len(SIGNATURE)
    while len(kind := data[place + 4 : place + 8]) == 4 and kind != b"IEND":
        body = slice(place + 8, place + 8 + int.from_bytes(data[place : place + 4]))
        if found is None:
            found = Chunks(_head(data, kind, body))
        found.chunks += 1
        if found.chunks > MAX_CHUNKS:
            raise ImageTooComplexError
        if kind == b"IDAT":
            found.pixels.append(body)
        elif kind == b"PLTE" and found.head.color_type == _PALETTE and not found.pixels:
            found.colors = _colors(data, kind, body)
        elif kind == b"tRNS" and not found.pixels and _is_whole(data, kind, body):
            found.transparency = _transparency(found, data[body])
        elif kind == b"eXIf" and _is_whole(data, kind, body):
            found.exif = data[body]
            found.orientation = orientation_of(found.exif)
            has_exif = True
        elif kind in _TEXTS and not has_exif and data.startswith(_EXIF_TEXT, body.start):
            found.exif = _exif_of_text(kind, data[body])
            found.orientation = orientation_of(found.exif)
        place = body.stop + 4
    if found is None or not found.pixels:
        raise CorruptImageError("The PNG file ends early.")
    if found.head.color_type == _PALETTE and not found.colors:
        raise CorruptImageError("The PNG file has no palette.")
    return found


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError
    """
    found = read_chunks(data)
    head = found.head
    check_size(head.width, head.height, limits)
    pixels = head.width * head.height
    has_alpha = head.color_type in (_GREY_ALPHA, _RGBA) or bool(found.transparency)
    each = OTHER_BYTES if has_alpha or head.depth > 8 else PLAIN_BYTES
    size = sum(body.stop - body.start for body in found.pixels)
    most = (head.raw_bytes + head.height) * _MOST_EXPANSION + _SPARE_BYTES
    if min(size, len(data)) > most + len(found.pixels) * _CHUNK_BYTES:
        raise ImageTooComplexError
    work = _FILE_US + found.chunks * _CHUNK_US + pixels * (_PIXEL_US + PIXEL_WORK_US)
    first, last = found.pixels[0], found.pixels[-1]
    work += inflating_us(data, first.start, last.stop, min(size, len(data)))
    work += head.raw_bytes * _RAW_BYTE_US
    work += pixels * (_INTERLACED_PIXEL_US * head.interlaced + _ALPHA_PIXEL_US * has_alpha)
    check_work(work)
    return PhotoHeader(
        "png", head.width, head.height, 1, found.orientation, pixels * each, work, found.exif
    )


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode the chunks that are kept, as a file of their own."""
    return Image.open(MeteredFile(only_pixels(data)), formats=("PNG",))


def only_pixels(data: bytes) -> bytes:
    """The same picture, in a file with no other chunks."""
    found = read_chunks(data)
    parts = [SIGNATURE, data[len(SIGNATURE) : len(SIGNATURE) + 25]]
    if found.colors:
        parts.append(_chunk(b"PLTE", found.colors))
    if found.transparency:
        parts.append(_chunk(b"tRNS", found.transparency))
    pixels = [data[body] for body in found.pixels]
    parts.append(struct.pack(">L4s", sum(map(len, pixels)), b"IDAT"))
    # The checksum of zlib is in the pixels, and no decoder of ours looks at the one of the chunk.
    parts += [*pixels, bytes(4), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _head(data: bytes, kind: bytes, body: slice) -> Head:
    if kind != b"IHDR" or body.stop - body.start != 13 or not _is_whole(data, kind, body):
        raise CorruptImageError("The PNG file has a damaged header.")
    width, height, depth, color_type, packing, filters, order = struct.unpack(
        ">LLBBBBB", data[body]
    )
    if depth not in _DEPTHS.get(color_type, ()) or packing or filters or order > 1:
        raise CorruptImageError("The PNG file has a damaged header.")
    return Head(width, height, depth, color_type, bool(order))


def _colors(data: bytes, kind: bytes, body: slice) -> bytes:
    colors = data[body]
    if not colors or len(colors) % 3 or len(colors) > 3 * _MOST_COLORS:
        raise CorruptImageError("The PNG file has a damaged palette.")
    if not _is_whole(data, kind, body):
        raise CorruptImageError("The PNG file has a damaged palette.")
    return colors


def _transparency(found: Chunks, body: bytes) -> bytes:
    """The transparency if it is one for the type of colour, else nothing."""
    if found.head.color_type == _PALETTE:
        return body if 1 <= len(body) <= len(found.colors) // 3 else b""
    return body if len(body) == {_GREY: 2, _RGB: 6}.get(found.head.color_type) else b""


def _exif_of_text(kind: bytes, body: bytes) -> bytes:
    """The EXIF data in a text: a name, its length and hexadecimal digits, in lines."""
    text = body[len(_EXIF_TEXT) :][:_MOST_TEXT_BYTES]
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MOST_TEXT_BYTES)
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (ValueError, zlib.error):
        return b""


def _is_whole(data: bytes, kind: bytes, body: slice) -> bool:
    """Whether a chunk has the checksum that it says."""
    return data[body.stop : body.stop + 4] == zlib.crc32(data[body], zlib.crc32(kind)).to_bytes(4)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4)


PNG = PhotoFormat("png", "PNG", recognizes, read_header, decode)

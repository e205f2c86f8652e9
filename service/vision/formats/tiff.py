"""TIFF: the first directory, reduced to the tags that the pixels need, reaches the decoder.

TIFF 6.0, and BigTIFF with the least significant byte first.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from service.domain.errors import (
    CorruptImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    InputError,
    UnsupportedImageError,
)
from service.vision.formats import jpeg
from service.vision.formats.base import (
    MAX_SIDE,
    OTHER_BYTES,
    PIXEL_WORK_US,
    PLAIN_BYTES,
    DecodeLimits,
    PhotoFormat,
    PhotoHeader,
    Raster,
    check_size,
    check_work,
    corrupt,
    raw_file_error,
)
from service.vision.formats.deflate import inflating_us
from service.vision.formats.exif import TURNS, UPRIGHT, TiffEntry, number_in, tiff_entries

_STARTS = (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")
_TWO_KINDS = b"MM\0+"
_BIG = b"II+\0"
MAX_NUMBERS: Final = 1 << 18
"""Numbers in the tags that are kept: two for each of 65,535 rows, tables of 16-bit samples."""
_MAX_ENTRIES = 4096

_KIND_OF_FILE, _OLD_KIND_OF_FILE = 254, 255
_REDUCED, _OLD_REDUCED = 1, 2
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _SIZES = 273, 277, 279
_ORIENTATION = 274
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_EXTRA_SAMPLES, _JPEG_TABLES, _DNG_VERSION = 338, 347, 50706
# Colour filter array and linear raw samples, of DNG.
_RAW_PHOTOMETRIC = frozenset({32803, 34892})
# TIFF 6.0; fax options, predictor and the tables of JPEG included, texts and metadata not.
_KEPT = frozenset(
    {*range(256, 260), 262, 263, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320}
    | {322, 323, 324, 325, 332, 333, 334, 338, 339, 347}
    | {*range(512, 522), 529, 530, 531, 532}
)
_TYPE_BYTES: Mapping[int, int] = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8}
_BIG_TYPE_BYTES: Mapping[int, int] = {**_TYPE_BYTES, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMPY = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
_RAW, _LZW, _OLD_JPEG, _JPEG, _PACK_BITS, _LZMA, _ZSTD = 1, 5, 6, 7, 32773, 34925, 50000
_DEFLATE = (8, 32946)
_LAB = 8

# Microseconds of a core, measured: see `MAX_WORK_US`.
_FILE_US = 600.0
_NUMBER_US = 0.3
_RAW_PART_US = 10.0
_PART_US = 3.0
_PIXEL_US = 0.006
_LAB_PIXEL_US = 0.03
_ALPHA_PIXEL_US = 0.012
# For each byte of the pixels, and for each byte of the parts that hold them, by the kind of
# compression.
_PIXEL_BYTE_US: Mapping[int, float] = {_RAW: 0.002, _LZMA: 0.012}
_OTHER_PIXEL_BYTE_US = 0.004
_BYTE_US: Mapping[int, float] = {
    _RAW: 0.001,
    _LZW: 0.015,
    _PACK_BITS: 0.01,
    _LZMA: 0.05,
    _ZSTD: 0.03,
}
_OTHER_BYTE_US = 0.06
# For each byte that a part shares with another one.
_SHARED_BYTE_US = 0.1


@dataclass(frozen=True, slots=True)
class Directory:
    """The first directory of a file.

    entries: those that are kept, by tag. order: of bytes, `<` or `>`. big: whether it is BigTIFF.
    """

    entries: Mapping[int, TiffEntry]
    order: str
    big: bool

    def number(self, tag: int, default: int) -> int:
        """The number of an entry.

        Raises:
            CorruptImageError: the entry has a type or count that no writer uses.
        """
        entry = self.entries.get(tag)
        if entry is None:
            return default
        found = number_in(entry, self.order)
        if found is None:
            raise CorruptImageError("The TIFF file has a damaged directory.")
        return found

    def count(self, tag: int) -> int:
        """The number of values of an entry; 0 where it is missing."""
        entry = self.entries.get(tag)
        return 0 if entry is None else entry.values

    def numbers(self, data: bytes, tag: int) -> np.ndarray:
        """The numbers of an entry, uint64 [n]; none where it is missing or ends early."""
        entry = self.entries.get(tag)
        kind = None if entry is None else _NUMPY.get(entry.kind)
        if entry is None or kind is None:
            return np.empty(0, np.uint64)
        dtype = np.dtype(self.order + kind)
        if entry.values * dtype.itemsize <= len(entry.value):
            return np.frombuffer(entry.value, dtype, entry.values).astype(np.uint64)
        start = int.from_bytes(entry.value, "little" if self.order == "<" else "big")
        room = max(0, len(data) - start) // dtype.itemsize
        if not room:
            return np.empty(0, np.uint64)
        return np.frombuffer(data, dtype, min(entry.values, room), start).astype(np.uint64)


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a TIFF file."""
    return data.startswith(_STARTS)


def read_directory(data: bytes) -> Directory:
    """The first directory, reduced to the tags that are kept.

    Raises:
        CorruptImageError: it ends early, or is read as two different ones by two decoders.
        ImageTooComplexError: it has more numbers than that of a photo.
        UnsupportedImageError: it is that of a raw file or of a preview.
    """
    if data.startswith(_TWO_KINDS):
        # Pillow takes it for a TIFF file of another kind than libtiff does.
        raise CorruptImageError("BigTIFF files with the most significant byte first are not read.")
    order, big = "<" if data[:2] == b"II" else ">", data.startswith(_BIG)
    entries: dict[int, TiffEntry] = {}
    preview = False
    try:
        for place, entry in enumerate(tiff_entries(data)):
            if place > _MAX_ENTRIES:
                raise ImageTooComplexError
            if entry.tag == _DNG_VERSION:
                raise raw_file_error()
            if entry.tag == _KIND_OF_FILE:
                preview |= bool((number_in(entry, order) or 0) & _REDUCED)
            elif entry.tag == _OLD_KIND_OF_FILE:
                preview |= number_in(entry, order) == _OLD_REDUCED
            elif entry.tag == _PHOTOMETRIC and number_in(entry, order) in _RAW_PHOTOMETRIC:
                raise raw_file_error()
            if entry.tag in _KEPT:
                if entry.tag in entries:
                    # Of two entries libtiff and Pillow use different ones.
                    raise CorruptImageError("The TIFF file says something twice.")
                entries[entry.tag] = entry
    except (struct.error, ValueError, OverflowError) as error:
        raise CorruptImageError("The TIFF file ends early.") from error
    if preview:
        raise UnsupportedImageError(
            "The TIFF file holds only a preview as its first picture, as raw files of cameras do: "
            "send the picture itself."
        )
    if sum(each.values for each in entries.values()) > MAX_NUMBERS + _opaque(entries):
        raise ImageTooComplexError
    return Directory(entries, order, big)


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError, UnsupportedImageError
    """
    found = read_directory(data)
    width, height = found.number(_WIDTH, 0), found.number(_HEIGHT, 0)
    check_size(width, height, limits)
    tile = found.number(_TILE_WIDTH, 0), found.number(_TILE_LENGTH, 0)
    for limit in (limits.max_pixels, limits.max_decoded_pixels):
        # libtiff allocates a whole tile, even for a small image.
        if tile[0] * tile[1] > limit or max(tile) > MAX_SIDE:
            name = "images.max_decoded_pixels"
            raise ImageTooLargeError(*tile, limit, MAX_SIDE, name)
    pixels = max(width * height, tile[0] * tile[1])
    bits = int(found.numbers(data, _BITS).max(initial=1))
    sample_bytes = max(found.number(_SAMPLES, 1), found.count(_BITS)) * bits / 8
    is_plain = bits <= 8 and _EXTRA_SAMPLES not in found.entries
    memory = PLAIN_BYTES if is_plain else max(OTHER_BYTES, PLAIN_BYTES + int(sample_bytes))
    work = _work_us(data, found, pixels * sample_bytes, limits)
    work += pixels * (_PIXEL_US + PIXEL_WORK_US)
    work += pixels * _LAB_PIXEL_US * (found.number(_PHOTOMETRIC, 0) == _LAB)
    work += pixels * _ALPHA_PIXEL_US * (_EXTRA_SAMPLES in found.entries)
    check_work(work)
    orientation = found.number(_ORIENTATION, UPRIGHT)
    if orientation in (5, 6, 7, 8):
        width, height = height, width  # the decoder turns it
    return PhotoHeader(
        "tiff",
        width,
        height,
        1,
        UPRIGHT,
        pixels * memory,
        work,
        data,
        orientation if orientation in TURNS else UPRIGHT,
    )


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode the first picture, as a file of its own; it comes upright."""
    return Image.open(io.BytesIO(only_pixels(data)), formats=("TIFF",))


def only_pixels(data: bytes) -> bytes:
    """The same file with a first directory at its end that has the kept tags, and no second one."""
    found = read_directory(data)
    entries = sorted(found.entries.values())
    place = len(data) + len(data) % 2
    entry, count, pointer = ("HHQ8s", "Q", "Q") if found.big else ("HHL4s", "H", "L")
    directory = struct.pack(found.order + count, len(entries))
    directory += b"".join(struct.pack(found.order + entry, *each) for each in entries)
    directory += struct.pack(found.order + pointer, 0)
    start = 8 if found.big else 4
    size = struct.calcsize("=" + pointer)
    head = data[:start] + struct.pack(found.order + pointer, place)
    return b"".join((head, data[start + size :], bytes(place - len(data)), directory))


def _opaque(entries: Mapping[int, TiffEntry]) -> int:
    tables = entries.get(_JPEG_TABLES)
    return tables.values if tables is not None else 0


def _work_us(data: bytes, found: Directory, raw_bytes: float, limits: DecodeLimits) -> float:
    """Predicted processor time of the strips or tiles, in microseconds."""
    tiled = _TILE_OFFSETS in found.entries
    offsets = found.numbers(data, _TILE_OFFSETS if tiled else _OFFSETS)
    sizes = found.numbers(data, _TILE_SIZES if tiled else _SIZES)
    compression = found.number(_COMPRESSION, _RAW)
    # One part may be read many times; libtiff guesses a size that is missing.
    room = np.uint64(len(data)) - np.minimum(offsets, np.uint64(len(data)))
    if len(sizes) != len(offsets) or not sizes.all():
        sizes = np.minimum(room, np.uint64(max(1, len(data) // max(1, len(offsets)))))
    sizes = np.minimum(sizes, room)
    total = float(sizes.sum())
    work = _FILE_US + sum(each.values for each in found.entries.values()) * _NUMBER_US
    work += len(offsets) * (_RAW_PART_US if compression == _RAW else _PART_US)
    if compression in _DEFLATE:
        start = int(offsets.min(initial=len(data)))
        work += inflating_us(data, start, len(data), int(total))
    else:
        work += total * _BYTE_US.get(compression, _OTHER_BYTE_US)
    work += max(0.0, total - len(data)) * _SHARED_BYTE_US
    work += raw_bytes * _PIXEL_BYTE_US.get(compression, _OTHER_PIXEL_BYTE_US)
    check_work(work)
    if compression in (_JPEG, _OLD_JPEG):
        for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
            work += _jpeg_work_us(data[offset : offset + size], limits)
            check_work(work)
    return work


def _jpeg_work_us(part: bytes, limits: DecodeLimits) -> float:
    try:
        layout = jpeg.read_layout(part, limits.max_jpeg_scans)
    except ImageTooComplexError:
        raise
    except InputError as error:
        raise corrupt(error) from error
    if layout.frame is None:
        return 0.0
    check_size(layout.frame.width, layout.frame.height, limits)
    return jpeg.work_us(layout, layout.frame)


TIFF = PhotoFormat("tiff", "TIFF", recognizes, read_header, decode)

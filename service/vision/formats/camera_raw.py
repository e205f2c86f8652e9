"""Camera raw files, and TIFF files whose first picture is a preview: which picture is the photo.

A raw file (DNG, NEF, CR2, ARW, PEF, RW2 and others) is a TIFF file of several directories: the
sensor's samples, and JPEG files that the camera made of them. TIFF 6.0, TIFF/EP and DNG 1.7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import simplejpeg

from service.vision.formats.base import (
    DecodeLimits,
    PhotoFormat,
    PhotoHeader,
    Raster,
    raw_file_error,
)
from service.vision.formats.exif import EXIF_START, TURNS, UPRIGHT
from service.vision.formats.jpeg import JPEG
from service.vision.formats.tiff import TIFF

_NAME: Final = "raw"

# A raw file has up to ten directories of some hundred entries.
_MAX_DIRECTORIES: Final = 64
_MAX_ENTRIES: Final = 512
_MAX_STRIPS: Final = 64
# Each side of a preview that stands for the photo, as a share of the raw picture's side.
_MIN_SHARE: Final = 0.5

_TIFF = (b"II*\0", b"MM\0*")
# Panasonic and Olympus, whose directories are those of TIFF files.
_WALKED = (*_TIFF, b"IIU\0", b"IIRO", b"IIRS", b"MMOR")
_CANON, _PHASE_ONE, _CANON_CR3 = b"CR", b"IIII", b"ftypcrx "
# Fujifilm, Sigma and Minolta.
_FUJI = b"FUJIFILMCCD-RAW"
_OTHER_STARTS = (_FUJI, b"FOVb", b"\0MRM")
_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 259, 262
_STRIPS, _ORIENTATION, _STRIP_LENGTHS, _CHILDREN = 273, 274, 279, 330
_JPEG_PLACE, _JPEG_LENGTH, _DNG_VERSION = 513, 514, 50706
_EXIF, _EXIF_WIDTH, _EXIF_HEIGHT = 34665, 40962, 40963
_PANASONIC_WIDTH, _PANASONIC_HEIGHT, _PANASONIC_JPEG = 2, 3, 46
# Of a Fujifilm file: where its header names the JPEG file and the table of sizes, and the entry.
_FUJI_JPEG, _FUJI_TABLE, _FUJI_SIZE = 84, 92, 0x100
_WANTED = {
    *(_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _ORIENTATION),
    *(_STRIP_LENGTHS, _CHILDREN, _JPEG_PLACE, _JPEG_LENGTH, _DNG_VERSION),
    *(_EXIF, _EXIF_WIDTH, _EXIF_HEIGHT),
    *(_PANASONIC_WIDTH, _PANASONIC_HEIGHT, _PANASONIC_JPEG),
}
_REDUCED: Final = 1
# Samples of a sensor, before and after colours are interpolated.
_SENSOR = {32803, 34892}
# Old and new JPEG compression.
_JPEG = {6, 7}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4}
_CODES = {1: "B", 3: "H", 4: "L", 13: "L"}
_EXIF_MARKER, _APPLICATION_MARKERS = 0xE1, range(0xE0, 0xF0)


@dataclass(slots=True)
class _Directory:
    """A picture of a file.

    start: the place of the directory. numbers: the first values of the entries that matter here.
    blob: place and length of a JPEG file in an entry.
    """

    start: int
    numbers: dict[int, tuple[int, ...]] = field(default_factory=dict)
    blob: tuple[int, int] | None = None

    def number(self, tag: int, missing: int = 0) -> int:
        return next(iter(self.numbers.get(tag, ())), missing)

    @property
    def size(self) -> tuple[int, int]:
        """The longer and the shorter side."""
        width = max(map(self.number, (_WIDTH, _EXIF_WIDTH, _PANASONIC_WIDTH)))
        height = max(map(self.number, (_HEIGHT, _EXIF_HEIGHT, _PANASONIC_HEIGHT)))
        return max(width, height), min(width, height)

    @property
    def is_reduced(self) -> bool:
        return bool(self.number(_SUBFILE) & _REDUCED)

    def jpegs(self) -> Iterator[tuple[int, int]]:
        """Place and length of what may be a JPEG file."""
        if self.blob:
            yield self.blob
        yield self.number(_JPEG_PLACE), self.number(_JPEG_LENGTH)
        if self.number(_COMPRESSION) in _JPEG and len(self.numbers.get(_STRIPS, ())) == 1:
            yield self.number(_STRIPS), self.number(_STRIP_LENGTHS)


def recognizes(data: bytes) -> bool:
    """Whether a file is a camera's raw file, or a TIFF file whose first picture is a preview."""
    if data.startswith(_OTHER_STARTS) or data[4:12] == _CANON_CR3:
        return True
    return data.startswith(_WALKED) and _is_raw(data, _directories(data))


def photo_in(data: bytes) -> bytes:
    """The photo of a recognised file, as a JPEG or TIFF file that begins with it.

    Its orientation is that of the raw file.

    Raises:
        UnsupportedImageError: the file has only previews that are much smaller than the photo.
    """
    if data.startswith(_FUJI):
        return _fuji_preview(data)
    if not data.startswith(_WALKED):
        raise raw_file_error()
    directories = _directories(data)
    if not directories:
        raise raw_file_error()
    orientation = directories[0].number(_ORIENTATION, UPRIGHT)
    if orientation not in TURNS:
        orientation = UPRIGHT
    whole = max(
        directories, key=lambda each: (not each.is_reduced, each.size, _PHOTOMETRIC in each.numbers)
    )
    is_picture = not whole.is_reduced and whole.number(_PHOTOMETRIC, -1) in range(9)
    if is_picture and whole.number(_COMPRESSION) not in _JPEG:
        return _tiff_of(data, whole, orientation)
    preview = _largest_jpeg(data, directories)
    if preview is None:
        raise raw_file_error()
    return _turned(preview, orientation)


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check the header of the photo.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError, UnsupportedImageError
    """
    photo = photo_in(data)
    if TIFF.recognizes(photo):
        return replace(TIFF.read_header(photo, limits), exif=data)
    found = replace(JPEG.read_header(photo, limits), format=_NAME)
    # A preview inside of directories lost its own EXIF data to the orientation of the file.
    return replace(found, exif=data) if data.startswith(_WALKED) else found


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode the photo."""
    return (JPEG if header.format == _NAME else TIFF).decode(photo_in(data), header)


def _fuji_preview(data: bytes) -> bytes:
    try:
        place, length, table = struct.unpack_from(">LLL", data, _FUJI_JPEG)
        (count,) = struct.unpack_from(">L", data, table)
        place_of_entry, whole = table + 4, (0, 0)
        for _ in range(min(count, _MAX_ENTRIES)):
            tag, size = struct.unpack_from(">HH", data, place_of_entry)
            if tag == _FUJI_SIZE:
                whole = struct.unpack_from(">HH", data, place_of_entry + 4)
            place_of_entry += 4 + size
    except struct.error:
        raise raw_file_error() from None
    preview = data[place : place + length]
    if not _is_large(_jpeg_size(preview), max(whole), min(whole)):
        raise raw_file_error()
    return preview


def _is_large(size: tuple[int, int] | None, long: int, short: int) -> bool:
    """Whether a preview of these sides stands for a picture of those."""
    return size is not None and size[0] >= long * _MIN_SHARE and size[1] >= short * _MIN_SHARE


def _is_raw(data: bytes, directories: list[_Directory]) -> bool:
    if not directories:
        return not data.startswith(_TIFF)
    first = directories[0]
    return (
        not data.startswith(_TIFF)
        or data.startswith((_CANON, _PHASE_ONE), 8)
        or _DNG_VERSION in first.numbers
        or (first.is_reduced and len(directories) > 1)
        or any(each.number(_PHOTOMETRIC) in _SENSOR for each in directories)
    )


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _directories(data: bytes) -> list[_Directory]:
    """The directories of a file and their children, each once; a damaged one ends its chain."""
    found: list[_Directory] = []
    order = _order(data)
    waiting, seen = [int(struct.unpack_from(f"{order}L", data[:8].ljust(8, b"\0"), 4)[0])], {0}
    while waiting and len(found) < _MAX_DIRECTORIES:
        start = waiting.pop(0)
        if start in seen:
            continue
        seen.add(start)
        try:
            directory, following = _read_directory(data, order, start)
        except struct.error:
            continue
        found.append(directory)
        children = directory.numbers.get(_CHILDREN, ()), directory.numbers.get(_EXIF, ())
        waiting += [*children[0], *children[1], following]
    return found


def _read_directory(data: bytes, order: str, start: int) -> tuple[_Directory, int]:
    """A directory, and the place of the next one; 0 for none.

    Raises:
        struct.error: it ends early.
    """
    found = _Directory(start)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for entry in range(start + 2, start + 2 + 12 * min(count, _MAX_ENTRIES), 12):
        tag, kind, values, place = struct.unpack_from(f"{order}HHLL", data, entry)
        if tag not in _WANTED or kind not in _SIZES:
            continue
        if values * _SIZES[kind] <= 4:
            place = entry + 8
        if tag == _PANASONIC_JPEG:
            found.blob = place, values
        elif kind in _CODES:
            some = min(values, _MAX_STRIPS)
            found.numbers[tag] = struct.unpack_from(f"{order}{some}{_CODES[kind]}", data, place)
    end = start + 2 + 12 * count
    return found, struct.unpack(f"{order}L", data[end : end + 4].ljust(4, b"\0"))[0]


def _largest_jpeg(data: bytes, directories: list[_Directory]) -> bytes | None:
    """The largest JPEG file, if it is not much smaller than the largest picture of all."""
    whole = max(each.size for each in directories)
    best, best_size = None, (0, 0)
    for place, length in (part for each in directories for part in each.jpegs()):
        size = _jpeg_size(data[place : place + length]) if length else None
        if size is not None and size > best_size and _is_large(size, *whole):
            best, best_size = data[place : place + length], size
    return best


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The longer and the shorter side of a JPEG file; None for other data and lossless JPEG."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return max(width, height), min(width, height)


def _turned(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG file with this EXIF orientation in the place of its own."""
    tiff = struct.pack("<2sHLHHHLHHL", b"II", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)
    exif = EXIF_START + tiff
    parts = [b"\xff\xd8\xff\xe1", struct.pack(">H", 2 + len(exif)), exif]
    place = 2
    while place + 4 <= len(jpeg) and jpeg[place + 1] in _APPLICATION_MARKERS:
        stop = place + 2 + max(2, int.from_bytes(jpeg[place + 2 : place + 4]))
        if jpeg[place + 1] != _EXIF_MARKER:
            parts.append(jpeg[place:stop])
        place = stop
    return b"".join((*parts, jpeg[place:]))


def _tiff_of(data: bytes, whole: _Directory, orientation: int) -> bytes:
    """The TIFF file with a copy of this directory as its only one."""
    order = _order(data)
    (count,) = struct.unpack_from(f"{order}H", data, whole.start)
    entries = data[whole.start + 2 : whole.start + 2 + 12 * count]
    kept = [entries[place : place + 12] for place in range(0, len(entries) - 11, 12)]
    kept = [each for each in kept if each[:2] != struct.pack(f"{order}H", _ORIENTATION)]
    kept.append(struct.pack(f"{order}HHLHH", _ORIENTATION, 3, 1, orientation, 0))
    kept.sort(key=lambda entry: struct.unpack_from(f"{order}H", entry))
    start = struct.pack(f"{order}L", len(data) + len(data) % 2)
    head = data[:4] + start + data[8:] + bytes(len(data) % 2)
    return b"".join((head, struct.pack(f"{order}H", len(kept)), *kept, bytes(4)))


CAMERA_RAW = PhotoFormat(_NAME, "camera raw", recognizes, read_header, decode)

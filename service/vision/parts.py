"""The parts of an image file, counted before a decoder takes them apart.

A decoder does work for each scan, segment, chunk, block and number in a file, however few bytes it
takes and however small the picture is. The limits here are far above what cameras and programs
write.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from service.domain.errors import CorruptImageError

# Scans of a JPEG file. libtiff allows as many in its strips; a progressive file usually has ten.
MAX_SCANS: Final = 100
# Segments between the scans, once they are looked at one by one.
MAX_SEGMENTS: Final = 1024
# Pieces of EXIF data in a JPEG file: each holds 64 KiB.
MAX_EXIF_PIECES: Final = 32
# Chunks of a PNG file that hold no pixels: texts and profiles, each of which may be compressed.
MAX_OTHER_CHUNKS: Final = 256
# Numbers in a TIFF directory: two for each of 65,535 rows, and tables of 16-bit samples.
MAX_NUMBERS: Final = 1 << 18
# Reads by Pillow, of a part or a run each time. What libraries in C decode takes a few hundred.
MAX_READS: Final = 1 << 18

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = {b"IDAT", b"fdAT", b"fcTL"}
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_SCAN = bytes((0xFF, _START_OF_SCAN))
# A marker that neither stands in the data of a scan nor fills.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_WITHOUT_LENGTH = {0x01, _START_OF_IMAGE}
# TIFF 6.0, section 2: bytes and text stay as they are; values of other types become numbers.
_OPAQUE_TYPES = {1, 2, 7}
_BIG_TIFF = 43


class TiffEntry(NamedTuple):
    """An entry of a TIFF directory; its last bytes hold the value, or the place of the values."""

    tag: int
    kind: int
    values: int
    value: bytes


class BoundedFile(io.BytesIO):
    """A file for Pillow, which may read from it `MAX_READS` times.

    Raises:
        CorruptImageError: on the next `read`.
    """

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As `BytesIO.read` does."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise _too_many()
        return super().read(size)


def check_parts(data: bytes) -> None:
    """Refuse a file with more parts than a photo has.

    Raises:
        CorruptImageError: there are more.
    """
    if data.startswith(b"\xff\xd8"):
        if not has_few_scans(data) or data.count(b"Exif\0\0") > MAX_EXIF_PIECES:
            raise _too_many()
    elif data.startswith(_PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith((b"II", b"MM")):
        _check_tiff(data)


def has_few_scans(data: bytes) -> bool:
    """Whether a JPEG file has at most `MAX_SCANS`."""
    # In a segment the same bytes may stand by chance: only then each segment is looked at.
    if data.count(_SCAN) <= MAX_SCANS:
        return True
    scans = others = 0
    for marker in _markers(data):
        if marker == _START_OF_SCAN:
            scans += 1
        else:
            others += 1
        if scans > MAX_SCANS or others > MAX_SEGMENTS:
            return False
    return True


def tiff_entries(data: bytes) -> Iterator[TiffEntry]:
    """The entries of a TIFF file's first directory, by TIFF 6.0 and BigTIFF.

    Raises:
        struct.error: the directory ends early.
    """
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(f"{order}H", data, 2) == (_BIG_TIFF,):
        (start,) = struct.unpack_from(f"{order}Q", data, 8)
        (count,) = struct.unpack_from(f"{order}Q", data, start)
        entry, start = struct.Struct(f"{order}HHQ8s"), start + 8
    else:
        (start,) = struct.unpack_from(f"{order}L", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entry, start = struct.Struct(f"{order}HHL4s"), start + 2
    for place in range(start, start + count * entry.size, entry.size):
        yield TiffEntry(*entry.unpack_from(data, place))


def _markers(data: bytes) -> Iterator[int]:
    """The markers of a JPEG file up to the end of its image, without what segments hold."""
    match = _MARKER.search(data)
    while match is not None:
        marker, stop = data[match.end() - 1], match.end()
        yield marker
        if marker == _END_OF_IMAGE:
            return
        if marker not in _WITHOUT_LENGTH:
            stop += int.from_bytes(data[stop : stop + 2])
        match = _MARKER.search(data, stop)


def _check_png(data: bytes) -> None:
    place, others = len(_PNG_SIGNATURE), 0
    while len(kind := data[place + 4 : place + 8]) == 4 and kind != b"IEND":
        others += kind not in _PIXEL_CHUNKS
        if others > MAX_OTHER_CHUNKS:
            raise _too_many()
        place += 12 + int.from_bytes(data[place : place + 4])


def _check_tiff(data: bytes) -> None:
    if data.startswith(b"MM\0+"):
        # Pillow takes it for a TIFF file of another kind than libtiff does.
        raise CorruptImageError("BigTIFF files with the most significant byte first are not read.")
    numbers = 0
    try:
        for place, entry in enumerate(tiff_entries(data)):
            numbers += 0 if entry.kind in _OPAQUE_TYPES else entry.values
            if numbers > MAX_NUMBERS or place > MAX_NUMBERS:
                raise _too_many()
    except (struct.error, ValueError, OverflowError):
        return  # the decoder comes to the same end


def _too_many() -> CorruptImageError:
    return CorruptImageError("The image file has more parts than are decoded.")

"""The orientation in EXIF data: it alone decides how a photo is turned."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from PIL import Image

EXIF_START: Final = b"Exif\0\0"
UPRIGHT: Final = 1

# EXIF 2.32, table 6: what makes each other orientation upright.
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ORIENTATION = 0x0112
_BIG_TIFF = 43
# TIFF 6.0, section 2: how a single number of each type stands in an entry.
_NUMBERS = {1: "B", 3: "H", 4: "L"}
# Entries of a directory that are looked at; EXIF data has some tens.
_MAX_ENTRIES = 4096


class TiffEntry(NamedTuple):
    """An entry of a TIFF directory; its last bytes hold the value, or the place of the values."""

    tag: int
    kind: int
    values: int
    value: bytes


def tiff_entries(data: bytes) -> Iterator[TiffEntry]:
    """The entries of the first directory of a TIFF file or of EXIF data, by TIFF 6.0 and BigTIFF.

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


def number_in(entry: TiffEntry, order: str) -> int | None:
    """The number of an entry that holds a single one; order: `<` or `>`."""
    code = _NUMBERS.get(entry.kind)
    if code is None or entry.values != 1:
        return None
    (number,) = struct.unpack_from(order + code, entry.value)
    return int(number)


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8, in EXIF data with or without `EXIF_START`; 1 for damaged data."""
    data = exif.removeprefix(EXIF_START)
    if data[:2] not in (b"II", b"MM"):
        return UPRIGHT
    order = "<" if data[:2] == b"II" else ">"
    try:
        for number, entry in enumerate(tiff_entries(data)):
            if entry.tag == _ORIENTATION:
                found = number_in(entry, order)
                return found if found is not None and 1 <= found <= 8 else UPRIGHT
            if number > _MAX_ENTRIES:
                break
    except (struct.error, OverflowError):  # broken metadata does not make the pixels unusable
        pass
    return UPRIGHT

"""EXIF data: the orientation, which alone decides how a photo is turned, the time and the place.

EXIF 2.32. Reading takes bounded work, and damaged data says nothing: it never makes a photo
unusable.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

from PIL import Image

from service.domain.types import PhotoFacts

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

_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
# The tags of a time, of its offset from UTC and of its fraction of a second: when the photo was
# taken, when it was digitized, and when the file was changed, which is the least sure.
_TIMES: Final = ((0x9003, 0x9011, 0x9291), (0x9004, 0x9012, 0x9292), (0x0132, 0x9010, 0x9290))
_TIME_TAGS: Final = frozenset(tag for tags in _TIMES for tag in tags)
_FIRST_TAGS: Final = _TIME_TAGS | {_EXIF_DIRECTORY, _GPS_DIRECTORY}
_GPS_TAGS: Final = frozenset({1, 2, 3, 4, 9})
_SOUTH_OR_NORTH, _LATITUDE, _EAST_OR_WEST, _LONGITUDE, _GPS_STATUS = 1, 2, 3, 4, 9
_WITHOUT_FIX: Final = b"V"
_PLACES: Final = frozenset({1, 2, 4, 7, 13, 16, 18})
_RATIONAL: Final = 5
_TEXTS: Final = frozenset({2, 7})
_MAX_TEXT_BYTES: Final = 64
_TIME = re.compile(rb"(\d{4})[:./-](\d\d)[:./-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(rb"([+-])(\d\d):?([0-5]\d)")
_FRACTION = re.compile(rb"\d{1,6}")
# Older photos are scans, and their files say the year of that, or a guess that no time can hold.
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_LARGEST_OFFSET: Final = timedelta(hours=14)


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


def facts_of(exif: bytes, orientation: int, *, located: bool) -> PhotoFacts:
    """What EXIF data, with or without `EXIF_START`, or a TIFF file says about its photo.

    Args:
        orientation: of the photo, which not every format takes from EXIF data.
        located: whether to read the location.
    """
    data = exif.removeprefix(EXIF_START)
    if data[:2] not in (b"II", b"MM"):
        return PhotoFacts(None, orientation)
    tree = _Tree(data)
    first = tree.entries(tree.start, _FIRST_TAGS)
    times = first
    if (place := tree.place_in(first.get(_EXIF_DIRECTORY))) is not None:
        times = {**first, **tree.entries(place, _TIME_TAGS)}
    location = None
    if located and (place := tree.place_in(first.get(_GPS_DIRECTORY))) is not None:
        location = _location(tree, tree.entries(place, _GPS_TAGS))
    return PhotoFacts(_taken_at(tree, times), orientation, location)


class _Tree:
    """The directories of EXIF data or of a TIFF file; damaged ones have no entries."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._byte_order = "<" if data[:2] == b"II" else ">"
        big = struct.pack(f"{self._byte_order}H", _BIG_TIFF) == data[2:4]
        self._count = struct.Struct(f"{self._byte_order}{'Q' if big else 'H'}")
        self._entry = struct.Struct(f"{self._byte_order}{'HHQ8s' if big else 'HHL4s'}")
        self._tag = struct.Struct(f"{self._byte_order}H{'18x' if big else '10x'}")
        self._place_bytes = 8 if big else 4
        self.start = self._number(data[8:16] if big else data[4:8])

    def entries(self, start: int, wanted: frozenset[int]) -> dict[int, TiffEntry]:
        """The entries of a directory that are wanted; of several with one tag, the last."""
        head = self._data[start : start + self._count.size]
        if len(head) < self._count.size:
            return {}
        count = min(self._count.unpack(head)[0], _MAX_ENTRIES)
        start += self._count.size
        size = self._entry.size
        count = min(count, (len(self._data) - start) // size)
        tags = self._tag.iter_unpack(self._data[start : start + count * size])
        return {
            tag: TiffEntry(*self._entry.unpack_from(self._data, start + place * size))
            for place, (tag,) in enumerate(tags)
            if tag in wanted
        }

    def place_in(self, entry: TiffEntry | None) -> int | None:
        """The place of the directory that an entry names."""
        if entry is None or entry.kind not in _PLACES or entry.values != 1:
            return None
        # A number of four bytes stands in the first half of a place of eight.
        return self._number(entry.value if entry.kind in (16, 18) else entry.value[:4])

    def text(self, entry: TiffEntry | None) -> bytes:
        """The text of an entry, cut; empty without one."""
        if entry is None or entry.kind not in _TEXTS:
            return b""
        size = min(entry.values, _MAX_TEXT_BYTES)
        if entry.values <= self._place_bytes:
            return entry.value[:size]
        place = self._number(entry.value)
        return self._data[place : place + size]

    def degrees(self, entry: TiffEntry | None) -> float | None:
        """Degrees, minutes and seconds, three fractions, in degrees."""
        if entry is None or entry.kind != _RATIONAL or entry.values != 3:
            return None
        place = self._number(entry.value)
        numbers = self._data[place : place + 24]
        if len(numbers) < 24:
            return None
        found = struct.unpack(f"{self._byte_order}6L", numbers)
        if 0 in found[1::2]:
            return None
        degrees, minutes, seconds = (
            float(above / below) for above, below in zip(found[::2], found[1::2], strict=True)
        )
        return degrees + minutes / 60 + seconds / 3600

    def _number(self, value: bytes) -> int:
        return int.from_bytes(value, "little" if self._byte_order == "<" else "big")


def _taken_at(tree: _Tree, entries: Mapping[int, TiffEntry]) -> datetime | None:
    for time_tag, offset_tag, fraction_tag in _TIMES:
        time = _TIME.match(tree.text(entries.get(time_tag)))
        if time is None:
            continue
        fraction = _FRACTION.match(tree.text(entries.get(fraction_tag)))
        microseconds = int(fraction[0].ljust(6, b"0")) if fraction else 0
        zone = _zone(tree.text(entries.get(offset_tag)))
        year, month, day, hour, minute, second = map(int, time.groups())
        try:
            found = datetime(year, month, day, hour, minute, second, microseconds, zone).astimezone(
                UTC
            )
        except (ValueError, OverflowError):  # a 30 February, a year 0
            continue
        if _FIRST_YEAR <= found.year <= _LAST_YEAR:
            return found
    return None


def _zone(text: bytes) -> timezone:
    """The time zone of an offset; UTC without one, or where no place on earth has it."""
    match = _OFFSET.match(text)
    if match is None:
        return UTC
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if offset > _LARGEST_OFFSET:
        return UTC
    return timezone(-offset if match[1] == b"-" else offset)


def _location(tree: _Tree, entries: Mapping[int, TiffEntry]) -> tuple[float, float] | None:
    if tree.text(entries.get(_GPS_STATUS))[:1] == _WITHOUT_FIX:
        return None
    latitude = _signed(tree, entries, _LATITUDE, _SOUTH_OR_NORTH, b"NS")
    longitude = _signed(tree, entries, _LONGITUDE, _EAST_OR_WEST, b"EW")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return latitude, longitude


def _signed(
    tree: _Tree, entries: Mapping[int, TiffEntry], tag: int, side_tag: int, sides: bytes
) -> float | None:
    """Degrees with the sign of their side of the earth; None where it is missing."""
    degrees, side = tree.degrees(entries.get(tag)), tree.text(entries.get(side_tag))[:1].upper()
    if degrees is None or not side or side not in sides:
        return None
    return degrees if side == sides[:1] else -degrees

"""One coded picture of a HEIC or AVIF item, without what else the item may hold.

A decoder works for each picture in its data, however often a small item repeats one. AV1 decoders
also allocate the size that the data declares, whatever the container says.
"""

from __future__ import annotations

from typing import Final

from service.vision.formats.base import corrupt

# Slices of an HEVC picture, and units of an AV1 one.
MAX_UNITS: Final = 4096
# A scalable AV1 picture has up to four layers.
_MAX_FRAMES: Final = 4
# ITU-T H.265, table 7-1: pictures that refer to no other one, and the first type that is no part of
# a picture.
_HEVC_ALONE: Final = {19, 20}
_HEVC_OTHER: Final = 32
# AV1 specification, 6.2.2.
_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME = 1, 3, 4, 6
_PICTURE_UNITS: Final = {_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME}
_HAS_LENGTH: Final = 2
_MAX_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 256
_LAST_LEVEL_WITHOUT_TIER: Final = 7


def hevc_picture(payload: bytes, length_bytes: int) -> bytes:
    """The units of one picture; parameter sets belong to the item's configuration.

    Args:
        length_bytes: how many bytes the length before each unit takes.

    Raises:
        CorruptImageError: there is not exactly one picture.
    """
    place, pictures = 0, 0
    found: list[bytes] = []
    while place < len(payload):
        start = place + length_bytes
        stop = start + int.from_bytes(payload[place:start])
        # A header of two bytes; the next bit says whether a picture begins.
        if stop > len(payload) or stop - start < 3 or len(found) >= MAX_UNITS:
            raise corrupt("a unit of HEVC does not fit")
        kind = payload[start] >> 1 & 63
        if kind < _HEVC_OTHER:
            # Room would be made for up to 16 pictures that another kind refers to.
            if kind not in _HEVC_ALONE:
                raise corrupt("a picture of HEVC refers to others")
            pictures += payload[start + 2] >> 7
            found.append(payload[place:stop])
        place = stop
    if pictures != 1:
        raise corrupt("not one picture of HEVC")
    return b"".join(found)


def av1_picture(payload: bytes, width: int, height: int) -> bytes:
    """The units of one picture, each with its length.

    Raises:
        CorruptImageError: the data declares another size than that, or further pictures.
    """
    place, headers, frames = 0, 0, 0
    found: list[bytes] = []
    while place < len(payload):
        first, has_extension = payload[place], payload[place] >> 2 & 1
        head, place = payload[place : place + 1 + has_extension], place + 1 + has_extension
        length = len(payload) - place
        if first & _HAS_LENGTH:
            length, place = _read_length(payload, place)
        body = payload[place : place + length]
        place += length
        if place > len(payload) or len(found) >= MAX_UNITS:
            raise corrupt("a unit of AV1 does not fit")
        kind = first >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            headers += 1
            if _av1_size(body) != (width, height):
                raise corrupt("AV1 declares another size")
        frames += kind in (_FRAME_HEADER, _FRAME)
        if kind in _PICTURE_UNITS:
            found.append(bytes((first | _HAS_LENGTH,)) + head[1:] + _write_length(length) + body)
    if headers == 0 or not 1 <= frames <= _MAX_FRAMES:
        raise corrupt("not one picture of AV1")
    return b"".join(found)


def _read_length(data: bytes, place: int) -> tuple[int, int]:
    """A number in the form of LEB128, and the place behind it."""
    length = 0
    for count, byte in enumerate(data[place : place + _MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return length, place + count + 1
    raise corrupt("a length of AV1 does not end")


def _write_length(length: int) -> bytes:
    found = bytearray()
    while length >= 0x80:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*found, length))


class _Bits:
    """Reads bits, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise corrupt("a header of AV1 ends early")
        return self._number >> self._left & (1 << count) - 1


def _av1_size(header: bytes) -> tuple[int, int]:
    """Width and height that a sequence header declares: AV1 specification, 5.5.1."""
    bits = _Bits(header[:_MAX_HEADER_BYTES])
    bits.take(4)
    is_reduced = bits.take(1)
    if is_reduced:
        bits.take(5)
    else:
        if bits.take(1):  # the timing of a film
            raise corrupt("AV1 of a film")
        has_delays = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            level = bits.take(5)
            bits.take(level > _LAST_LEVEL_WITHOUT_TIER)
            bits.take(4 * (has_delays and bits.take(1)))
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1

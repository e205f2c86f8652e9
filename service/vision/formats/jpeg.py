"""JPEG: its markers are read first, and a large photo is decoded at a reduced scale.

ITU-T T.81. The markers are found as libjpeg-turbo finds them: a segment is left by its length, and
the data of a scan ends at the first marker that is no restart.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image

from service.domain.errors import (
    CorruptImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from service.vision.formats.base import (
    MAX_PARTS,
    MAX_SIDE,
    PIXEL_WORK_US,
    PLAIN_BYTES,
    DecodeLimits,
    PhotoFormat,
    PhotoHeader,
    Raster,
    check_size,
    check_work,
    reduction,
)
from service.vision.formats.exif import EXIF_START, UPRIGHT, orientation_of

# A marker that neither stands in the data of a scan nor fills.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_RESTART_INTERVAL, _EXIF = 0xDD, 0xE1
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC = frozenset(range(0xC9, 0xD0))
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
# Frames, Huffman and arithmetic tables, quantisation tables, restart intervals.
_NEEDED = _FRAMES | {0xC4, 0xCC, 0xDB, _RESTART_INTERVAL}
_WITHOUT_LENGTH = frozenset({0x01, _START_OF_IMAGE})
_BLOCK: Final = 64
"""Samples of a block."""

# Microseconds of a core, measured: see `MAX_WORK_US`.
_FILE_US = 30.0
_BYTE_US = 0.02
_SEGMENT_US = 0.5
# For each block: its code, and at full scale its transform and its colours.
_BLOCK_US = 0.03
_SAMPLES_US = 0.06
# For each block of a progressive file: libjpeg-turbo smooths those whose details are missing.
_SMOOTHED_US = 0.05
# For each block that a scan of it passes, and for each coefficient that the scan refines.
_PASSED_US = 0.02
_REFINED_US = 0.0008
# For each pixel of a file that Pillow decodes.
_PILLOW_PIXEL_US = 0.012
_RESTART_US = 0.06
_ARITHMETIC_FACTOR = 8.0


@dataclass(frozen=True, slots=True)
class Component:
    """A component of a frame: its number and its sampling factors."""

    number: int
    across: int
    down: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A start-of-frame segment.

    marker: the kind. precision: bits of a sample.
    """

    marker: int
    precision: int
    width: int
    height: int
    components: tuple[Component, ...]

    @property
    def samples(self) -> int:
        """The number of samples of all components, in whole blocks."""
        return sum(self.blocks_of(each.number) for each in self.components) * _BLOCK

    @property
    def progressive(self) -> bool:
        return self.marker in _PROGRESSIVE

    def blocks_of(self, number: int) -> int:
        """The blocks of one component; 0 for a number that no component has."""
        widest = max(each.across for each in self.components)
        highest = max(each.down for each in self.components)
        for each in self.components:
            if each.number == number:
                across = -(-self.width // (8 * widest)) * each.across
                return across * -(-self.height // (8 * highest)) * each.down
        return 0


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan.

    numbers: of the components in it. first, last: its spectral band. refines: whether it adds a bit
    to coefficients of earlier scans. restart: its restart interval in MCUs; 0 for none.
    """

    numbers: tuple[int, ...]
    first: int
    last: int
    refines: bool
    restart: int


@dataclass(slots=True)
class Layout:
    """The parts of a JPEG file.

    segments: the number of all but the scans. bytes: of the file up to the end of the image.
    complete: whether the end of the image was found. exif: the first EXIF data.
    """

    frame: Frame | None = None
    scans: list[Scan] = field(default_factory=list)
    orientation: int = UPRIGHT
    exif: bytes = b""
    segments: int = 0
    bytes: int = 0
    complete: bool = False


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a JPEG file."""
    return data.startswith(b"\xff\xd8\xff")


def read_layout(data: bytes, max_scans: int) -> Layout:
    """Find the parts of a file.

    Raises:
        CorruptImageError: a segment is damaged.
        ImageTooComplexError: there are more than `max_scans`, or more segments than in photos.
    """
    found = Layout(bytes=len(data))
    restart = 0
    for marker, place in _markers(data):
        if marker == _END_OF_IMAGE:
            found.complete, found.bytes = True, place
            break
        if marker == _START_OF_SCAN:
            found.scans.append(_scan(_body(data, place), restart))
        else:
            found.segments += 1
            if marker in _FRAMES and found.frame is None:
                found.frame = _frame(marker, _body(data, place))
            elif marker == _RESTART_INTERVAL:
                restart = int.from_bytes(_body(data, place)[:2])
            elif (
                marker == _EXIF
                and found.orientation == UPRIGHT
                and data.startswith(EXIF_START, place + 2)
            ):
                exif = _body(data, place)
                found.orientation = orientation_of(exif)
                found.exif = found.exif or exif
        if len(found.scans) > max_scans or found.segments > MAX_PARTS:
            raise ImageTooComplexError
    return found


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError, UnsupportedImageError
    """
    layout = read_layout(data, limits.max_jpeg_scans)
    frame = layout.frame
    if frame is None or not layout.scans or not layout.complete:
        raise CorruptImageError("The JPEG file ends early.")
    width, height = frame.width, frame.height
    check_size(width, height, limits, reducible=True)
    if frame.precision != 8 or len(frame.components) not in (1, 3, 4):
        raise UnsupportedImageError(
            f"JPEG files with {len(frame.components)} components of {frame.precision} bits are not "
            "supported."
        )
    shrink = reduction(width, height, limits)
    decoded = -(-width // shrink) * -(-height // shrink)
    memory = decoded * PLAIN_BYTES
    if frame.progressive or len(layout.scans[0].numbers) < len(frame.components):
        # libjpeg-turbo keeps the coefficients of all scans, two bytes each.
        coefficients = 2 * frame.samples
        memory = max(memory, coefficients + 3 * decoded)
        if memory > limits.max_decoded_bytes and coefficients > memory // 2:
            fits = int(width * height * limits.max_decoded_bytes / memory)
            name = "images.max_decoded_pixels"
            raise ImageTooLargeError(width, height, fits, MAX_SIDE, name)
    work = work_us(layout, frame, shrink) + decoded * PIXEL_WORK_US
    if len(frame.components) == 4:
        work += decoded * _PILLOW_PIXEL_US
    check_work(work)
    return PhotoHeader("jpeg", width, height, shrink, layout.orientation, memory, work, layout.exif)


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode at the scale of the header.

    libjpeg-turbo gets the file in one piece and takes half the time of Pillow, which feeds it strip
    by strip, for the same pixels. Damaged data of a scan gives damaged pixels. Pillow decodes what
    simplejpeg has no conversion to RGB for.
    """
    width, height = -(-header.width // header.shrink), -(-header.height // header.shrink)
    if _is_plain(data, header):
        pixels: np.ndarray = simplejpeg.decode_jpeg(
            data,
            "RGB",
            min_height=height if header.shrink > 1 else 0,
            min_width=width if header.shrink > 1 else 0,
            min_factor=header.shrink,
            strict=False,
        )
        if pixels.shape != (height, width, 3):
            raise ValueError(f"decoded as {pixels.shape}")
        return pixels
    image = Image.open(io.BytesIO(only_pixels(data)), formats=("JPEG",))
    if image.size != (header.width, header.height):
        raise ValueError(f"opened as {image.size}")
    if header.shrink > 1:
        image.draft(None, (header.width // header.shrink, header.height // header.shrink))
        if image.size != (width, height):
            raise ValueError(f"drafted as {image.size}")
    return image


def only_pixels(data: bytes) -> bytes:
    """The same picture, in a file without further segments and fill bytes.

    Pillow looks at each of them in Python, and parses some.
    """
    parts = [b"\xff\xd8"]
    markers = [*_markers(data), (_END_OF_IMAGE, len(data) + 2)]
    for (marker, place), (_, following) in pairwise(markers):
        if marker == _START_OF_SCAN:
            parts.append(data[place - 2 : following - 2])
        elif marker in _NEEDED or _decides_colors(marker, _body(data, place)):
            size = int.from_bytes(data[place : place + 2])
            parts.append(bytes((0xFF, marker)) + data[place : place + size])
    return b"".join((*parts, b"\xff\xd9"))


def work_us(layout: Layout, frame: Frame, shrink: int = 1) -> float:
    """Predicted processor time of decoding the parts, in microseconds."""
    work = _FILE_US + layout.bytes * _BYTE_US + layout.segments * _SEGMENT_US
    work += frame.samples / _BLOCK * (_BLOCK_US + _SAMPLES_US / shrink**2)
    if frame.progressive:
        work += frame.samples / _BLOCK * _SMOOTHED_US
    for scan in layout.scans:
        blocks = sum(map(frame.blocks_of, scan.numbers))
        if frame.progressive:
            refined = scan.last - scan.first + 1 if scan.refines and scan.first else 0
            work += blocks * (_PASSED_US + refined * _REFINED_US)
        if scan.restart:
            work += blocks / scan.restart * _RESTART_US
    return work * (_ARITHMETIC_FACTOR if frame.marker in _ARITHMETIC | _LOSSLESS else 1.0)


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers, and the places behind them, up to the end of the image."""
    match = _MARKER.search(data, 2)
    while match is not None:
        marker, stop = data[match.end() - 1], match.end()
        yield marker, stop
        if marker not in _WITHOUT_LENGTH:
            stop += max(2, int.from_bytes(data[stop : stop + 2]))
        match = _MARKER.search(data, stop)


def _body(data: bytes, place: int) -> bytes:
    return data[place + 2 : place + int.from_bytes(data[place : place + 2])]


def _decides_colors(marker: int, body: bytes) -> bool:
    """Whether a segment says how colours are coded: those of JFIF and Adobe."""
    jfif = marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14
    return jfif or (marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)


def _frame(marker: int, body: bytes) -> Frame:
    if len(body) < 6 or not body[5] or len(body) < 6 + 3 * body[5]:
        raise CorruptImageError("The JPEG file has a damaged header.")
    components = tuple(
        Component(body[at], body[at + 1] >> 4, body[at + 1] & 15)
        for at in range(6, 6 + 3 * body[5], 3)
    )
    if any(not 1 <= factor <= 4 for each in components for factor in (each.across, each.down)):
        raise CorruptImageError("The JPEG file has a damaged header.")
    height, width = int.from_bytes(body[1:3]), int.from_bytes(body[3:5])
    return Frame(marker, body[0], width, height, components)


def _scan(body: bytes, restart: int) -> Scan:
    count = body[0] if body else 0
    if not 1 <= count <= 4 or len(body) < 4 + 2 * count:
        raise CorruptImageError("The JPEG file has a damaged scan.")
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    return Scan(tuple(body[1 : 1 + 2 * count : 2]), first, last, bits >= 16, restart)


def _is_plain(data: bytes, header: PhotoHeader) -> bool:
    """Whether simplejpeg decodes the file to RGB, by its header."""
    try:
        height, width, colorspace, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (KeyError, ValueError):  # it has no name for some sampling factors
        return False
    # Decode only the size that was checked.
    return colorspace in {"YCbCr", "Gray", "RGB"} and (width, height) == (
        header.width,
        header.height,
    )


JPEG = PhotoFormat("jpeg", "JPEG", recognizes, read_header, decode)

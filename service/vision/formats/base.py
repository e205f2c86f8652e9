"""What every format has: a reader of headers, a decoder, and the limits that both keep.

A header is read before a pixel is decoded. It says how much memory and processor time decoding
takes; a file beyond the limits is refused by it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.domain.errors import (
    CorruptImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    UnsupportedImageError,
)

_logger = logging.getLogger(__name__)

# The longest side of a JPEG file. Resizing a longer one for the perceptual hash takes 48 bytes a
# pixel of that side, and as much time.
MAX_SIDE: Final = 65_535
# Measured bytes a pixel of a photo in work. Pixels and their table of sums take 15. Decoding, with
# the copies on the way to RGB and to the hash, takes no more, unless the photo has transparency or
# samples of more than 8 bits.
PLAIN_BYTES: Final = 16
OTHER_BYTES: Final = 32
# Predicted processor time of one photo, in microseconds of a core of the machine that the constants
# of the formats were measured on (AMD EPYC, Zen 5). Costly files take no more than a tenth above
# what is predicted, most take less, and no file may take more than two seconds.
MAX_WORK_US: Final = 1_700_000
# The same for each decoded pixel on the way to RGB and to the perceptual hash.
PIXEL_WORK_US: Final = 0.009
# The largest reduction of a decoder that has some.
LARGEST_SHRINK: Final = 8
# Parts of a file that hold no pixels: segments, chunks, blocks. Each is looked at.
MAX_PARTS: Final = 16_384

Raster = Image.Image | NDArray[np.uint8]
"""A decoded photo as stored: an image of Pillow, or RGB, uint8 [height, width, 3]."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """The limits of one photo.

    max_pixels: the largest width x height of a file.
    max_decoded_pixels: the largest width x height that is decoded. A JPEG, HEIC or AVIF with
        more is decoded at a reduced scale; a file of another format is refused.
    max_jpeg_scans: the largest number of scans of a JPEG.
    enough_side: the longest side of decoded pixels that is enough. A format that is decoded at
        reduced scales takes the smallest one that has it; 0 for the largest scale that fits.
    """

    max_pixels: int = 256_000_000
    max_decoded_pixels: int = 32_000_000
    max_jpeg_scans: int = 100
    enough_side: int = 0

    @property
    def max_decoded_bytes(self) -> int:
        """The memory that one photo may take."""
        return self.max_decoded_pixels * PLAIN_BYTES


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What is known of a photo before it is decoded.

    format: lower-case name of the format.
    width, height: in pixels, as the decoder returns them at full scale.
    shrink: 1, 2, 4 or 8; each side of a decoded pixel is that many pixels of the file.
    orientation: of EXIF, 1 to 8, still to be applied to what the decoder returns.
    decoding_bytes: the most memory that the photo takes in work.
    work_us: predicted processor time of decoding, in microseconds; see `MAX_WORK_US`.
    exif: its EXIF data, or a file of TIFF directories; empty where there is none.
    decoder_orientation: the orientation that the decoder applies itself; `orientation` is 1 then.
    """

    format: str
    width: int
    height: int
    shrink: int
    orientation: int
    decoding_bytes: int
    work_us: float
    exif: bytes = field(default=b"", repr=False)
    decoder_orientation: int = 1

    @property
    def stored_orientation(self) -> int:
        """How the pixels lie in the file, whoever turns them."""
        return self.orientation if self.decoder_orientation == 1 else self.decoder_orientation

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright photo, in pixels of the file."""
        if self.orientation in (5, 6, 7, 8):
            return self.height, self.width
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class PhotoFormat:
    """One format, as `service.vision.decode.FORMATS` registers it.

    name: lower-case, as in the database. title: as in messages.
    recognizes: whether the first bytes are those of the format.
    read_header: reads and checks the header; raises InputError, and decodes no pixel.
    decode: the pixels of a file whose header was read; raises any error for a damaged file.
    """

    name: str
    title: str
    recognizes: Callable[[bytes], bool]
    read_header: Callable[[bytes, DecodeLimits], PhotoHeader]
    decode: Callable[[bytes, PhotoHeader], Raster]


def check_size(width: int, height: int, limits: DecodeLimits, *, reducible: bool = False) -> None:
    """Refuse a picture that is empty or too large.

    Args:
        reducible: whether the decoder can decode at a reduced scale.

    Raises:
        CorruptImageError, ImageTooLargeError
    """
    if min(width, height) < 1:
        raise CorruptImageError("The image has no pixels.")
    if width * height > limits.max_pixels or max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(width, height, limits.max_pixels, MAX_SIDE, "images.max_pixels")
    if not reducible and width * height > limits.max_decoded_pixels:
        name = "images.max_decoded_pixels"
        raise ImageTooLargeError(width, height, limits.max_decoded_pixels, MAX_SIDE, name)


def reduction(width: int, height: int, limits: DecodeLimits, largest: int = LARGEST_SHRINK) -> int:
    """The reduction, 1, 2, 4 or 8, at which a picture is decoded.

    Args:
        largest: the largest one that its decoder offers.

    Raises:
        ImageTooLargeError: its pixels do not fit at any.
    """
    shrink = 1
    while -(-width // shrink) * -(-height // shrink) > limits.max_decoded_pixels:
        if shrink == largest:
            most = limits.max_decoded_pixels * largest**2
            raise ImageTooLargeError(width, height, most, MAX_SIDE, "images.max_decoded_pixels")
        shrink *= 2
    if limits.enough_side:
        while shrink < largest and max(width, height) >= 2 * shrink * limits.enough_side:
            shrink *= 2
    return shrink


def check_work(work_us: float) -> None:
    """Refuse a file that would take too much processor time.

    Raises:
        ImageTooComplexError
    """
    if work_us > MAX_WORK_US:
        raise ImageTooComplexError


def corrupt(error: object) -> CorruptImageError:
    """The error for a file that does not decode; the log says why."""
    _logger.debug("image does not decode: %r", error)
    return CorruptImageError("The image is damaged or ends early and cannot be decoded.")


def raw_file_error() -> UnsupportedImageError:
    """The refusal of a camera's raw file in which no photo is found."""
    return UnsupportedImageError(
        "The file is a camera's raw file without a full-size preview: send the JPEG that the "
        "camera or a program makes of it."
    )

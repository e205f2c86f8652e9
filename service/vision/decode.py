"""Decodes image files to upright RGB pixels; every header is checked before pixels are decoded."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from dataclasses import dataclass

import imagehash
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.domain.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from service.vision.parts import BoundedFile, check_parts, has_few_scans, tiff_entries

_logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# The longest side of a JPEG file. Resizing a longer one for the perceptual hash takes 48 bytes a
# pixel of that side, and as much time.
MAX_SIDE = 65_535
_EXIF_ORIENTATION = 0x0112
# EXIF 2.32, table 6: the transpose that makes each orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow has a name of its own for a JPEG with further images, which many phones write.
_SAME_FORMAT = {"mpo": "jpeg"}
_JPEG_FORMATS = {"JPEG", "MPO"}
# TIFF 6.0, section 15.
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_TIFF_NUMBERS = {3: "H", 4: "L"}
_MAY_TURN = (b"Exif\0", b"rientation")
_PLAIN_COLORS = {"YCbCr", "Gray", "RGB"}
# Measured bytes a pixel during decoding, with the copies on the way to RGB and to the hash.
# Transparency, samples of more than 8 bits and the canvas of libwebp take more.
_PLAIN_MODES = {"RGB", "L", "1", "P", "YCbCr", "CMYK"}
_PLAIN_BYTES = 16
_OTHER_BYTES = 32
_SIXTEEN_BIT_GREY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}

# Pillow's own check has one fixed limit and only warns below it. Ours is stricter and configurable,
# and it runs on the header.
Image.MAX_IMAGE_PIXELS = None
# Odd metadata in a caller's file is not worth a line in the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPhoto:
    """An upright photo.

    pixels: uint8 [height, width, 3], RGB, contiguous.
    phash: 16 hex digits, equal to ImageHash's `phash` of the file as stored; empty where it was
        not requested.
    format: lower-case name of the file format.
    """

    pixels: NDArray[np.uint8]
    phash: str
    format: str


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """Width and height in pixels as stored, and the most memory that decoding takes."""

    width: int
    height: int
    decoding_bytes: int


def decode(data: bytes, max_pixels: int, *, hashed: bool = True) -> DecodedPhoto:
    """Decode the first frame of an image and turn it upright by its EXIF orientation.

    Transparent pixels are blended with white; 16-bit samples keep their high byte.

    Args:
        data: the file's bytes: JPEG, PNG, WebP, BMP, TIFF or GIF.
        max_pixels: the largest width x height, checked on the header.
        hashed: whether to compute the perceptual hash, which takes longer than decoding.

    Raises:
        UnsupportedImageError: the bytes are no image of a supported type.
        ImageTooLargeError: the image has more pixels than `max_pixels`, or a side longer than
            `MAX_SIDE`.
        CorruptImageError: the image ends early, cannot be decoded, or has more parts than a photo
            has.
    """
    with _opened(data, max_pixels) as image:
        try:
            pixels, phash = _decode(image, data, hashed=hashed)
        except (MemoryError, UnsupportedImageError):
            raise
        except Exception as error:
            raise _corrupt(error) from error
        name = (image.format or "").lower()
        return DecodedPhoto(pixels, phash, _SAME_FORMAT.get(name, name))


def read_header(data: bytes, max_pixels: int) -> PhotoHeader:
    """Read and check an image's header, as `decode` does.

    Raises:
        UnsupportedImageError, ImageTooLargeError, CorruptImageError: as `decode` does.
    """
    with _opened(data, max_pixels) as image:
        try:
            is_plain = (
                image.mode in _PLAIN_MODES
                and image.format != "WEBP"
                and not image.has_transparency_data
            )
        except Exception as error:
            raise _corrupt(error) from error
        (width, height), (tile_width, tile_height) = image.size, _tile_size(image, data)
        each = _PLAIN_BYTES if is_plain else _OTHER_BYTES
        return PhotoHeader(width, height, max(width * height, tile_width * tile_height) * each)


def decode_pixels(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels of `decode`, uint8 [height, width, 3]; it raises the same errors.

    A plain JPEG file is decoded without Pillow, which would take longer to open a small file than
    decoding takes.
    """
    size = plain_jpeg_size(data)
    if size is not None and size[0] * size[1] <= max_pixels:
        try:
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
        except ValueError as error:
            _logger.debug("libjpeg-turbo objects: %s", error)
    return decode(data, max_pixels, hashed=False).pixels


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a grey or colour JPEG file that is stored upright; else None.

    A file with metadata that may hold an orientation is left to Pillow.
    """
    if data[:3] != b"\xff\xd8\xff" or any(mark in data for mark in _MAY_TURN):
        return None
    if not has_few_scans(data):
        return None
    try:
        height, width, colorspace, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (width, height) if colorspace in _PLAIN_COLORS else None


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """Open an image: its header is read and checked, no pixel is decoded."""
    check_parts(data)
    try:
        image = Image.open(BoundedFile(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnsupportedImageError(
            "The file is not a JPEG, PNG, WebP, BMP, TIFF or GIF image."
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # a hostile header can raise almost any error in a decoder
        raise _corrupt(error) from error
    for width, height in (image.size, _tile_size(image, data)):
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise ImageTooLargeError(width, height, max_pixels, MAX_SIDE)
    if min(image.size) < 1:
        raise CorruptImageError("The image has no pixels.")
    return image


def _tile_size(image: Image.Image, data: bytes) -> tuple[int, int]:
    """Width and height of a TIFF file's tiles; 0 and 0 when it has none.

    libtiff allocates a whole tile, even for a small image. All entries are read, by TIFF 6.0 and
    BigTIFF, and the largest counts: of two entries libtiff and Pillow use different ones.

    Raises:
        CorruptImageError: an entry has a type or count that no writer uses.
    """
    if image.format != "TIFF":
        return 0, 0
    found = {_TILE_WIDTH: 0, _TILE_LENGTH: 0}
    order = "<" if data[:2] == b"II" else ">"
    try:
        for tag, kind, values, value in tiff_entries(data):
            if tag in found:
                code = _TIFF_NUMBERS[kind] if values == 1 else ""
                (number,) = struct.unpack_from(order + code, value)
                found[tag] = max(found[tag], number)
    except (struct.error, KeyError, ValueError) as error:
        raise _corrupt(error) from error
    return found[_TILE_WIDTH], found[_TILE_LENGTH]


def blank_png(side: int) -> bytes:
    """A black square of `side` pixels as a PNG file."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def _corrupt(error: Exception) -> CorruptImageError:
    _logger.debug("image does not decode: %r", error)
    return CorruptImageError("The image is damaged or ends early and cannot be decoded.")


def _decode(header: Image.Image, data: bytes, *, hashed: bool) -> tuple[NDArray[np.uint8], str]:
    """Upright pixels, and the hash of the stored ones."""
    stored = _fast_jpeg(header, data)
    if stored is None:
        header.load()
        picture = header
    else:
        picture = Image.fromarray(stored)
    phash = str(imagehash.phash(picture)) if hashed else ""
    turn = _turn(header)  # after decoding: a PNG may store it behind its pixels
    if turn is not None:
        picture = picture.transpose(turn)
    elif stored is not None:
        return stored, phash
    return _to_rgb(picture), phash


def _fast_jpeg(header: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """Decode a usual JPEG file, uint8 [height, width, 3] as stored; None leaves it to Pillow.

    libjpeg-turbo gets the file in one piece and takes half the time of Pillow, which feeds it strip
    by strip, for the same pixels. A grey file gets three equal channels. A file that it rejects is
    left to Pillow, which is more lenient.
    """
    if header.format not in _JPEG_FORMATS or header.mode not in ("RGB", "L"):
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != header.size:  # decode only the size that was checked
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        _logger.debug("libjpeg-turbo objects: %s", error)
        return None
    return pixels


def _turn(header: Image.Image) -> Image.Transpose | None:
    """The transpose that makes the image upright; None when it is upright."""
    try:
        orientation = header.getexif().get(_EXIF_ORIENTATION)
    except Exception as error:  # broken metadata does not make the pixels unusable
        _logger.debug("EXIF data ignored: %r", error)
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BIT_GREY:
        samples = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF)
        grey = (samples >> 8).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, np.newaxis], 3, axis=2))
    if image.mode == "F":
        raise UnsupportedImageError("Images with floating-point samples are not supported.")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return np.ascontiguousarray(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))

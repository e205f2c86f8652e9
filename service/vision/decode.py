"""Bytes to upright RGB pixels; a header is believed only after it was checked."""

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
# EXIF 2.32, table 6: how the stored rows and columns lie, and what turns them upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A JPEG with more pictures behind the first (many phones write them) has a name of its own.
_SAME_FORMAT = {"mpo": "jpeg"}
_JPEG_FORMATS = {"JPEG", "MPO"}
# TIFF 6.0, section 15.
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_TIFF_NUMBERS = {3: "H", 4: "L"}
_MAY_TURN = (b"Exif\0", b"rientation")
_PLAIN_COLORS = {"YCbCr", "Gray", "RGB"}
# A pixel's bytes while an image is decoded, as measured: its picture, and copies of it on the way
# to RGB and to the hash. More where transparency is laid over white, more than 8 bits are shifted,
# or libwebp keeps a canvas of its own.
_PLAIN_MODES = {"RGB", "L", "1", "P", "YCbCr", "CMYK"}
_PLAIN_BYTES = 16
_OTHER_BYTES = 32
_SIXTEEN_BIT_GREY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}

# Pillow's own bomb check knows only one fixed limit and warns below it; ours is stricter, is the
# operator's to set, and runs on the header before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns of odd metadata in a caller's file; that is not worth a line in the service's log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPhoto:
    """An upright photo.

    pixels: uint8 [height, width, 3], RGB, contiguous.
    phash: 16 hex digits, equal to ImageHash's `phash` of the file as stored; empty where it was
        not asked for.
    format: lower-case name of the file format.
    """

    pixels: NDArray[np.uint8]
    phash: str
    format: str


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """Width and height in pixels as stored, and the memory that decoding takes at most."""

    width: int
    height: int
    decoding_bytes: int


def decode(data: bytes, max_pixels: int, *, hashed: bool = True) -> DecodedPhoto:
    """Decode the first frame of an image and turn it upright by its EXIF orientation.

    Transparency is laid over white; 16-bit samples keep their high byte.

    Args:
        data: the file's bytes: JPEG, PNG, WebP, BMP, TIFF or GIF.
        max_pixels: the largest width x height, checked on the header.
        hashed: whether to take the perceptual hash, which takes longer than decoding does.

    Raises:
        UnsupportedImageError: no image of a supported type.
        ImageTooLargeError: more pixels than `max_pixels`, or a side longer than `MAX_SIDE`.
        CorruptImageError: it ends early, does not decode, or has more parts than a photo has.
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
    """What an image's header says, which is what `decode` believes.

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
    """The pixels that `decode` gives, uint8 [height, width, 3], and raises what it raises.

    A plain JPEG file goes without Pillow, which takes longer to open a small one than it takes to
    decode.
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

    Nothing in it may speak of an orientation, which would be Pillow's to read.
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
    """The image with its header read, and none of its pixels decoded."""
    check_parts(data)
    try:
        image = Image.open(BoundedFile(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnsupportedImageError(
            "The file is not a JPEG, PNG, WebP, BMP, TIFF or GIF image."
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # a hostile header can raise nearly anything in a decoder
        raise _corrupt(error) from error
    for width, height in (image.size, _tile_size(image, data)):
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise ImageTooLargeError(width, height, max_pixels, MAX_SIDE)
    if min(image.size) < 1:
        raise CorruptImageError("The image has no pixels.")
    return image


def _tile_size(image: Image.Image, data: bytes) -> tuple[int, int]:
    """Width and height of a TIFF file's tiles; 0 and 0 where there are none.

    libtiff takes memory for a whole tile, however small the picture in it is. All entries are read,
    by TIFF 6.0 and BigTIFF, and the largest counts: libtiff and Pillow do not heed the same of two.

    Raises:
        CorruptImageError: an entry is not what writers make it.
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
    """Upright pixels, and the hash of those stored."""
    stored = _fast_jpeg(header, data)
    if stored is None:
        header.load()
        picture = header
    else:
        picture = Image.fromarray(stored)
    phash = str(imagehash.phash(picture)) if hashed else ""
    turn = _turn(header)  # only now: a PNG may say it behind its pixels
    if turn is not None:
        picture = picture.transpose(turn)
    elif stored is not None:
        return stored, phash
    return _to_rgb(picture), phash


def _fast_jpeg(header: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """uint8 [height, width, 3] as stored, or None for what Pillow has to decode.

    The usual JPEG files go to libjpeg-turbo in one piece: the same pixels as Pillow's, which feeds
    it strip by strip, in about half the time. A grey one gets three equal channels. What it
    objects to is Pillow's to judge, which is more lenient.
    """
    if header.format not in _JPEG_FORMATS or header.mode not in ("RGB", "L"):
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != header.size:  # only what was checked may be decoded
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        _logger.debug("libjpeg-turbo objects: %s", error)
        return None
    return pixels


def _turn(header: Image.Image) -> Image.Transpose | None:
    """What turns the picture upright; None for what is."""
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

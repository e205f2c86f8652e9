"""Decodes image files to upright RGB pixels; every header is checked before pixels are decoded.

`FORMATS` lists the formats; `service/vision/formats/` has a module for each. To add one, write such
a module, which ends in a `PhotoFormat` with its header reader and its decoder, and list it here.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.domain.errors import InputError, UnsupportedImageError
from service.domain.types import PhotoFacts
from service.vision.formats.base import DecodeLimits, PhotoFormat, PhotoHeader, Raster, corrupt
from service.vision.formats.bmp import BMP
from service.vision.formats.camera_raw import CAMERA_RAW
from service.vision.formats.exif import TURNS, facts_of
from service.vision.formats.gif import GIF
from service.vision.formats.heif import HEIF
from service.vision.formats.jpeg import JPEG
from service.vision.formats.png import PNG
from service.vision.formats.tiff import TIFF
from service.vision.formats.webp import WEBP
from service.vision.phash import perceptual_hash

FORMATS: Final[tuple[PhotoFormat, ...]] = (CAMERA_RAW, JPEG, PNG, WEBP, HEIF, BMP, TIFF, GIF)
"""The formats; the first one that recognises a file reads and decodes it."""

_SIXTEEN_BIT_GREY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
# Pillow converts these to RGB or RGBA alone: the hash is that of the conversion.
_ONLY_TO = {"LAB": "RGB", "La": "LA", "RGBa": "RGBA"}

# Pillow's own check has one fixed limit and only warns below it. Ours is stricter and configurable,
# and it runs on the header.
Image.MAX_IMAGE_PIXELS = None
# Odd metadata in a caller's file is not worth a line in the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPhoto:
    """An upright photo.

    pixels: uint8 [height, width, 3], RGB, contiguous, read-only; of a large photo, at a reduced
        scale.
    phash: 16 hex digits, equal to ImageHash's `phash` of the file as stored, or of its reduced
        pixels; empty where it was not requested.
    format: lower-case name of the file format.
    width, height: of the upright photo, in pixels of the file.
    shrink: pixels of the file along each side of a pixel of `pixels`: 1, 2, 4 or 8.
    facts: what the file says about the photo; with the location only where that was requested.
    """

    pixels: NDArray[np.uint8]
    phash: str
    format: str
    width: int
    height: int
    shrink: int
    facts: PhotoFacts


def decode(
    data: bytes, limits: DecodeLimits, *, hashed: bool = True, located: bool = False
) -> DecodedPhoto:
    """Decode the first frame of an image, once, and turn it upright by its EXIF orientation.

    Transparent pixels are blended with white; 16-bit samples keep their high byte.

    Args:
        data: the file's bytes, of one of `FORMATS`.
        hashed: whether to compute the perceptual hash.
        located: whether to read where the photo was taken.

    Raises:
        UnsupportedImageError: the bytes are no image of a supported type.
        ImageTooLargeError: the image has more pixels than the limits allow, or a side longer than
            `MAX_SIDE`.
        ImageTooComplexError: decoding would take too much processor time.
        CorruptImageError: the image ends early, or cannot be decoded.
    """
    form = format_of(data)
    header = form.read_header(data, limits)
    try:
        raster = form.decode(data, header)
        if isinstance(raster, Image.Image):
            raster.load()
        if _size(raster) != (-(-header.width // header.shrink), -(-header.height // header.shrink)):
            raise ValueError(f"decoded as {_size(raster)}")
        pixels, phash = _finish(raster, header.orientation, hashed=hashed)
    except (MemoryError, InputError):
        raise
    except UnidentifiedImageError:
        raise UnsupportedImageError(
            f"The {form.title} file is of a kind that is not supported, or damaged."
        ) from None
    except Exception as error:  # a hostile file can raise almost any error in a decoder
        raise corrupt(error) from error
    width, height = header.upright_size
    facts = facts_of(header.exif, header.stored_orientation, located=located)
    return DecodedPhoto(pixels, phash, header.format, width, height, header.shrink, facts)


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check an image's header, as `decode` does.

    Raises:
        UnsupportedImageError, ImageTooLargeError, ImageTooComplexError, CorruptImageError: as
            `decode` does.
    """
    return format_of(data).read_header(data, limits)


def format_of(data: bytes) -> PhotoFormat:
    """The format of a file, by its first bytes.

    Raises:
        UnsupportedImageError: it is none of `FORMATS`.
    """
    for form in FORMATS:
        if form.recognizes(data):
            return form
    titles = ", ".join(form.title for form in FORMATS)
    raise UnsupportedImageError(f"The file is no image of a supported format: {titles}.")


def blank_png(side: int) -> bytes:
    """A black square of `side` pixels as a PNG file."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return stream.getvalue()


def _size(raster: Raster) -> tuple[int, int]:
    if isinstance(raster, Image.Image):
        return raster.size
    return int(raster.shape[1]), int(raster.shape[0])


def _finish(raster: Raster, orientation: int, *, hashed: bool) -> tuple[NDArray[np.uint8], str]:
    """Upright pixels, and the hash of the stored ones."""
    picture: Raster
    if isinstance(raster, Image.Image):
        if raster.mode in _ONLY_TO:
            raster = raster.convert(_ONLY_TO[raster.mode])
        pixels = _to_rgb(raster)
        # Of other modes the hash is not that of the pixels.
        is_plain = raster.mode == "RGB" and not raster.has_transparency_data
        picture = pixels if is_plain else raster
    else:
        picture = pixels = raster
    pixels.flags.writeable = False
    phash = perceptual_hash(picture) if hashed else ""
    turn = TURNS.get(orientation)
    if turn is not None:
        pixels = _turn(pixels, turn)
    # Kernels are compiled for one kind of array, whatever the format.
    pixels.flags.writeable = False
    return pixels, phash


def _turn(pixels: NDArray[np.uint8], turn: Image.Transpose) -> NDArray[np.uint8]:
    """`Image.transpose` for an array; 12 million pixels take a tenth of the time."""
    match turn:
        case Image.Transpose.FLIP_LEFT_RIGHT:
            turned = cv2.flip(pixels, 1)
        case Image.Transpose.FLIP_TOP_BOTTOM:
            turned = cv2.flip(pixels, 0)
        case Image.Transpose.ROTATE_90:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case Image.Transpose.ROTATE_180:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case Image.Transpose.ROTATE_270:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case Image.Transpose.TRANSPOSE:
            turned = cv2.transpose(pixels)
        case _:
            turned = cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
    return np.asarray(turned, dtype=np.uint8)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BIT_GREY:
        samples = np.asarray(image)
        if samples.dtype.itemsize > 2:
            samples = np.clip(samples, 0, 0xFFFF)
        grey = (samples >> 8).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, np.newaxis], 3, axis=2))
    if image.mode == "F":
        raise UnsupportedImageError("Images with floating-point samples are not supported.")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return np.ascontiguousarray(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))

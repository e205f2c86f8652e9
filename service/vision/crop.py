"""Crops a face for an embedding network: clipped, filled or aligned."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.types import Box, FacePlace
from service.vision.views import turn_points

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float64]

# A detector makes no box with less of the photo than this share. The crop of such a box is composed
# directly, without a canvas of the size of the box.
_LEAST_INSIDE = 0.25
# warpAffine reads four pixels for each output pixel: below this scale it would skip pixels.
_LEAST_SCALE = 0.5
# One pixel of the crop for a thousand of the photo: such landmarks are no face.
_SMALLEST_SCALE = 1e-3
_AS_COMPLEX = np.array([1, 1j])
# Landmarks nearer together than this, in pixels (root mean square), are no face.
_LEAST_SPREAD = 0.5


class CropShape(Protocol):
    """How a face is cropped for a network: the manifest's `FaceCrop`."""

    @property
    def kind(self) -> Literal["box", "landmarks"]: ...

    @property
    def size(self) -> int: ...

    @property
    def margin(self) -> float: ...

    @property
    def fill(self) -> Literal["clip", "black"]: ...

    @property
    def template(self) -> tuple[tuple[float, float], ...]: ...


def cut_face(pixels: Pixels, place: FacePlace, shape: CropShape, turned: int = 0) -> Pixels | None:
    """Crop a face for a network.

    Args:
        pixels: uint8 [height, width, 3].
        place: in pixels of that photo.
        shape: the kind and size of the crop.
        turned: degrees clockwise, 0, 90, 180 or 270, by which a rotation of the photo makes the
            face upright.

    Returns:
        uint8 [size, size, 3], or None when the face lies outside of the photo.
    """
    if turned:
        height, width = pixels.shape[:2]
        pixels = np.rot90(pixels, -(turned // 90))
        place = _turned(place, width, height, turned)
    if shape.kind == "landmarks":
        return align_face(pixels, place.landmarks, shape.template, shape.size)
    if shape.fill == "clip":
        return crop_clipped(pixels, place.box, shape.size)
    return crop_filled(pixels, place.box, shape.size, shape.margin)


def crop_clipped(pixels: Pixels, box: Box, size: int) -> Pixels | None:
    """Crop a box from a photo and resize it by area, as facenet-pytorch's `extract_face` does.

    Args:
        pixels: uint8 [height, width, 3].
        box: in pixels of that photo; it is clipped to the photo, and the rest is stretched.
        size: side of the square crop in pixels.

    Returns:
        uint8 [size, size, 3], or None when no whole pixel of the box lies inside the photo.
    """
    height, width = pixels.shape[:2]
    x1, y1 = int(max(box.x1, 0)), int(max(box.y1, 0))
    x2, y2 = int(min(box.x2, width)), int(min(box.y2, height))
    if x2 <= x1 or y2 <= y1:
        return None
    return resize_face(_laid_out(pixels[y1:y2, x1:x2]), size)


def crop_filled(pixels: Pixels, box: Box, size: int, margin: float = 1.0) -> Pixels | None:
    """Crop a box with a margin, black outside of the photo, and resize it by area.

    For a box inside the photo and a margin of 1 the result is that of `crop_clipped`.

    Args:
        pixels: uint8 [height, width, 3].
        box: in pixels of that photo.
        size: side of the square crop in pixels.
        margin: factor for the sides of the box, about its centre.

    Returns:
        uint8 [size, size, 3], or None when no whole pixel of it lies inside the photo.
    """
    height, width = pixels.shape[:2]
    x1, x2 = _span(box.x1, box.x2, margin)
    y1, y2 = _span(box.y1, box.y2, margin)
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right <= left or bottom <= top:
        return None
    inside = _laid_out(pixels[top:bottom, left:right])
    if (left, top, right, bottom) == (x1, y1, x2, y2):
        return resize_face(inside, size)
    whole = (x2 - x1, y2 - y1)
    if inside.shape[0] * inside.shape[1] < _LEAST_INSIDE * whole[0] * whole[1]:
        return _placed(inside, (left - x1, top - y1), whole, size)
    canvas = cv2.copyMakeBorder(
        inside, top - y1, y2 - bottom, left - x1, x2 - right, cv2.BORDER_CONSTANT
    )
    return resize_face(np.asarray(canvas, dtype=np.uint8), size)


def align_face(
    pixels: Pixels,
    landmarks: tuple[tuple[float, float], ...],
    template: tuple[tuple[float, float], ...],
    size: int,
    *,
    grey: bool = False,
) -> Pixels | None:
    """Align a face: the similarity transform that brings five landmarks closest to a template.

    Args:
        pixels: uint8 [height, width, 3].
        landmarks: in pixels of that photo.
        template: the places of the same landmarks in the crop, in pixels.
        size: side of the square crop in pixels; pixels outside of the photo are black.
        grey: whether the crop has one grey channel.

    Returns:
        uint8 [size, size, 3], or [size, size] if grey; None when the crop shows nothing of
        the photo.
    """
    moved = fit_similarity(np.asarray(landmarks, np.float64), np.asarray(template, np.float64))
    if moved is None:
        return None
    # Only the pixels that the crop needs, and a few around them for interpolation and halving.
    scale = math.hypot(moved[0, 0], moved[1, 0])
    halvings = max(0, math.ceil(math.log2(_LEAST_SCALE / scale)))
    more = 2 << halvings
    (xx, xy, x), (yx, yy, y) = cv2.invertAffineTransform(moved).tolist()
    height, width = pixels.shape[:2]
    left, right = _stretch(x, xx * size, xy * size, more, width)
    top, bottom = _stretch(y, yx * size, yy * size, more, height)
    if right <= left or bottom <= top:
        return None
    part = _laid_out(pixels[top:bottom, left:right])
    moved[:, 2] += moved[:, :2] @ (left, top)
    for _ in range(halvings):
        if min(part.shape[:2]) < 2:
            break
        # Means over two by two pixels, which are cheap; the centre of a pixel of
        # the smaller picture is the centre of its square.
        high, wide = part.shape[0] // 2, part.shape[1] // 2
        halved = cv2.resize(
            part[: 2 * high, : 2 * wide], (wide, high), interpolation=cv2.INTER_AREA
        )
        part = np.asarray(halved, np.uint8)
        moved[:, 2] += 0.5 * moved[:, :2].sum(axis=1)
        moved[:, :2] *= 2
    if grey:
        part = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), np.uint8)
    warped = cv2.warpAffine(part, moved, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)


def fit_similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> Affine | None:
    """The similarity transform that brings points closest to a template, by least squares.

    Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns",
    IEEE Transactions on Pattern Analysis and Machine Intelligence 13(4), 1991. In the plane, with
    points as complex numbers, it is a quotient: turn and scale are one complex factor.

    Args:
        points, template: float64 [n, 2], x and y.

    Returns:
        float64 [2, 3], which maps (x, y, 1) to the template; None when all points coincide.
    """
    seen, wanted = points @ _AS_COMPLEX, template @ _AS_COMPLEX
    from_mean, to_mean = complex(seen.mean()), complex(wanted.mean())
    seen = seen - from_mean
    spread = float(np.vdot(seen, seen).real)
    if not spread > len(points) * _LEAST_SPREAD**2:
        return None
    turn = complex(np.vdot(seen, wanted)) / spread
    if not abs(turn) > _SMALLEST_SCALE:
        return None
    shift = to_mean - turn * from_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def resize_face(pixels: Pixels, size: int) -> Pixels:
    """Resize an image of one face by area.

    Args:
        pixels: uint8 [height, width, 3].
        size: side of the square result in pixels.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    resized = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)


def _turned(place: FacePlace, width: int, height: int, turned: int) -> FacePlace:
    """A face in a photo of `width` x `height` after a clockwise rotation of the photo."""
    box = place.box
    points = np.array([(box.x1, box.y1), (box.x2, box.y2), *place.landmarks], np.float64)
    moved = turn_points(points, width, height, turned)
    (x1, y1), (x2, y2) = moved[:2].min(axis=0), moved[:2].max(axis=0)
    landmarks = tuple((float(x), float(y)) for x, y in moved[2:])
    return FacePlace(Box(float(x1), float(y1), float(x2), float(y2)), landmarks)


def _laid_out(part: Pixels) -> Pixels:
    """The same pixels, contiguous for OpenCV: those of a rotated photo are copied."""
    return part if part.strides[1:] == (3, 1) and part.strides[0] > 0 else part.copy()


def _stretch(start: float, one: float, other: float, more: int, side: int) -> tuple[int, int]:
    """The range of pixels along one side of the photo that a crop needs, first to past the last.

    Args:
        start: coordinate of the crop's corner; one, other: extents of its two sides from there.
        more: additional pixels at both ends.
        side: length of the photo's side.
    """
    low = start + min(one, 0.0) + min(other, 0.0)
    high = start + max(one, 0.0) + max(other, 0.0)
    return int(max(low - more, 0)), int(min(high + more + 1, side))


def _span(low: float, high: float, margin: float) -> tuple[int, int]:
    """The range of pixels of one side, first to past the last, as facenet-pytorch rounds it."""
    # A refined box may be anywhere.
    low, high = max(min(low, 1e6), -1e6), max(min(high, 1e6), -1e6)
    more = (high - low) * (margin - 1) / 2
    first = math.floor(low - more)
    return first, max(first + 1, math.floor(high + more))


def _placed(inside: Pixels, corner: tuple[int, int], whole: tuple[int, int], size: int) -> Pixels:
    """A part of a crop at its place in the black whole; corner, whole: x and y in pixels."""
    crop = np.zeros((size, size, 3), np.uint8)
    spans = [
        (start * size // side, max(1, length * size // side))
        for start, length, side in zip(corner, inside.shape[1::-1], whole, strict=True)
    ]
    (x, width), (y, height) = ((min(start, size - 1), length) for start, length in spans)
    part = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA)
    crop[y : y + height, x : x + width] = part[: size - y, : size - x]
    return crop

"""The face crop that the embedding network sees."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.types import Box, FacePlace

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float64]

# A box that holds less of the photo than this share was not made by a detector: what is inside is
# put in its place without making a canvas of the box's size first.
_LEAST_INSIDE = 0.25
# warpAffine looks at four pixels for each one it makes: below this scale it would leave some out.
_LEAST_SCALE = 0.5
# Landmarks nearer together than this, in pixels (root mean square), are no face.
_LEAST_SPREAD = 0.5


class CropShape(Protocol):
    """How a face is cut out for a network, as the manifest's `FaceCrop` says it."""

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
    """A face as a network wants it.

    Args:
        pixels: uint8 [height, width, 3].
        place: in pixels of that photo.
        shape: how it is cut.
        turned: degrees clockwise, 0, 90, 180 or 270, by which the photo has to be turned so that
            the face is upright.

    Returns:
        uint8 [size, size, 3], or None where nothing of the face lies inside the photo.
    """
    if shape.kind == "landmarks":
        return align_face(pixels, place.landmarks, shape.template, shape.size)
    if shape.fill == "clip":
        crop = crop_clipped(pixels, place.box, shape.size)
    else:
        crop = crop_filled(pixels, place.box, shape.size, shape.margin)
    if crop is None or not turned:
        return crop
    return np.ascontiguousarray(np.rot90(crop, -(turned // 90)))


def crop_clipped(pixels: Pixels, box: Box, size: int) -> Pixels | None:
    """The box cut out of a photo and resized by area, as facenet-pytorch's `extract_face` does.

    Args:
        pixels: uint8 [height, width, 3].
        box: in pixels of that photo; the part outside is left out, the rest is stretched.
        size: side of the square crop in pixels.

    Returns:
        uint8 [size, size, 3], or None when no whole pixel of the box lies inside the photo.
    """
    height, width = pixels.shape[:2]
    x1, y1 = int(max(box.x1, 0)), int(max(box.y1, 0))
    x2, y2 = int(min(box.x2, width)), int(min(box.y2, height))
    if x2 <= x1 or y2 <= y1:
        return None
    return resize_face(pixels[y1:y2, x1:x2], size)


def crop_filled(pixels: Pixels, box: Box, size: int, margin: float = 1.0) -> Pixels | None:
    """The box with some of its surroundings, black where the photo ends, resized by area.

    Of a box inside the photo it is what `crop_clipped` gives, for a margin of 1.

    Args:
        pixels: uint8 [height, width, 3].
        box: in pixels of that photo.
        size: side of the square crop in pixels.
        margin: the box's sides are multiplied by this, about its centre.

    Returns:
        uint8 [size, size, 3], or None when no whole pixel of it lies inside the photo.
    """
    height, width = pixels.shape[:2]
    x1, x2 = _span(box.x1, box.x2, margin)
    y1, y2 = _span(box.y1, box.y2, margin)
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right <= left or bottom <= top:
        return None
    inside = pixels[top:bottom, left:right]
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
) -> Pixels | None:
    """The photo moved, turned and scaled so that five points of a face fit a template best.

    Args:
        pixels: uint8 [height, width, 3].
        landmarks: in pixels of that photo.
        template: where the same points go, in pixels of the crop.
        size: side of the square crop in pixels; what lies outside of the photo is black in it.

    Returns:
        uint8 [size, size, 3], or None where the crop shows nothing of the photo.
    """
    moved = fit_similarity(np.asarray(landmarks, np.float64), np.asarray(template, np.float64))
    if moved is None:
        return None
    # Only what the crop shows is touched, with a pixel more to interpolate with.
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float64)
    back = cv2.invertAffineTransform(moved)
    seen = corners @ back.T
    height, width = pixels.shape[:2]
    left, top = (int(max(math.floor(v) - 2, 0)) for v in seen.min(axis=0))
    right, bottom = (
        int(min(math.ceil(v) + 2, side))
        for v, side in zip(seen.max(axis=0), (width, height), strict=True)
    )
    if right <= left or bottom <= top:
        return None
    part = pixels[top:bottom, left:right]
    moved = moved @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]], np.float64)
    scale = math.sqrt(abs(float(np.linalg.det(moved[:, :2]))))
    if scale < _LEAST_SCALE:
        wide, high = (
            max(1, round(side * scale / _LEAST_SCALE)) for side in (part.shape[1], part.shape[0])
        )
        by_x, by_y = wide / part.shape[1], high / part.shape[0]
        part = np.asarray(cv2.resize(part, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)
        # The centre of a pixel of the small picture is the centre of those it was made of.
        shrink = np.array(
            [[1 / by_x, 0, 0.5 / by_x - 0.5], [0, 1 / by_y, 0.5 / by_y - 0.5], [0, 0, 1]]
        )
        moved = moved @ shrink
    warped = cv2.warpAffine(part, moved, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.uint8)


def fit_similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> Affine | None:
    """The turn, scale and shift that bring points nearest to a template, by least squares.

    Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns",
    IEEE Transactions on Pattern Analysis and Machine Intelligence 13(4), 1991.

    Args:
        points, template: float64 [n, 2], x and y.

    Returns:
        float64 [2, 3], which maps (x, y, 1) to the template; None where all points are one.
    """
    from_mean, to_mean = points.mean(axis=0), template.mean(axis=0)
    source, target = points - from_mean, template - to_mean
    variance = float((source**2).sum()) / len(points)
    if not variance > _LEAST_SPREAD**2:
        return None
    u, strengths, v = np.linalg.svd(target.T @ source / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    turn = (u * signs) @ v
    scale = float(strengths @ signs) / variance
    shift = to_mean - scale * turn @ from_mean
    return np.concatenate([scale * turn, shift[:, np.newaxis]], axis=1)


def resize_face(pixels: Pixels, size: int) -> Pixels:
    """A picture that shows nothing but a face, resized by area.

    Args:
        pixels: uint8 [height, width, 3].
        size: side of the square result in pixels.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    resized = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)


def _span(low: float, high: float, margin: float) -> tuple[int, int]:
    """First pixel and past the last of a side; inside a photo those of facenet-pytorch."""
    # A refined box may be anywhere.
    low, high = max(min(low, 1e6), -1e6), max(min(high, 1e6), -1e6)
    more = (high - low) * (margin - 1) / 2
    first = math.floor(low - more)
    return first, max(first + 1, math.floor(high + more))


def _placed(inside: Pixels, corner: tuple[int, int], whole: tuple[int, int], size: int) -> Pixels:
    """A part of a crop in its place, the rest black; corner and whole: x and y in its pixels."""
    crop = np.zeros((size, size, 3), np.uint8)
    spans = [
        (start * size // side, max(1, length * size // side))
        for start, length, side in zip(corner, inside.shape[1::-1], whole, strict=True)
    ]
    (x, width), (y, height) = ((min(start, size - 1), length) for start, length in spans)
    part = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA)
    crop[y : y + height, x : x + width] = part[: size - y, : size - x]
    return crop

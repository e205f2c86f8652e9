"""ImageHash's perceptual hash of a photo, at a fifth of the cost.

Nearly all of the cost is Pillow's: a copy of the pixels, their conversion to grey, and a Lanczos
reduction to 32 x 32. The kernel here does the three in one pass over the rows, in Pillow's own
arithmetic, so that every byte of the reduction is Pillow's: grey as in its `Convert.c`, weights in
22-bit fixed point and a rounding between the two passes as in its `Resample.c`. ImageHash takes the
hash of the reduction.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.vision.compiled import kernel

_SIDE: Final = 32
"""Of the picture that ImageHash transforms, in pixels."""

# Pillow 13 reduces the columns first where a photo is more than about twice as high as wide, and
# has rules of its own for magnification. Such photos are left to Pillow.
_LEAST_SIDE: Final = 64

_LOBES: Final = 3.0
_PRECISION: Final = 22
_HALF: Final = 1 << (_PRECISION - 1)


def perceptual_hash(picture: Image.Image | NDArray[np.uint8]) -> str:
    """The 64 bits of ImageHash's `phash`, as 16 hex digits.

    Args:
        picture: a loaded image, or its pixels, uint8 [height, width, 3], RGB, contiguous and
            read-only; kernels are compiled for such arrays.
    """
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture.convert("L"))  # read-only
    height, width = picture.shape[:2]
    if min(height, width) >= _LEAST_SIDE and height + _LEAST_SIDE <= 2 * width:
        reduce = _reduce_rgb if picture.ndim == 3 else _reduce_grey
        picture = reduce(picture, *_weights(width), *_weights(height))
    return str(imagehash.phash(Image.fromarray(picture)))


# Of a side of 65,535 pixels they take 1.6 MB.
@lru_cache(maxsize=16)
def _weights(length: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return _compute_weights(length)


@kernel
def _compute_weights(length: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The weights of the reduction of a side with at least 32 pixels.

    Returns:
        weights: int32 [32, n], in fixed point, zeros behind the last one of an output.
        spans: int64 [32, 2], the first pixel of each output and the number of its pixels.
    """
    scale = length / _SIDE
    support = _LOBES * scale
    inverse = 1.0 / scale
    most = math.ceil(support) * 2 + 1
    weights = np.zeros((_SIDE, most), dtype=np.int32)
    spans = np.empty((_SIDE, 2), dtype=np.int64)
    exact = np.empty(most, dtype=np.float64)
    for i in range(_SIDE):
        center = (i + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        count = min(int(center + support + 0.5), length) - first
        total = 0.0
        for k in range(count):
            x = (k + first - center + 0.5) * inverse
            weight = 0.0
            if -_LOBES <= x < _LOBES:
                weight = 1.0
                if x != 0.0:
                    one, other = x * math.pi, x / 3 * math.pi
                    weight = math.sin(one) / one * (math.sin(other) / other)
            exact[k] = weight
            total += weight
        for k in range(count):
            fixed = exact[k] / total * (1 << _PRECISION)
            weights[i, k] = int(fixed - 0.5) if fixed < 0 else int(fixed + 0.5)
        spans[i, 0] = first
        spans[i, 1] = count
    return weights, spans


@kernel
def _reduce_rgb(
    pixels: NDArray[np.uint8],
    across: NDArray[np.int32],
    columns: NDArray[np.int64],
    down: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> NDArray[np.uint8]:
    height, width = pixels.shape[0], pixels.shape[1]
    grey = np.empty(width, dtype=np.int32)
    narrow = np.empty((height, _SIDE), dtype=np.int32)
    for y in range(height):
        row = pixels[y].reshape(-1)  # with two indices the loop takes five times as long
        for x in range(width):
            red = np.uint32(row[3 * x]) * np.uint32(19595)
            green = np.uint32(row[3 * x + 1]) * np.uint32(38470)
            blue = np.uint32(row[3 * x + 2]) * np.uint32(7471)
            grey[x] = (red + green + blue + np.uint32(0x8000)) >> np.uint32(16)
        _reduce_row(grey, across, columns, narrow[y])
    return _reduce_columns(narrow, down, rows)


@kernel
def _reduce_grey(
    pixels: NDArray[np.uint8],
    across: NDArray[np.int32],
    columns: NDArray[np.int64],
    down: NDArray[np.int32],
    rows: NDArray[np.int64],
) -> NDArray[np.uint8]:
    height, width = pixels.shape
    grey = np.empty(width, dtype=np.int32)
    narrow = np.empty((height, _SIDE), dtype=np.int32)
    for y in range(height):
        for x in range(width):
            grey[x] = pixels[y, x]
        _reduce_row(grey, across, columns, narrow[y])
    return _reduce_columns(narrow, down, rows)


@kernel
def _reduce_row(
    grey: NDArray[np.int32],
    weights: NDArray[np.int32],
    spans: NDArray[np.int64],
    out: NDArray[np.int32],
) -> None:
    for i in range(_SIDE):
        # Slices: an index that may be negative keeps the loop from becoming vector instructions.
        seen = grey[spans[i, 0] : spans[i, 0] + spans[i, 1]]
        these = weights[i]
        total = np.int32(_HALF)
        for k in range(len(seen)):
            # In 32 bits, as Pillow has it: Numba would widen the product.
            total = np.int32(total + np.int32(seen[k] * these[k]))
        out[i] = _to_byte(total)


@kernel
def _reduce_columns(
    narrow: NDArray[np.int32], weights: NDArray[np.int32], spans: NDArray[np.int64]
) -> NDArray[np.uint8]:
    out = np.empty((_SIDE, _SIDE), dtype=np.uint8)
    totals = np.empty(_SIDE, dtype=np.int32)
    for i in range(_SIDE):
        totals[:] = np.int32(_HALF)
        for k in range(spans[i, 1]):
            for j in range(_SIDE):
                totals[j] += narrow[spans[i, 0] + k, j] * weights[i, k]
        for j in range(_SIDE):
            out[i, j] = _to_byte(totals[j])
    return out


@kernel
def _to_byte(total: np.int32) -> np.int32:
    return min(max(total >> np.int32(_PRECISION), np.int32(0)), np.int32(255))

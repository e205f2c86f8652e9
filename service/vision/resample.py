"""Area resampling of whole photos and of many windows at once, from one summed-area table.

A window's mean costs four look-ups whatever its size, so the pyramid and all candidate crops of a
photo share one table (Crow, "Summed-area tables for texture mapping", SIGGRAPH 1984). Window
borders are those of PyTorch's `interpolate(mode="area")`, which facenet-pytorch's cascade uses:
output i averages the inputs floor(i*n/m) up to ceil((i+1)*n/m).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def summed_area_table(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Sums of all pixels above and to the left.

    Args:
        pixels: uint8 [height, width, 3].

    Returns:
        uint32 [height + 1, width + 1, 3], modulo 2**32. Differences are exact as long as one
        window sums to less than 2**32, that is below 16.8 megapixels a window.
    """
    # NumPy asks for huge pages where compiled code would get small ones, each with its own fault:
    # 2.9 instead of 7.0 ms a megapixel, and quicker look-ups.
    table = np.empty((pixels.shape[0] + 1, pixels.shape[1] + 1, 3), dtype=np.uint32)
    _fill(pixels, table)
    return table


@njit(cache=True, nogil=True)
def _fill(pixels: NDArray[np.uint8], table: NDArray[np.uint32]) -> None:
    height, width = pixels.shape[0], pixels.shape[1]
    table[0] = np.uint32(0)
    for y in range(height):
        table[y + 1, 0] = np.uint32(0)
        r = np.uint32(0)
        g = np.uint32(0)
        b = np.uint32(0)
        for x in range(width):
            r += np.uint32(pixels[y, x, 0])
            g += np.uint32(pixels[y, x, 1])
            b += np.uint32(pixels[y, x, 2])
            table[y + 1, x + 1, 0] = table[y, x + 1, 0] + r
            table[y + 1, x + 1, 1] = table[y, x + 1, 1] + g
            table[y + 1, x + 1, 2] = table[y, x + 1, 2] + b


@njit(cache=True, nogil=True)
def resample_windows(
    table: NDArray[np.uint32], windows: NDArray[np.int32], out_height: int, out_width: int
) -> NDArray[np.float32]:
    """Resample windows of a photo to one size, by area.

    Args:
        table: uint32 [height + 1, width + 1, 3], from `summed_area_table`.
        windows: int32 [n, 4], y1 x1 y2 x2 in pixels, inside the photo, not empty.
        out_height, out_width: size of each output in pixels.

    Returns:
        float32 [n, 3, out_height, out_width], 0 to 255. Means are not rounded: the cascade picks
        among near-equal boxes, and a rounded pyramid moved one face in seven enough to change its
        embedding's cosine to the reference by more than 0.01.
    """
    out = np.empty((windows.shape[0], 3, out_height, out_width), dtype=np.float32)
    for k in range(windows.shape[0]):
        _resample(table, windows[k], out_height, out_width, 0, 0, out[k])
    return out


@njit(cache=True, nogil=True)
def resample_tile(
    table: NDArray[np.uint32],
    out_height: int,
    out_width: int,
    top: int,
    left: int,
    out: NDArray[np.float32],
) -> None:
    """Resample part of the whole photo, by area.

    Args:
        table: uint32 [height + 1, width + 1, 3], from `summed_area_table`.
        out_height, out_width: size of the whole output in pixels.
        top, left: where in it the part begins.
        out: float32 [3, rows, columns], filled with the part, 0 to 255, not rounded.
    """
    window = np.array([0, 0, table.shape[0] - 1, table.shape[1] - 1], dtype=np.int32)
    _resample(table, window, out_height, out_width, top, left, out)


@njit(cache=True, nogil=True)
def resample_bytes(
    table: NDArray[np.uint32],
    out_height: int,
    out_width: int,
    top: int,
    left: int,
    out: NDArray[np.uint8],
) -> None:
    """`resample_tile`, rounded to whole numbers, pixel by pixel.

    Args:
        out: uint8 [rows, columns, 3], filled with the part.
    """
    # The loop of `_resample`, written out: with a shared function for a pixel's mean, both took
    # nearly twice as long.
    height, width = table.shape[0] - 1, table.shape[1] - 1
    columns = out.shape[1]
    starts = np.empty(columns, dtype=np.int64)
    ends = np.empty(columns, dtype=np.int64)
    for j in range(columns):
        starts[j] = (left + j) * width // out_width
        ends[j] = ((left + j + 1) * width + out_width - 1) // out_width
    for i in range(out.shape[0]):
        above = (top + i) * height // out_height
        below = ((top + i + 1) * height + out_height - 1) // out_height
        for j in range(columns):
            a, b = starts[j], ends[j]
            scale = np.float32(1.0) / np.float32((below - above) * (b - a))
            for c in range(3):
                total = np.uint32(
                    table[below, b, c]
                    - table[above, b, c]
                    - table[below, a, c]
                    + table[above, a, c]
                )
                out[i, j, c] = np.uint8(np.float32(total) * scale + np.float32(0.5))


@njit(cache=True, nogil=True)
def resample_patches(
    table: NDArray[np.uint32],
    parts: NDArray[np.int32],
    rows: int,
    columns: int,
) -> NDArray[np.float32]:
    """Parts of one size of the whole photo resampled to various sizes, by area.

    Args:
        parts: int32 [n, 4], the size of the whole output in rows and columns, and the row and
            column in it where the part begins.
        rows, columns: size of a part.

    Returns:
        float32 [n, 3, rows, columns], 0 to 255, not rounded.
    """
    out = np.empty((len(parts), 3, rows, columns), dtype=np.float32)
    window = np.array([0, 0, table.shape[0] - 1, table.shape[1] - 1], dtype=np.int32)
    for k in range(len(parts)):
        height, width, top, left = parts[k]
        _resample(table, window, height, width, top, left, out[k])
    return out


@njit(cache=True, nogil=True)
def _resample(
    table: NDArray[np.uint32],
    window: NDArray[np.int32],
    out_height: int,
    out_width: int,
    top: int,
    left: int,
    out: NDArray[np.float32],
) -> None:
    """Fill `out` with the output's pixels from `top` and `left` on."""
    y1, x1 = np.int64(window[0]), np.int64(window[1])
    height, width = np.int64(window[2]) - y1, np.int64(window[3]) - x1
    columns = out.shape[2]
    starts = np.empty(columns, dtype=np.int64)
    ends = np.empty(columns, dtype=np.int64)
    for j in range(columns):
        starts[j] = x1 + (left + j) * width // out_width
        ends[j] = x1 + ((left + j + 1) * width + out_width - 1) // out_width
    for i in range(out.shape[1]):
        above = y1 + (top + i) * height // out_height
        below = y1 + ((top + i + 1) * height + out_height - 1) // out_height
        for j in range(columns):
            a, b = starts[j], ends[j]
            scale = np.float32(1.0) / np.float32((below - above) * (b - a))
            for c in range(3):
                total = np.uint32(
                    table[below, b, c]
                    - table[above, b, c]
                    - table[below, a, c]
                    + table[above, a, c]
                )
                out[c, i, j] = np.float32(total) * scale

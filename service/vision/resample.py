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


@njit(cache=True, nogil=True)
def summed_area_table(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Sums of all pixels above and to the left.

    Args:
        pixels: uint8 [height, width, 3].

    Returns:
        uint32 [height + 1, width + 1, 3], modulo 2**32. Differences are exact as long as one
        window sums to less than 2**32, that is below 16.8 megapixels a window.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    table = np.zeros((height + 1, width + 1, 3), dtype=np.uint32)
    for y in range(height):
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
    return table


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
        float32 [n, out_height, out_width, 3], 0 to 255. Means are not rounded: the cascade picks
        among near-equal boxes, and a rounded pyramid moved one face in seven enough to change its
        embedding's cosine to the reference by more than 0.01.
    """
    n = windows.shape[0]
    out = np.empty((n, out_height, out_width, 3), dtype=np.float32)
    left = np.empty(out_width, dtype=np.int64)
    right = np.empty(out_width, dtype=np.int64)
    for k in range(n):
        y1, x1 = np.int64(windows[k, 0]), np.int64(windows[k, 1])
        height = np.int64(windows[k, 2]) - y1
        width = np.int64(windows[k, 3]) - x1
        for j in range(out_width):
            left[j] = x1 + j * width // out_width
            right[j] = x1 + ((j + 1) * width + out_width - 1) // out_width
        for i in range(out_height):
            top = y1 + i * height // out_height
            bottom = y1 + ((i + 1) * height + out_height - 1) // out_height
            for j in range(out_width):
                a, b = left[j], right[j]
                scale = np.float32(1.0) / np.float32((bottom - top) * (b - a))
                for c in range(3):
                    total = np.uint32(
                        table[bottom, b, c]
                        - table[top, b, c]
                        - table[bottom, a, c]
                        + table[top, a, c]
                    )
                    out[k, i, j, c] = np.float32(total) * scale
    return out

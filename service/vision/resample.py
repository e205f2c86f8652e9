"""Area resampling of whole photos and of many windows at once, from one summed-area table.

A window's mean costs four look-ups whatever its size, so the pyramid and all candidate crops of a
photo share one table (Crow, "Summed-area tables for texture mapping", SIGGRAPH 1984). Window
borders are those of PyTorch's `interpolate(mode="area")`, which facenet-pytorch's cascade uses:
output i averages the inputs from floor(i*n/m) to ceil((i+1)*n/m).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.vision.compiled import kernel
from service.vision.views import View


def summed_area_table(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Sums of all pixels above and to the left.

    Args:
        pixels: uint8 [height, width, 3].

    Returns:
        uint32 [height + 1, width + 1, 3], modulo 2**32. Differences are exact as long as one
        window sums to less than 2**32, that is below 16.8 megapixels a window.
    """
    # NumPy requests huge pages; compiled code would get small ones, each with a page fault:
    # 2.9 instead of 7.0 ms a megapixel, and quicker look-ups.
    table = np.empty((pixels.shape[0] + 1, pixels.shape[1] + 1, 3), dtype=np.uint32)
    _fill(pixels, table)
    return table


@kernel
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


def thinned(table: NDArray[np.uint32], pixel: int) -> NDArray[np.uint32]:
    """The table of a coarser photo, whose pixels are sums over squares of pixels.

    Args:
        table: uint32 [height + 1, width + 1, 3], as `summed_area_table` gives it.
        pixel: side of a square in pixels; incomplete squares at the right and lower edge are
            dropped.
    """
    height, width = (table.shape[0] - 1) // pixel, (table.shape[1] - 1) // pixel
    thin = np.empty((height + 1, width + 1, 3), dtype=np.uint32)
    _take_every(table, pixel, thin)
    return thin


@kernel
def _take_every(table: NDArray[np.uint32], pixel: int, out: NDArray[np.uint32]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for c in range(3):
                out[y, x, c] = table[y * pixel, x * pixel, c]


def resample_windows(
    view: View, windows: NDArray[np.int32], out_height: int, out_width: int
) -> NDArray[np.float32]:
    """Resample windows of a view to one size, by area.

    Args:
        windows: int32 [n, 4], y1 x1 y2 x2 in pixels, inside the view, not empty.
        out_height, out_width: size of each output in pixels.

    Returns:
        float32 [n, 3, out_height, out_width], 0 to 255. Means are not rounded: the cascade picks
        among near-equal boxes, and a rounded pyramid moved one face in seven enough to change its
        embedding's cosine to the reference by more than 0.01.
    """
    out = np.empty((len(windows), 3, out_height, out_width), dtype=np.float32)
    _resample_windows(view.sums, view.rows, view.columns, view.unit, windows, out)
    return out


def resample_tile(
    view: View,
    out_height: int,
    out_width: int,
    top: int,
    left: int,
    out: NDArray[np.float32],
) -> None:
    """Resample part of the whole view, by area.

    Args:
        out_height, out_width: size of the whole output in pixels.
        top, left: first row and column of the part.
        out: float32 [3, rows, columns], filled with the part, 0 to 255, not rounded.
    """
    _resample_tile(
        view.sums, view.rows, view.columns, view.unit, out_height, out_width, top, left, out
    )


def resample_patches(
    view: View, parts: NDArray[np.int32], rows: int, columns: int
) -> NDArray[np.float32]:
    """Resample the whole view to several sizes, by area, and return one part of each.

    Args:
        parts: int32 [n, 4], the size of the whole output in rows and columns, and the row and
            column in it where the part begins.
        rows, columns: size of a part.

    Returns:
        float32 [n, 3, rows, columns], 0 to 255, not rounded.
    """
    out = np.empty((len(parts), 3, rows, columns), dtype=np.float32)
    _resample_patches(view.sums, view.rows, view.columns, view.unit, parts, out)
    return out


@kernel
def _resample_windows(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
    windows: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    height, width = out.shape[2], out.shape[3]
    for k in range(windows.shape[0]):
        _resample(sums, rows, columns, unit, windows[k], height, width, 0, 0, out[k])


@kernel
def _resample_tile(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
    out_height: int,
    out_width: int,
    top: int,
    left: int,
    out: NDArray[np.float32],
) -> None:
    window = np.array([0, 0, len(rows) - 1, len(columns) - 1], dtype=np.int32)
    _resample(sums, rows, columns, unit, window, out_height, out_width, top, left, out)


@kernel
def _resample_patches(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
    parts: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    window = np.array([0, 0, len(rows) - 1, len(columns) - 1], dtype=np.int32)
    for k in range(len(parts)):
        height, width, top, left = parts[k]
        _resample(sums, rows, columns, unit, window, height, width, top, left, out[k])


@kernel
def fill_with_means(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
    window: NDArray[np.int32],
    out_height: int,
    out_width: int,
    top: int,
    left: int,
    out: NDArray[np.uint8],
) -> None:
    """Resample a window of a view, rounded to whole numbers; for the kernels of the screens.

    Args:
        unit: of the view.
        window: int32 [4], y1 x1 y2 x2 in pixels of the view.
        out_height, out_width: size of the whole output in pixels.
        top, left: first row and column of the part that is wanted.
        out: uint8 [rows, columns, 3], filled with the part.
    """
    # The loop of `_resample`, written out: with a shared function for a pixel's mean, both took
    # nearly twice as long.
    y1, x1 = np.int64(window[0]), np.int64(window[1])
    height, width = np.int64(window[2]) - y1, np.int64(window[3]) - x1
    wide = out.shape[1]
    starts = np.empty(wide, dtype=np.uint64)
    ends = np.empty(wide, dtype=np.uint64)
    counts = np.empty(wide, dtype=np.int64)
    for j in range(wide):
        start = x1 + (left + j) * width // out_width
        end = x1 + ((left + j + 1) * width + out_width - 1) // out_width
        starts[j] = min(columns[start], columns[end])
        ends[j] = max(columns[start], columns[end])
        counts[j] = end - start
    for i in range(out.shape[0]):
        first = y1 + (top + i) * height // out_height
        last = y1 + ((top + i + 1) * height + out_height - 1) // out_height
        above, below = min(rows[first], rows[last]), max(rows[first], rows[last])
        for j in range(wide):
            a, b = starts[j], ends[j]
            scale = unit / np.float32((last - first) * counts[j])
            p, q, r, s = below + b, above + b, below + a, above + a
            for color in range(3):
                c = np.uint64(color)
                total = np.uint32(sums[p + c] - sums[q + c] - sums[r + c] + sums[s + c])
                out[i, j, color] = np.uint8(np.float32(total) * scale + np.float32(0.5))


@kernel
def _resample(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
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
    wide = out.shape[2]
    starts = np.empty(wide, dtype=np.uint64)
    ends = np.empty(wide, dtype=np.uint64)
    counts = np.empty(wide, dtype=np.int64)
    for j in range(wide):
        start = x1 + (left + j) * width // out_width
        end = x1 + ((left + j + 1) * width + out_width - 1) // out_width
        starts[j] = min(columns[start], columns[end])
        ends[j] = max(columns[start], columns[end])
        counts[j] = end - start
    for i in range(out.shape[1]):
        first = y1 + (top + i) * height // out_height
        last = y1 + ((top + i + 1) * height + out_height - 1) // out_height
        above, below = min(rows[first], rows[last]), max(rows[first], rows[last])
        for j in range(wide):
            a, b = starts[j], ends[j]
            scale = unit / np.float32((last - first) * counts[j])
            p, q, r, s = below + b, above + b, below + a, above + a
            for color in range(3):
                c = np.uint64(color)
                total = np.uint32(sums[p + c] - sums[q + c] - sums[r + c] + sums[s + c])
                out[color, i, j] = np.float32(total) * scale

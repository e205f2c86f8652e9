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
from service.vision.quads import (
    load_colours,
    load_sums,
    minus,
    no_sums,
    plus,
    scaled,
    store_planes,
    store_rounded,
    store_sums,
)
from service.vision.views import View

# Numbers behind the last pixel of a table: four are read for the three colours of a pixel.
_SPARE = 1


def summed_area_table(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Sums of all pixels above and to the left.

    Args:
        pixels: uint8 [height, width, 3].

    Returns:
        uint32 [height + 1, width + 1, 3], modulo 2**32. Differences are exact as long as one
        window sums to less than 2**32, that is below 16.8 megapixels a window.
    """
    table = _new_table(pixels.shape[0], pixels.shape[1])
    _fill(pixels.reshape(-1), table.reshape(-1), pixels.shape[1])
    return table


def _new_table(height: int, width: int) -> NDArray[np.uint32]:
    """uint32 [height + 1, width + 1, 3], not initialised, with memory for a number behind it.

    NumPy requests huge pages; compiled code would get small ones, each with a page fault: 2.9
    instead of 7.0 ms a megapixel, and quicker look-ups.
    """
    size = (height + 1) * (width + 1) * 3
    whole = np.empty(size + _SPARE, dtype=np.uint32)
    return whole[:size].reshape(height + 1, width + 1, 3)


@kernel
def _fill(pixels: NDArray[np.uint8], table: NDArray[np.uint32], width: int) -> None:
    """Fill a table, flat, from pixels, flat."""
    across = 3 * (width + 1)
    table[:across] = np.uint32(0)
    for y in range(len(pixels) // (3 * width)):
        above, o = y * across, (y + 1) * across
        source = 3 * width * y
        sums = no_sums()
        # What a store leaves behind its pixel is overwritten by the next one.
        for c in range(3):
            table[o + c] = np.uint32(0)
        for x in range(width - 1):
            sums = plus(sums, load_colours(pixels, source + 3 * x))
            at = 3 * x + 3
            store_sums(table, o + at, plus(sums, load_sums(table, above + at)))
        # Behind the last pixel there is nothing to read.
        for c in range(3):
            left = table[o + across - 6 + c] - table[above + across - 6 + c]
            colour = np.uint32(pixels[source + 3 * width - 3 + c])
            table[o + across - 3 + c] = table[above + across - 3 + c] + left + colour


def thinned(table: NDArray[np.uint32], pixel: int) -> NDArray[np.uint32]:
    """The table of a coarser photo, whose pixels are sums over squares of pixels.

    Args:
        table: uint32 [height + 1, width + 1, 3], as `summed_area_table` gives it.
        pixel: side of a square in pixels; incomplete squares at the right and lower edge are
            dropped.
    """
    thin = _new_table((table.shape[0] - 1) // pixel, (table.shape[1] - 1) // pixel)
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
    _resample_windows(
        view.sums,
        view.rows,
        view.columns,
        view.unit,
        windows,
        out_height,
        out_width,
        out.reshape(-1),
    )
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
    high, wide = out.shape[1:]
    _resample_tile(
        view.sums, view.rows, view.columns, view.unit,
        out_height, out_width, top, left, high, wide, out.reshape(-1),
    )  # fmt: skip


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
    _resample_patches(
        view.sums, view.rows, view.columns, view.unit, parts, rows, columns, out.reshape(-1)
    )
    return out


@kernel
def _resample_windows(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
    windows: NDArray[np.int32],
    high: int,
    wide: int,
    out: NDArray[np.float32],
) -> None:
    down, across = np.empty((3, high), np.int64), np.empty((3, wide), np.int64)
    for k in range(len(windows)):
        y1, x1, y2, x2 = windows[k]
        _spans(rows, y1, y2 - y1, high, 0, down)
        least = _spans(columns, x1, x2 - x1, wide, 0, across)
        _fill_planes(sums, unit, down, across, least, out, k * 3 * high * wide)


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
    high: int,
    wide: int,
    out: NDArray[np.float32],
) -> None:
    down, across = np.empty((3, high), np.int64), np.empty((3, wide), np.int64)
    _spans(rows, 0, len(rows) - 1, out_height, top, down)
    least = _spans(columns, 0, len(columns) - 1, out_width, left, across)
    _fill_planes(sums, unit, down, across, least, out, 0)


@kernel
def _resample_patches(
    sums: NDArray[np.uint32],
    rows: NDArray[np.uint64],
    columns: NDArray[np.uint64],
    unit: np.float32,
    parts: NDArray[np.int32],
    high: int,
    wide: int,
    out: NDArray[np.float32],
) -> None:
    down, across = np.empty((3, high), np.int64), np.empty((3, wide), np.int64)
    for k in range(len(parts)):
        height, width, top, left = parts[k]
        _spans(rows, 0, len(rows) - 1, height, top, down)
        least = _spans(columns, 0, len(columns) - 1, width, left, across)
        _fill_planes(sums, unit, down, across, least, out, k * 3 * high * wide)


@kernel
def _spans(
    places: NDArray[np.uint64],
    begin: int,
    count: int,
    parts: int,
    left: int,
    out: NDArray[np.int64],
) -> int:
    """Fill in where parts of a stretch of rows or columns begin and end, and how many each has.

    Args:
        places: offsets of the view's rows or columns.
        begin, count: the stretch: so many of them from `begin` on, cut into `parts`.
        left: the first part that is wanted.
        out: int64 [3, n]: the smaller offset of the ends of n parts, the larger one, and how many
            rows or columns are between them.

    Returns:
        The smallest such number that is possible; the others are larger by one.
    """
    # Part i begins at floor(i * count / parts); the next ones follow without a division.
    first, rest = left * count // parts, left * count % parts
    step, more = count // parts, count % parts
    for n in range(out.shape[1]):
        following, rest = first + step, rest + more
        if rest >= parts:
            following, rest = following + 1, rest - parts
        end = following + int(rest > 0)
        one, other = np.int64(places[begin + first]), np.int64(places[begin + end])
        out[0, n], out[1, n] = min(one, other), max(one, other)
        out[2, n] = end - first
        first = following
    return step + int(more > 0)


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
    high: int,
    wide: int,
    out: NDArray[np.uint8],
) -> None:
    """Resample a window of a view, rounded to whole numbers; for the kernels of the screens.

    Args:
        unit: of the view.
        window: int32 [4], y1 x1 y2 x2 in pixels of the view.
        out_height, out_width: size of the whole output in pixels.
        top, left: first row and column of the part that is wanted.
        high, wide: its size in pixels.
        out: uint8 [3 * high * wide + 1 or more], filled with the part.
    """
    down, across = np.empty((3, high), np.int64), np.empty((3, wide), np.int64)
    y1, x1, y2, x2 = window
    _spans(rows, y1, y2 - y1, out_height, top, down)
    least = _spans(columns, x1, x2 - x1, out_width, left, across)
    starts, ends, counts = across
    o = 0
    for i in range(high):
        above, below = down[0, i], down[1, i]
        scale = unit / np.float32(down[2, i] * least)
        smaller = unit / np.float32(down[2, i] * (least + 1))
        for j in range(wide):
            a, b = starts[j], ends[j]
            right = minus(load_sums(sums, below + b), load_sums(sums, above + b))
            left_sums = minus(load_sums(sums, below + a), load_sums(sums, above + a))
            mean = scaled(minus(right, left_sums), scale if counts[j] == least else smaller)
            store_rounded(out, o, mean)
            o += 3


@kernel
def _fill_planes(
    sums: NDArray[np.uint32],
    unit: np.float32,
    down: NDArray[np.int64],
    across: NDArray[np.int64],
    least: int,
    out: NDArray[np.float32],
    at: int,
) -> None:
    """Fill three planes in `out`, flat, from the element `at` on.

    Args:
        down, across, least: of `_spans`.
    """
    starts, ends, counts = across
    high, wide = down.shape[1], across.shape[1]
    for i in range(high):
        above, below = down[0, i], down[1, i]
        scale = unit / np.float32(down[2, i] * least)
        smaller = unit / np.float32(down[2, i] * (least + 1))
        for j in range(wide):
            a, b = starts[j], ends[j]
            right = minus(load_sums(sums, below + b), load_sums(sums, above + b))
            left_sums = minus(load_sums(sums, below + a), load_sums(sums, above + a))
            mean = scaled(minus(right, left_sums), scale if counts[j] == least else smaller)
            store_planes(out, at + i * wide + j, high * wide, mean)

"""An eight-bit P-Net that selects the cells for the exact P-Net.

Of a thousand cells of a photo 995 are far below the threshold. This network
has P-Net's own weights as signed bytes and its activations as bytes, so that a processor with
AVX512-VNNI does four products at once; its logit is off by a quarter on average. A cell below the
threshold by more than a margin is dropped; P-Net itself computes all others, in float32, so every
result is P-Net's own value. The manifest states the margin and its measurement.

The arithmetic: Jacob et al., https://arxiv.org/abs/1712.05877. PReLU is max(x, a x), which holds
for slopes up to 1 (one of P-Net's is 1.01, which is within the margin), and is taken behind the
pool, as in the exported graph: channels 10 to 15 of the first convolution are those with a negative
slope, times it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from service.vision.compiled import kernel
from service.vision.resample import fill_with_means
from service.vision.screening import SPARE_BYTES, Buffers, Margin
from service.vision.vectors import (
    add,
    as_real,
    dot,
    four_bytes,
    lanes,
    load_real,
    load_whole,
    max_int,
    max_real,
    mul,
    store_bytes,
    total,
)
from service.vision.views import View

# Padding behind the last column, in cells.
_SPARE_CELLS = 8
_CHANNELS = 16


@dataclass(frozen=True, slots=True, eq=False)
class ScreenWeights:
    """The weights of the network in the layout of the kernel: vectors of sixteen values.

    Weights are int32 that each hold four signed bytes: weights1 [9 * 16] over rows of three RGB
    pixels and three zeros, weights2 [27 * 16] over twelve channels of nine cells, weights3
    [36 * 32] over sixteen channels. bias1..3: int32 in units of the products. scale1, scale2:
    float32 [32], sixteen factors and sixteen offsets to the next layer's bytes; scale3 [32].
    order, slope1: which lane, times what, is the other side of the first PReLU; slope2 [16],
    slope3 [32]. head: float32 [33], the logit's weights and its bias.
    """

    weights1: NDArray[np.int32]
    bias1: NDArray[np.int32]
    scale1: NDArray[np.float32]
    order: NDArray[np.int32]
    slope1: NDArray[np.float32]
    weights2: NDArray[np.int32]
    bias2: NDArray[np.int32]
    scale2: NDArray[np.float32]
    slope2: NDArray[np.float32]
    weights3: NDArray[np.int32]
    bias3: NDArray[np.int32]
    scale3: NDArray[np.float32]
    slope3: NDArray[np.float32]
    head: NDArray[np.float32]


class Screen:
    """The network, for tiles of 12 x 12 pixels and more; safe to call from several threads.

    Args:
        margin: cells within it are kept.
    """

    def __init__(self, weights: ScreenWeights, margin: Margin) -> None:
        self._weights = (
            *(getattr(weights, field.name) for field in fields(weights)),
            _shifted(weights.weights1),
        )
        self.margin = margin
        self._buffers = Buffers()

    def places(
        self, view: View, tiles: NDArray[np.int32], limits: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The cells that P-Net has to compute, in one call of compiled code.

        Args:
            tiles: int32 [n, 6], rows and columns of a whole level, and where the tile begins and
                ends in it: top, bottom, left, right.
            limits: int64 [n], the largest number of cells of each tile.

        Returns:
            places: int32 [m, 3], tile, row and column in the tile's output.
            crowded: bool [n], whether a tile has more cells than its limit. None of them is
                among the places.
        """
        sides = tiles[:, 3::2] - tiles[:, 2::2]
        buffers = self._scratch(int(sides[:, 0].max()), int(sides[:, 1].max()))
        places = np.empty((int(limits.sum()), 3), dtype=np.int32)
        crowded = np.zeros(len(tiles), dtype=np.bool_)
        count = _scan(  # type: ignore[no-untyped-call]
            view.sums, view.rows, view.columns, view.unit, tiles, limits, self.margin.least(),
            self._weights, *buffers, places, crowded,
        )  # fmt: skip
        return places[:count], crowded

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits of a tile, uint8 [h, w, 3]: float32 [rows, columns] in P-Net's output."""
        rows, columns = pixels.shape[:2]
        source, first, second, out = self._scratch(rows, columns)
        source[: pixels.size] = pixels.reshape(-1)
        width = _width(columns)
        _run(  # type: ignore[no-untyped-call]
            source, rows, columns, self._weights, first, second, out
        )
        found = out[: ((rows - 1) // 2 - 4) * width].reshape(-1, width)
        return found[:, : (columns - 1) // 2 - 4].copy()

    def _scratch(
        self, rows: int, columns: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        """Pixels, two layers of activations and logits, for tiles of that size or smaller."""
        cells = ((rows - 1) // 2 + 1) * _width(columns)
        return (
            self._buffers.bytes("pixels", rows * columns * 3 + SPARE_BYTES),
            self._buffers.bytes("first", cells * _CHANNELS),
            self._buffers.bytes("second", cells * _CHANNELS),
            self._buffers.bytes("out", cells * 4).view(np.float32),
        )


def _shifted(weights1: NDArray[np.int32]) -> NDArray[np.int32]:
    """The first weights of rows of pixels that begin with one pixel more: int32 [9 * 16].

    Of each row's twelve bytes nine are weights; they move three bytes on.
    """
    rows = weights1.reshape(3, 3, 16).transpose(0, 2, 1)
    moved = np.roll(np.ascontiguousarray(rows).view(np.int8).reshape(3, 16, 12), 3, axis=2)
    words = np.ascontiguousarray(moved).view(np.int32).reshape(3, 16, 3)
    return np.ascontiguousarray(words.transpose(0, 2, 1)).reshape(-1)


@kernel
def _width(columns: int) -> int:
    """Cells of a row in the buffers of a tile with so many columns of pixels."""
    return (columns - 1) // 2 + _SPARE_CELLS


@kernel
def _scan(  # type: ignore[no-untyped-def]
    sums, rows, columns, unit, tiles, limits, least,
    weights, pixels, first, second, out, places, crowded,
):  # fmt: skip
    """Fill `places` and `crowded`; returns the number of places."""
    count = 0
    whole = np.array([0, 0, len(rows) - 1, len(columns) - 1], dtype=np.int32)
    for tile in range(len(tiles)):
        level_rows, level_columns, top, bottom, left, right = tiles[tile]
        high, wide = bottom - top, right - left
        fill_with_means(
            sums, rows, columns, unit, whole, level_rows, level_columns, top, left, high, wide,
            pixels,
        )  # fmt: skip
        _run(  # type: ignore[no-untyped-call]
            pixels, high, wide, weights, first, second, out
        )
        cells_down, cells_across = (high - 1) // 2 - 4, (wide - 1) // 2 - 4
        width = _width(wide)
        logits = out[: cells_down * width].reshape((cells_down, width))
        found = 0
        for row in range(cells_down):
            for column in range(cells_across):
                # No branch, so that this compiles to vector instructions: few cells pass.
                found += int(logits[row, column] >= least)
        if found > limits[tile]:
            crowded[tile] = True
        elif found:
            for row in range(cells_down):
                for column in range(cells_across):
                    if logits[row, column] >= least:
                        places[count, 0] = tile
                        places[count, 1] = row
                        places[count, 2] = column
                        count += 1
    return count


@kernel
def _run(pixels, rows, columns, weights, first, second, out):  # type: ignore[no-untyped-def]
    """Fill `out`; `_width` cells a row in `first`, `second` and `out`, sixteen bytes a cell."""
    (
        weights1, bias1, scale1, order, slope1,
        weights2, bias2, scale2, slope2,
        weights3, bias3, scale3, slope3, head, shifted1,
    ) = weights  # fmt: skip
    width = _width(columns)
    pooled_rows, pooled_columns = (rows - 1) // 2, (columns - 1) // 2
    stride = 3 * columns
    # The weights of the first convolution stay in registers: those for the left corners of a pool
    # window, and the same one pixel on.
    a0, a1, a2 = load_whole(weights1, 0), load_whole(weights1, 16), load_whole(weights1, 32)
    a3, a4, a5 = load_whole(weights1, 48), load_whole(weights1, 64), load_whole(weights1, 80)
    a6, a7, a8 = load_whole(weights1, 96), load_whole(weights1, 112), load_whole(weights1, 128)
    b0, b1, b2 = load_whole(shifted1, 0), load_whole(shifted1, 16), load_whole(shifted1, 32)
    b3, b4, b5 = load_whole(shifted1, 48), load_whole(shifted1, 64), load_whole(shifted1, 80)
    b6, b7, b8 = load_whole(shifted1, 96), load_whole(shifted1, 112), load_whole(shifted1, 128)
    bias, scale, offset = load_whole(bias1, 0), load_real(scale1, 0), load_real(scale1, 16)
    other, slope = load_whole(order, 0), load_real(slope1, 0)
    for i in range(pooled_rows):
        # A pool window that crosses the edge has its inner half twice.
        is_whole = 2 * i + 4 <= rows
        for j in range(pooled_columns):
            o = 2 * i * stride + 6 * j
            p, q, r = four_bytes(pixels, o), four_bytes(pixels, o + 4), four_bytes(pixels, o + 8)
            x = dot(dot(dot(bias, p, a0), q, a1), r, a2)
            y = dot(dot(dot(bias, p, b0), q, b1), r, b2)
            o += stride
            p, q, r = four_bytes(pixels, o), four_bytes(pixels, o + 4), four_bytes(pixels, o + 8)
            x, z = dot(dot(dot(x, p, a3), q, a4), r, a5), dot(dot(dot(bias, p, a0), q, a1), r, a2)
            y, v = dot(dot(dot(y, p, b3), q, b4), r, b5), dot(dot(dot(bias, p, b0), q, b1), r, b2)
            o += stride
            p, q, r = four_bytes(pixels, o), four_bytes(pixels, o + 4), four_bytes(pixels, o + 8)
            x, z = dot(dot(dot(x, p, a6), q, a7), r, a8), dot(dot(dot(z, p, a3), q, a4), r, a5)
            y, v = dot(dot(dot(y, p, b6), q, b7), r, b8), dot(dot(dot(v, p, b3), q, b4), r, b5)
            if is_whole:
                o += stride
                p, q = four_bytes(pixels, o), four_bytes(pixels, o + 4)
                r = four_bytes(pixels, o + 8)
                z = dot(dot(dot(z, p, a6), q, a7), r, a8)
                v = dot(dot(dot(v, p, b6), q, b7), r, b8)
                x, y = max_int(x, z), max_int(y, v)
            if 2 * j + 4 <= columns:
                x = max_int(x, y)
            real = mul(as_real(x), scale)
            real = max_real(real, mul(lanes(real, other), slope))
            store_bytes(first, (i * width + j) * 16, add(real, offset))
    bias, scale, offset = load_whole(bias2, 0), load_real(scale2, 0), load_real(scale2, 16)
    slope = load_real(slope2, 0)
    # Eight cells at a time, as each product waits for the one before it of the same cell; the last
    # group may extend into the padding.
    for i in range(pooled_rows - 2):
        for j in range(0, pooled_columns - 2, 8):
            x0, x1, x2, x3, x4, x5, x6, x7 = bias, bias, bias, bias, bias, bias, bias, bias
            w = 0
            for row in range(3):
                for column in range(3):
                    o = ((i + row) * width + j + column) * 16
                    for _ in range(3):
                        weight = load_whole(weights2, w)
                        x0 = dot(x0, four_bytes(first, o), weight)
                        x1 = dot(x1, four_bytes(first, o + 16), weight)
                        x2 = dot(x2, four_bytes(first, o + 32), weight)
                        x3 = dot(x3, four_bytes(first, o + 48), weight)
                        x4 = dot(x4, four_bytes(first, o + 64), weight)
                        x5 = dot(x5, four_bytes(first, o + 80), weight)
                        x6 = dot(x6, four_bytes(first, o + 96), weight)
                        x7 = dot(x7, four_bytes(first, o + 112), weight)
                        w += 16
                        o += 4
            for cell in range(8):
                low = x0 if cell == 0 else x1 if cell == 1 else x2 if cell == 2 else x3
                high = x4 if cell == 4 else x5 if cell == 5 else x6 if cell == 6 else x7
                y = mul(as_real(low if cell < 4 else high), scale)
                y = add(max_real(y, mul(y, slope)), offset)
                store_bytes(second, (i * width + j + cell) * 16, y)
    low_bias, high_bias = load_whole(bias3, 0), load_whole(bias3, 16)
    low_scale, high_scale = load_real(scale3, 0), load_real(scale3, 16)
    low_slope, high_slope = load_real(slope3, 0), load_real(slope3, 16)
    low_head, high_head = load_real(head, 0), load_real(head, 16)
    for i in range(pooled_rows - 4):
        for j in range(0, pooled_columns - 4, 8):
            x0, x1, x2, x3 = low_bias, low_bias, low_bias, low_bias
            x4, x5, x6, x7 = low_bias, low_bias, low_bias, low_bias
            z0, z1, z2, z3 = high_bias, high_bias, high_bias, high_bias
            z4, z5, z6, z7 = high_bias, high_bias, high_bias, high_bias
            w = 0
            for row in range(3):
                for column in range(3):
                    o = ((i + row) * width + j + column) * 16
                    for _ in range(4):
                        low, high = load_whole(weights3, w), load_whole(weights3, w + 16)
                        four = four_bytes(second, o)
                        x0, z0 = dot(x0, four, low), dot(z0, four, high)
                        four = four_bytes(second, o + 16)
                        x1, z1 = dot(x1, four, low), dot(z1, four, high)
                        four = four_bytes(second, o + 32)
                        x2, z2 = dot(x2, four, low), dot(z2, four, high)
                        four = four_bytes(second, o + 48)
                        x3, z3 = dot(x3, four, low), dot(z3, four, high)
                        four = four_bytes(second, o + 64)
                        x4, z4 = dot(x4, four, low), dot(z4, four, high)
                        four = four_bytes(second, o + 80)
                        x5, z5 = dot(x5, four, low), dot(z5, four, high)
                        four = four_bytes(second, o + 96)
                        x6, z6 = dot(x6, four, low), dot(z6, four, high)
                        four = four_bytes(second, o + 112)
                        x7, z7 = dot(x7, four, low), dot(z7, four, high)
                        w += 32
                        o += 4
            for cell in range(8):
                if cell < 4:
                    x = x0 if cell == 0 else x1 if cell == 1 else x2 if cell == 2 else x3
                    z = z0 if cell == 0 else z1 if cell == 1 else z2 if cell == 2 else z3
                else:
                    x = x4 if cell == 4 else x5 if cell == 5 else x6 if cell == 6 else x7
                    z = z4 if cell == 4 else z5 if cell == 5 else z6 if cell == 6 else z7
                y = mul(as_real(x), low_scale)
                v = mul(as_real(z), high_scale)
                y = mul(max_real(y, mul(y, low_slope)), low_head)
                v = mul(max_real(v, mul(v, high_slope)), high_head)
                out[i * width + j + cell] = head[32] + total(add(y, v))

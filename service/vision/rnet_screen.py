"""An eight-bit R-Net that selects the crops for the exact R-Net.

Of ten crops that P-Net proposes eight are far below the threshold. This network is to R-Net what
`service.vision.screen` is to P-Net: R-Net's own weights as signed bytes, its activations as bytes.
A crop below the threshold by more than a margin is dropped; R-Net itself judges all others, in
float32, so every result is R-Net's own value.

Pooling takes the bytes behind a PReLU, whose order is that of the values.
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
    load_bytes,
    load_real,
    load_whole,
    max_bytes,
    mul,
    prelu,
    store_bytes,
    store_same,
    total,
)
from service.vision.views import View

SIDE = 24
"""Of a crop, in pixels."""

_Bytes = NDArray[np.uint8]
_Whole = NDArray[np.int32]
_Real = NDArray[np.float32]

_CROP_BYTES = 3 * SIDE * SIDE
# Sides of the activations: convolution, pool, convolution, pool, convolution.
_CONV1, _POOL1, _CONV2, _POOL2, _CONV3 = 22, 11, 9, 4, 3


@dataclass(frozen=True, slots=True, eq=False)
class RnetScreenWeights:
    """The weights in the layout of the kernel: vectors of sixteen values.

    Weights are int32 that each hold four signed bytes: weights1 [9 * 32] over rows of three RGB
    pixels and three zeros, weights2 [63 * 48] over 28 channels of nine cells, weights3 [48 * 64]
    over 48 channels of four cells, weights4 [144 * 128] over 64 channels of nine cells. bias1..4:
    int32 in units of the products. scale1..3: float32, a factor for each channel, then an offset to
    the next layer's byte for each; scale4: factors alone. slope1..4: float32, of the PReLUs.
    head: float32 [129], the logit's weights and its bias.
    """

    weights1: NDArray[np.int32]
    bias1: NDArray[np.int32]
    scale1: NDArray[np.float32]
    slope1: NDArray[np.float32]
    weights2: NDArray[np.int32]
    bias2: NDArray[np.int32]
    scale2: NDArray[np.float32]
    slope2: NDArray[np.float32]
    weights3: NDArray[np.int32]
    bias3: NDArray[np.int32]
    scale3: NDArray[np.float32]
    slope3: NDArray[np.float32]
    weights4: NDArray[np.int32]
    bias4: NDArray[np.int32]
    scale4: NDArray[np.float32]
    slope4: NDArray[np.float32]
    head: NDArray[np.float32]


class RnetScreen:
    """The network; safe to call from several threads.

    Args:
        margin: crops within it are kept.
    """

    def __init__(self, weights: RnetScreenWeights, margin: Margin) -> None:
        self._weights = tuple(getattr(weights, field.name) for field in fields(weights))
        self.margin = margin
        self._buffers = Buffers()

    def may_pass(self, view: View, windows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether R-Net has to judge each window, in one call of compiled code: bool [n].

        Args:
            windows: int32 [n, 4], y1 x1 y2 x2 in pixels, inside the view, not empty.
        """
        return np.asarray(self.logits(view, windows) >= self.margin.least())

    def logits(self, view: View, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        """The logit of each window: float32 [n]."""
        out = np.empty(len(windows), dtype=np.float32)
        _run(  # type: ignore[no-untyped-call]
            view.sums, view.rows, view.columns, view.unit, windows, self._weights,
            self._buffers.bytes("pixels", _CROP_BYTES + SPARE_BYTES),
            self._buffers.bytes("cells", _CONV1 * _CONV1 * 32),
            self._buffers.bytes("pooled", _POOL1 * _POOL1 * 32), out,
        )  # fmt: skip
        return out


@kernel
def _run(  # type: ignore[no-untyped-def]
    sums, rows, columns, unit, windows, weights, pixels, cells, pooled, out
):  # fmt: skip
    (
        weights1, bias1, scale1, slope1, weights2, bias2, scale2, slope2,
        weights3, bias3, scale3, slope3, weights4, bias4, scale4, slope4, head,
    ) = weights  # fmt: skip
    for n in range(len(windows)):
        fill_with_means(sums, rows, columns, unit, windows[n], SIDE, SIDE, 0, 0, SIDE, SIDE, pixels)
        _first(pixels, weights1, bias1, scale1, slope1, cells)
        _pool(cells, _CONV1, pooled, _POOL1, 32)
        _second(pooled, weights2, bias2, scale2, slope2, cells)
        _pool(cells, _CONV2, pooled, _POOL2, 48)
        _third(pooled, weights3, bias3, scale3, slope3, cells)
        out[n] = _last(cells, weights4, bias4, scale4, slope4, head)


@kernel
def _pool(source: _Bytes, side: int, out: _Bytes, out_side: int, channels: int) -> None:
    """The maxima of windows of 3 x 3 cells, two apart; the last ones may end at the edge."""
    for i in range(out_side):
        bottom = min(2 * i + 3, side)
        for j in range(out_side):
            right = min(2 * j + 3, side)
            for channel in range(0, channels, 16):
                best = load_bytes(source, (2 * i * side + 2 * j) * channels + channel)
                for row in range(2 * i, bottom):
                    for column in range(2 * j, right):
                        o = (row * side + column) * channels + channel
                        best = max_bytes(best, load_bytes(source, o))
                store_same(out, (i * out_side + j) * channels + channel, best)


@kernel
def _first(
    pixels: _Bytes, weights: _Whole, bias: _Whole, scale: _Real, slope: _Real, out: _Bytes
) -> None:
    low_bias, high_bias = load_whole(bias, 0), load_whole(bias, 16)
    low_scale, high_scale = load_real(scale, 0), load_real(scale, 16)
    low_offset, high_offset = load_real(scale, 32), load_real(scale, 48)
    low_slope, high_slope = load_real(slope, 0), load_real(slope, 16)
    # The weights stay in registers.
    a0, b0 = load_whole(weights, 0), load_whole(weights, 16)
    a1, b1 = load_whole(weights, 32), load_whole(weights, 48)
    a2, b2 = load_whole(weights, 64), load_whole(weights, 80)
    a3, b3 = load_whole(weights, 96), load_whole(weights, 112)
    a4, b4 = load_whole(weights, 128), load_whole(weights, 144)
    a5, b5 = load_whole(weights, 160), load_whole(weights, 176)
    a6, b6 = load_whole(weights, 192), load_whole(weights, 208)
    a7, b7 = load_whole(weights, 224), load_whole(weights, 240)
    a8, b8 = load_whole(weights, 256), load_whole(weights, 272)
    for i in range(_CONV1):
        for j in range(_CONV1):
            o = 3 * (SIDE * i + j)
            four = four_bytes(pixels, o)
            x, z = dot(low_bias, four, a0), dot(high_bias, four, b0)
            four = four_bytes(pixels, o + 4)
            x, z = dot(x, four, a1), dot(z, four, b1)
            four = four_bytes(pixels, o + 8)
            x, z = dot(x, four, a2), dot(z, four, b2)
            o += 3 * SIDE
            four = four_bytes(pixels, o)
            x, z = dot(x, four, a3), dot(z, four, b3)
            four = four_bytes(pixels, o + 4)
            x, z = dot(x, four, a4), dot(z, four, b4)
            four = four_bytes(pixels, o + 8)
            x, z = dot(x, four, a5), dot(z, four, b5)
            o += 3 * SIDE
            four = four_bytes(pixels, o)
            x, z = dot(x, four, a6), dot(z, four, b6)
            four = four_bytes(pixels, o + 4)
            x, z = dot(x, four, a7), dot(z, four, b7)
            four = four_bytes(pixels, o + 8)
            x, z = dot(x, four, a8), dot(z, four, b8)
            o = (i * _CONV1 + j) * 32
            y = prelu(mul(as_real(x), low_scale), low_slope)
            store_bytes(out, o, add(y, low_offset))
            y = prelu(mul(as_real(z), high_scale), high_slope)
            store_bytes(out, o + 16, add(y, high_offset))


@kernel
def _second(
    source: _Bytes, weights: _Whole, bias: _Whole, scale: _Real, slope: _Real, out: _Bytes
) -> None:
    b0, b1, b2 = load_whole(bias, 0), load_whole(bias, 16), load_whole(bias, 32)
    for i in range(_CONV2):
        for j in range(0, _CONV2, 3):
            # Three cells, three vectors each.
            x0, x1, x2, y0, y1, y2, z0, z1, z2 = b0, b1, b2, b0, b1, b2, b0, b1, b2
            w = 0
            for row in range(3):
                for column in range(3):
                    o = ((i + row) * _POOL1 + j + column) * 32
                    for _ in range(7):
                        w0, w1 = load_whole(weights, w), load_whole(weights, w + 16)
                        w2 = load_whole(weights, w + 32)
                        four = four_bytes(source, o)
                        x0, x1, x2 = dot(x0, four, w0), dot(x1, four, w1), dot(x2, four, w2)
                        four = four_bytes(source, o + 32)
                        y0, y1, y2 = dot(y0, four, w0), dot(y1, four, w1), dot(y2, four, w2)
                        four = four_bytes(source, o + 64)
                        z0, z1, z2 = dot(z0, four, w0), dot(z1, four, w1), dot(z2, four, w2)
                        w += 48
                        o += 4
            o = (i * _CONV2 + j) * 48
            for cell in range(3):
                for part in range(3):
                    if part == 0:
                        whole = x0 if cell == 0 else y0 if cell == 1 else z0
                    elif part == 1:
                        whole = x1 if cell == 0 else y1 if cell == 1 else z1
                    else:
                        whole = x2 if cell == 0 else y2 if cell == 1 else z2
                    real = mul(as_real(whole), load_real(scale, 16 * part))
                    real = prelu(real, load_real(slope, 16 * part))
                    store_bytes(out, o, add(real, load_real(scale, 48 + 16 * part)))
                    o += 16


@kernel
def _third(
    source: _Bytes, weights: _Whole, bias: _Whole, scale: _Real, slope: _Real, out: _Bytes
) -> None:
    for i in range(_CONV3):
        for j in range(_CONV3):
            x0, x1 = load_whole(bias, 0), load_whole(bias, 16)
            x2, x3 = load_whole(bias, 32), load_whole(bias, 48)
            w = 0
            for row in range(2):
                o = ((i + row) * _POOL2 + j) * 48
                for _ in range(24):
                    four = four_bytes(source, o)
                    x0 = dot(x0, four, load_whole(weights, w))
                    x1 = dot(x1, four, load_whole(weights, w + 16))
                    x2 = dot(x2, four, load_whole(weights, w + 32))
                    x3 = dot(x3, four, load_whole(weights, w + 48))
                    w += 64
                    o += 4
            o = (i * _CONV3 + j) * 64
            for part in range(4):
                whole = x0 if part == 0 else x1 if part == 1 else x2 if part == 2 else x3
                real = mul(as_real(whole), load_real(scale, 16 * part))
                real = prelu(real, load_real(slope, 16 * part))
                store_bytes(out, o, add(real, load_real(scale, 64 + 16 * part)))
                o += 16


@kernel
def _last(
    source: _Bytes, weights: _Whole, bias: _Whole, scale: _Real, slope: _Real, head: _Real
) -> np.float32:
    logit: np.float32 = head[128]
    # Four vectors at a time.
    for half in range(0, 128, 64):
        x0, x1 = load_whole(bias, half), load_whole(bias, half + 16)
        x2, x3 = load_whole(bias, half + 32), load_whole(bias, half + 48)
        w = half
        for word in range(144):
            four = four_bytes(source, 4 * word)
            x0 = dot(x0, four, load_whole(weights, w))
            x1 = dot(x1, four, load_whole(weights, w + 16))
            x2 = dot(x2, four, load_whole(weights, w + 32))
            x3 = dot(x3, four, load_whole(weights, w + 48))
            w += 128
        for part in range(4):
            whole = x0 if part == 0 else x1 if part == 1 else x2 if part == 2 else x3
            o = half + 16 * part
            real = prelu(mul(as_real(whole), load_real(scale, o)), load_real(slope, o))
            logit += total(mul(real, load_real(head, o)))
    return logit

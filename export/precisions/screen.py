"""P-Net in eight bits, which selects the cells for P-Net itself.

`service/vision/screen.py` explains and runs it. The cells that it leaves out of real photos are
counted here by the same integer arithmetic in PyTorch, so that the counts do not depend on the
processor of the export.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from export.graphs.fold import PIXEL_MEAN, PIXEL_SCALE, standardise
from export.precisions.eight_bits import (
    as_bytes,
    column,
    filled,
    floats,
    grids,
    numbers,
    rounded,
    slopes,
    unpacked,
    whole_numbers,
    words,
)
from export.verification.photos import Album
from service.runtime.manifest import ScreenSpec
from service.vision.screen import ScreenWeights

# Smallest and largest value of each channel behind the first pool and behind the second PReLU, over
# the pyramids of 60 photos; a little is cut off, since the extremes are rare and far from any face.
_FIRST = (
    (0.0, 0.0, -2.8, -2.8, 0.0, -2.0, 0.0, -1.9, 0.0, 0.0),
    (6.7, 7.7, 4.1, 7.8, 8.8, 9.7, 7.4, 11.1, 9.7, 6.0),
)
_SECOND = (
    (-1.6, -3.5, -4.6, -1.0, -3.6, -8.6, -6.3, -8.2, -6.2, 0.0, -4.9, -3.0, 0.0, 0.0, 0.0, 0.0),
    (10.6, 6.7, 7.5, 13.1, 7.4, 12.8, 7.1, 5.8, 12.8, 12.5, 13.0, 10.9, 12.5, 12.5, 13.9, 8.1),
)
_KEPT = 0.9
_MARGIN = 1.0  # in logits
_THRESHOLD = 0.6
# Result of `measure` on the reference photographs for the file with this hash: an export without
# photographs can offer that file. A file with other bytes has to be measured.
_RECORDED = ScreenSpec(
    file="pnet-screen.npz",
    sha256="a78d801882ac3cf5f839607e2fe659db01024a750cb684f3f2eb10263756e6a0",
    margin=_MARGIN,
    threshold=_THRESHOLD,
    cells=896816,
    passing_cells=1660,
    looked_at=4519,
    worst_shortfall=0.4224,
    inputs="recorded: 24 photographs, longer side up to 720 px, two levels each",
)
_PHOTOS = 24
_LONG_SIDE = 720
_SCALES = (0.6, 0.3)


def quantize(network: nn.Module) -> ScreenWeights:
    """The screen of facenet-pytorch's P-Net."""
    weight, bias = numbers(network, "conv1")
    weight = weight / PIXEL_SCALE
    slope = slopes(network, "prelu1")
    bent = np.flatnonzero(slope < 0)
    channels, wide = len(slope), 16
    assert channels + len(bent) <= wide
    weight = filled(np.concatenate([weight, weight[bent] * slope[bent, None, None, None]]), wide)
    bias = filled(np.concatenate([bias, bias[bent] * slope[bent]]), wide)
    order, slope1 = np.arange(wide), np.ones(wide)
    slope1[:channels] = np.where(slope < 0, 1, slope)
    order[bent] = channels + np.arange(len(bent))
    (step1, zero1), (step2, zero2) = (grids(*_KEPT * np.array(ends)) for ends in (_FIRST, _SECOND))
    whole1, scale1 = whole_numbers(weight)
    # The mean of the standardisation times the rounded weights.
    bias = bias - PIXEL_MEAN * scale1 * whole1.sum((1, 2, 3))
    # A row of three RGB pixels is nine bytes; three zeros make it three words.
    rows = np.zeros((wide, 3, 12))
    rows[:, :, :9] = whole1.transpose(0, 2, 3, 1).reshape(wide, 3, 9)
    # The step of each channel is folded into the next weights: a grid a channel costs nothing.
    weight2, bias2 = numbers(network, "conv2")
    whole2, scale2 = whole_numbers(weight2 * step1[:, None, None])
    cells = np.zeros((wide, 3, 3, 12))
    cells[..., :channels] = whole2.transpose(0, 2, 3, 1)
    weight3, bias3 = numbers(network, "conv3")
    whole3, scale3 = whole_numbers(weight3 * step2[:, None, None])
    classes, class_bias = numbers(network, "conv4_1")
    head = np.append(classes[1, :, 0, 0] - classes[0, :, 0, 0], class_bias[1] - class_bias[0])
    return ScreenWeights(
        weights1=words(rows),
        bias1=rounded(bias / scale1),
        # The second channel of a PReLU is on the grid of the channel that it is compared with.
        scale1=floats(
            [
                *(scale1 / filled(np.concatenate([step1, step1[bent]]), wide, 1.0)),
                *(filled(zero1, wide) + 0.5),
            ]
        ),
        order=order.astype(np.int32),
        slope1=floats(slope1),
        weights2=words(cells),
        bias2=rounded(bias2 / scale2 - (whole2 * zero1[:, None, None]).sum((1, 2, 3))),
        scale2=floats([*(scale2 / step2), *(zero2 + 0.5)]),
        slope2=floats(slopes(network, "prelu2")),
        weights3=words(whole3.transpose(0, 2, 3, 1)),
        bias3=rounded(bias3 / scale3 - (whole3 * zero2[:, None, None]).sum((1, 2, 3))),
        scale3=floats(scale3),
        slope3=floats(slopes(network, "prelu3")),
        head=floats(head),
    )


def emulate(weights: ScreenWeights, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits of the kernel, by convolutions of integers in float64, which is exact.

    pixels: uint8 [h, w, 3], sides of 12 or more -> float32 [rows, columns].
    """
    image = torch.from_numpy(pixels.astype(np.float64)).permute(2, 0, 1)[None]
    rows = unpacked(weights.weights1, 16).reshape(16, 3, 12)[:, :, :9].reshape(16, 3, 3, 3)
    x = conv2d(image, torch.from_numpy(rows).permute(0, 3, 1, 2)) + column(weights.bias1)
    y = max_pool2d(x, 2, 2, ceil_mode=True) * column(weights.scale1[:16])
    y = torch.maximum(y, y[:, torch.from_numpy(weights.order).long()] * column(weights.slope1))
    x = as_bytes(y + column(weights.scale1[16:]))
    kernel = torch.from_numpy(unpacked(weights.weights2, 16).reshape(16, 3, 3, 12))
    x = conv2d(x[:, :12], kernel.permute(0, 3, 1, 2)) + column(weights.bias2)
    y = x * column(weights.scale2[:16])
    x = as_bytes(torch.maximum(y, y * column(weights.slope2)) + column(weights.scale2[16:]))
    kernel = torch.from_numpy(unpacked(weights.weights3, 32).reshape(32, 3, 3, 16))
    y = (conv2d(x, kernel.permute(0, 3, 1, 2)) + column(weights.bias3)) * column(weights.scale3)
    y = torch.maximum(y, y * column(weights.slope3)) * column(weights.head[:32])
    logits: NDArray[np.float32] = (y.sum(1)[0] + float(weights.head[32])).float().numpy()
    return logits


def measure(
    network: nn.Module, weights: ScreenWeights, album: Album, file: str, sha256: str
) -> ScreenSpec:
    """Counts of cells that the screen passes in real photos; the recorded ones without photos."""
    cells = passed = looked_at = 0
    shortfall = -np.inf
    least = np.log(_THRESHOLD / (1 - _THRESHOLD))
    photos = 0
    for _, picture in album.opened():
        if photos == _PHOTOS:
            break
        photos += 1
        for scale in _SCALES:
            factor = scale * min(1.0, _LONG_SIDE / max(picture.shape[:2]))
            level = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            if min(level.shape[:2]) < 12:
                continue
            pixels = np.ascontiguousarray(level, dtype=np.uint8)
            with torch.inference_mode():
                planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
                exact = network(standardise(planes))[1][0, 1].numpy() >= _THRESHOLD
            found = emulate(weights, pixels)
            cells += exact.size
            passed += int(exact.sum())
            looked_at += int((found >= least - _MARGIN).sum())
            if exact.any():
                shortfall = max(shortfall, float(least - found[exact].min()))
    if not photos and sha256 == _RECORDED.sha256:
        return _RECORDED
    return ScreenSpec(
        file=file,
        sha256=sha256,
        margin=_MARGIN,
        threshold=_THRESHOLD,
        cells=cells,
        passing_cells=passed,
        looked_at=looked_at,
        worst_shortfall=round(shortfall, 4) if passed else None,
        inputs=f"{photos} photographs, longer side up to {_LONG_SIDE} px, two levels each",
    )

"""R-Net in eight bits, which selects the crops for R-Net itself.

`service/vision/rnet_screen.py` explains and runs it. The crops that it leaves out of real photos
are counted here by the same integer arithmetic in PyTorch, so that the counts do not depend on the
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
from service.vision.cascade import CascadeSettings, crop_windows
from service.vision.pyramid import Cells, Tile, find_cells, propose, pyramid_levels
from service.vision.resample import resample_tile, resample_windows, summed_area_table
from service.vision.rnet_screen import SIDE, RnetScreenWeights
from service.vision.views import View

# Smallest and largest value of each channel behind the first pool and the second pool, and of all
# channels behind the third PReLU, over the crops of 182 photos.
# fmt: off
_FIRST = (
    (-5.2, -0.1, 0.0, -0.1, 0.0, -0.1, -0.1, 0.0, -1.1, -3.3, -0.3, 0.0, -0.1, -0.2, -0.2, -0.1,
     -3.9, 0.0, 0.0, 0.0, -0.6, -0.3, -0.1, -0.1, -0.1, 0.0, -0.2, 0.0),
    (4.8, 3.6, 4.7, 3.5, 3.1, 4.0, 1.3, 4.4, 4.9, 4.3, 4.6, 2.2, 2.7, 1.8, 4.8, 2.2, 3.8, 5.3,
     2.8, 2.4, 5.0, 4.2, 3.5, 3.2, 2.5, 4.2, 1.1, 4.2),
)
_SECOND = (
    (-0.5, -0.6, -1.5, -1.4, -0.7, -0.7, -0.6, -0.2, -0.4, -0.3, -0.2, -0.5, -0.5, -0.6, -1.1,
     0.0, -1.3, -0.9, -0.2, -0.9, -0.6, -0.4, -1.3, 0.0, -0.6, -0.5, -0.4, -0.4, -0.9, -0.1,
     -0.6, -0.4, -0.2, -0.5, -3.0, -0.2, -1.4, -0.5, -1.4, -0.4, -1.0, -0.3, -0.8, -0.3, -0.8,
     -0.6, -0.1, 0.0),
    (1.6, 1.7, 2.3, 2.5, 1.4, 2.9, 3.2, 2.3, 1.8, 2.0, 4.6, 2.9, 3.1, 2.1, 2.5, 4.4, 1.3, 2.0,
     1.6, 2.4, 2.1, 3.8, 2.6, 3.5, 2.5, 2.4, 1.9, 3.6, 2.4, 3.1, 1.8, 2.8, 4.2, 2.4, 1.2, 2.1,
     1.7, 2.1, 3.8, 3.9, 2.1, 3.1, 5.8, 2.7, 2.8, 2.8, 2.7, 2.6),
)
# fmt: on
_THIRD = ((-0.4,) * 64, (3.5,) * 64)
_MARGIN = 1.0  # in logits
_SETTINGS = CascadeSettings()
# Result of `measure` on the reference photographs for the file with this hash: an export without
# photographs can offer that file. A file with other bytes has to be measured.
_RECORDED = ScreenSpec(
    file="rnet-screen.npz",
    sha256="06ae20edf7858e01f2743d32b48356592ff7ba120e246b8af43b8e18a73eca70",
    margin=_MARGIN,
    threshold=_SETTINGS.thresholds[1],
    cells=2174,
    passing_cells=291,
    looked_at=394,
    worst_shortfall=0.0902,
    inputs="recorded: 24 photographs, longer side up to 720 px",
)
_PHOTOS = 24
_LONG_SIDE = 720
_WIDE = 32


def quantize(network: nn.Module) -> RnetScreenWeights:
    """The screen of facenet-pytorch's R-Net."""
    (step1, zero1), (step2, zero2), (step3, zero3) = (
        grids(*np.array(ends, dtype=np.float64)) for ends in (_FIRST, _SECOND, _THIRD)
    )
    weight1, bias1 = numbers(network, "conv1")
    whole1, scale1 = whole_numbers(weight1 / PIXEL_SCALE)
    # The mean of the standardisation times the rounded weights.
    bias1 = bias1 - PIXEL_MEAN * scale1 * whole1.sum((1, 2, 3))
    # A row of three RGB pixels is nine bytes; three zeros make it three words.
    rows = np.zeros((_WIDE, 3, 12))
    rows[: len(whole1), :, :9] = whole1.transpose(0, 2, 3, 1).reshape(-1, 3, 9)
    # The step of each channel is folded into the next weights: a grid a channel costs nothing.
    weight2, bias2 = numbers(network, "conv2")
    whole2, scale2 = whole_numbers(weight2 * step1[:, None, None])
    weight3, bias3 = numbers(network, "conv3")
    whole3, scale3 = whole_numbers(weight3 * step2[:, None, None])
    weight4, bias4 = numbers(network, "dense4")
    # facenet-pytorch flattens columns first, then rows, then channels.
    weight4 = weight4.reshape(len(weight4), 3, 3, -1).transpose(0, 3, 2, 1)
    whole4, scale4 = whole_numbers(weight4 * step3[:, None, None])
    classes, class_bias = numbers(network, "dense5_1")
    return RnetScreenWeights(
        weights1=words(rows),
        bias1=rounded(filled(bias1 / scale1, _WIDE)),
        scale1=floats([*filled(scale1 / step1, _WIDE), *(filled(zero1, _WIDE) + 0.5)]),
        slope1=floats(filled(slopes(network, "prelu1"), _WIDE)),
        weights2=words(whole2.transpose(0, 2, 3, 1)),
        bias2=rounded(bias2 / scale2 - (whole2 * zero1[:, None, None]).sum((1, 2, 3))),
        scale2=floats([*(scale2 / step2), *(zero2 + 0.5)]),
        slope2=floats(slopes(network, "prelu2")),
        weights3=words(whole3.transpose(0, 2, 3, 1)),
        bias3=rounded(bias3 / scale3 - (whole3 * zero2[:, None, None]).sum((1, 2, 3))),
        scale3=floats([*(scale3 / step3), *(zero3 + 0.5)]),
        slope3=floats(slopes(network, "prelu3")),
        weights4=words(whole4.transpose(0, 2, 3, 1)),
        bias4=rounded(bias4 / scale4 - (whole4 * zero3[:, None, None]).sum((1, 2, 3))),
        scale4=floats(scale4),
        slope4=floats(slopes(network, "prelu4")),
        head=floats(np.append(classes[1] - classes[0], class_bias[1] - class_bias[0])),
    )


def emulate(weights: RnetScreenWeights, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits of the kernel, by convolutions of integers in float64, which is exact.

    crops: uint8 [n, 24, 24, 3] -> float32 [n].
    """
    w = weights
    x = torch.from_numpy(crops.astype(np.float64)).permute(0, 3, 1, 2)
    rows = unpacked(w.weights1, _WIDE).reshape(_WIDE, 3, 12)[:, :, :9].reshape(_WIDE, 3, 3, 3)
    x = conv2d(x, torch.from_numpy(rows).permute(0, 3, 1, 2)) + column(w.bias1)
    x = as_bytes(_prelu(x * column(w.scale1[:_WIDE]), w.slope1) + column(w.scale1[_WIDE:]))
    x = max_pool2d(x, 3, 2, ceil_mode=True)[:, :28]
    x = conv2d(x, _kernel(w.weights2, 48, 3)) + column(w.bias2)
    x = as_bytes(_prelu(x * column(w.scale2[:48]), w.slope2) + column(w.scale2[48:]))
    x = max_pool2d(x, 3, 2, ceil_mode=True)
    x = conv2d(x, _kernel(w.weights3, 64, 2)) + column(w.bias3)
    x = as_bytes(_prelu(x * column(w.scale3[:64]), w.slope3) + column(w.scale3[64:]))
    x = conv2d(x, _kernel(w.weights4, 128, 3)) + column(w.bias4)
    x = _prelu(x * column(w.scale4), w.slope4) * column(w.head[:128])
    logits: NDArray[np.float32] = (x.sum((1, 2, 3)) + float(w.head[128])).float().numpy()
    return logits


def candidates(pnet: nn.Module, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The crops that P-Net proposes in a photo, uint8 [h, w, 3]: float32 [n, 3, 24, 24]."""
    view = View.of(summed_area_table(np.ascontiguousarray(picture)))
    levels = pyramid_levels(view.width, view.height, _SETTINGS.min_face_size, _SETTINGS.factor)
    parts = []
    for number, level in enumerate(levels):
        planes = np.empty((3, level.rows, level.columns), dtype=np.float32)
        resample_tile(view, level.rows, level.columns, 0, 0, planes)
        with torch.inference_mode():
            moves, face = pnet(standardise(torch.from_numpy(planes)[None]))
        tile = Tile(number, 0, level.rows, 0, level.columns)
        threshold = _SETTINGS.thresholds[0]
        parts.append(find_cells(tile, face[0, 1].numpy(), moves[0].numpy(), threshold))
    if not any(len(part) for part in parts):
        return np.empty((0, 3, SIDE, SIDE), dtype=np.float32)
    boxes = propose(Cells.joined(parts), levels, _SETTINGS.max_candidates)
    windows, _ = crop_windows(boxes, view.width, view.height)
    return resample_windows(view, windows, SIDE, SIDE)


def measure(
    pnet: nn.Module,
    rnet: nn.Module,
    weights: RnetScreenWeights,
    album: Album,
    file: str,
    sha256: str,
) -> ScreenSpec:
    """Counts of crops that the screen passes in real photos; the recorded ones without photos."""
    crops = passed = looked_at = 0
    shortfall = -np.inf
    threshold = _SETTINGS.thresholds[1]
    least = np.log(threshold / (1 - threshold))
    photos = 0
    for _, picture in album.opened():
        if photos == _PHOTOS:
            break
        photos += 1
        factor = min(1.0, _LONG_SIDE / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        planes = candidates(pnet, np.asarray(small, dtype=np.uint8))
        if not len(planes):
            continue
        with torch.inference_mode():
            exact = rnet(standardise(torch.from_numpy(planes)))[1][:, 1].numpy() > threshold
        pixels = np.floor(planes + np.float32(0.5)).astype(np.uint8).transpose(0, 2, 3, 1)
        found = emulate(weights, pixels)
        crops += exact.size
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
        threshold=threshold,
        cells=crops,
        passing_cells=passed,
        looked_at=looked_at,
        worst_shortfall=round(shortfall, 4) if passed else None,
        inputs=f"{photos} photographs, longer side up to {_LONG_SIDE} px",
    )


def _kernel(packed: NDArray[np.int32], channels: int, side: int) -> torch.Tensor:
    values = unpacked(packed, channels).reshape(channels, side, side, -1)
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def _prelu(x: torch.Tensor, slope: NDArray[np.float32]) -> torch.Tensor:
    return torch.where(x > 0, x, x * column(slope))

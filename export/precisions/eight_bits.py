"""Weights and activations as bytes, in the layouts of the screens' kernels.

The screens are P-Net and R-Net in eight bits; `service/vision/screen.py` explains them.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.runtime.manifest import ScreenSpec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Floats = NDArray[np.float64]

BYTE = 255
"""The largest activation."""

SIGNED = 127
"""The largest weight."""

# A screen whose worst input uses more of its margin is not offered.
_LARGEST_SHARE = 0.75


def to_bytes(weights: DataclassInstance) -> bytes:
    """The file of a screen: a NumPy archive, the same bytes in every run."""
    stream = io.BytesIO()
    np.savez(stream, **asdict(weights))
    return stream.getvalue()


def objection(spec: ScreenSpec) -> str | None:
    """The reason for not offering a screen, or None."""
    if spec.worst_shortfall is None:
        return "no photograph was at hand to measure it on"
    if spec.worst_shortfall > _LARGEST_SHARE * spec.margin:
        return f"one that must pass is {spec.worst_shortfall:.2f} logits below the threshold"
    return None


def numbers(network: nn.Module, name: str) -> tuple[Floats, Floats]:
    """Weights and biases of a convolution or of a dense layer."""
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert layer.bias is not None
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def slopes(network: nn.Module, name: str) -> Floats:
    """The slopes of a PReLU."""
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.PReLU)
    slope: Floats = layer.weight.detach().double().numpy()
    return slope


def grids(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Step and zero point of the byte of each channel, by its smallest and its largest value."""
    step = (high - low) / BYTE
    return step, np.rint(-low / step)


def whole_numbers(weight: Floats) -> tuple[Floats, Floats]:
    """Weights [out, in, 3, 3] as whole numbers up to 127, and the step of each output channel.

    Rounded so that the sum of each kernel's nine is kept as nearly as it can be: neighbouring
    pixels are much alike, and then their rounding errors cancel.
    """
    largest = np.abs(weight).max((1, 2, 3))
    scale = np.where(largest > 0, largest / SIGNED, 1.0)
    kernels = (weight / scale[:, None, None, None]).reshape(*weight.shape[:2], -1)
    below = np.floor(kernels)
    missing = np.rint(kernels.sum(2) - below.sum(2))[..., None]
    # The largest fractions are rounded up, as many as are missing.
    rank = np.argsort(np.argsort(below - kernels, axis=2, kind="stable"), axis=2)
    return (below + (rank < missing)).reshape(weight.shape), scale


def words(whole: Floats) -> NDArray[np.int32]:
    """[out, ...] as int32 [words * out]: four signed bytes a word, the output channels inmost."""
    values = whole.reshape(len(whole), -1, 4).astype(np.int8)
    return np.ascontiguousarray(values.transpose(1, 0, 2)).view(np.int32).reshape(-1)


def unpacked(packed: NDArray[np.int32], channels: int) -> Floats:
    """The inverse of `words`: [out, bytes]."""
    values = packed.view(np.int8).reshape(-1, channels, 4).transpose(1, 0, 2)
    return np.ascontiguousarray(values).reshape(channels, -1).astype(np.float64)


def filled(values: Floats, rows: int, filling: float = 0.0) -> Floats:
    """The values, and a filling behind them up to a number of rows."""
    shape = rows - len(values), *values.shape[1:]
    return np.concatenate([values, np.full(shape, filling)])


def rounded(values: Floats) -> NDArray[np.int32]:
    """Whole numbers."""
    return np.rint(values).astype(np.int32)


def floats(values: object) -> NDArray[np.float32]:
    """In single precision."""
    return np.asarray(values, dtype=np.float32)


def column(values: NDArray[np.int32] | NDArray[np.float32]) -> torch.Tensor:
    """A value for each channel, to be combined with activations [..., channels, rows, columns]."""
    return torch.from_numpy(values.astype(np.float64)).reshape(-1, 1, 1)


def as_bytes(values: torch.Tensor) -> torch.Tensor:
    """What `store_bytes` of the kernels writes."""
    return values.floor().clamp(0, BYTE)

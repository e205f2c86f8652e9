"""Arithmetic folded into the weights, so that the graph takes pixels and has fewer nodes.

Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

# facenet-pytorch's standardisation, (x - 127.5) / 128: `fixed_image_standardization` and the
# first lines of its detection loop.
PIXEL_MEAN = 127.5
PIXEL_SCALE = 128.0


def standardise(images: Tensor) -> Tensor:
    """[n, 3, h, w], 0 to 255 -> float32 of that shape, the input of facenet-pytorch's networks."""
    return (images.to(torch.float32) - PIXEL_MEAN) / PIXEL_SCALE


def fold_facenet(network: nn.Module, centre: NDArray[np.float32] | None = None) -> nn.Module:
    """A copy of InceptionResnetV1 that takes pixels and has no batch norms or residual scales.

    Args:
        centre: float32 [512]; with it the copy gives two vectors, the one without it first.
    """
    folded = copy.deepcopy(network).double()
    for module in folded.modules():
        children = dict(module.named_children())
        if isinstance(convolution := children.get("conv"), nn.Conv2d):
            norm = children["bn"]
            assert isinstance(norm, nn.BatchNorm2d)
            module.register_module("conv", fuse_conv_bn_eval(convolution, norm))
            module.register_module("bn", nn.Identity())
        if isinstance(scale := getattr(module, "scale", None), float):
            closing = _convolution(module, "conv2d")
            assert closing.bias is not None
            closing.weight.data *= scale
            closing.bias.data *= scale
            module.__dict__["scale"] = 1.0
    fold_standardisation(_convolution(folded, "conv2d_1a.conv"))
    linear, norm = folded.get_submodule("last_linear"), folded.get_submodule("last_bn")
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    folded.register_module("last_linear", fuse_linear_bn_eval(linear, norm))
    folded.register_module("last_bn", nn.Identity())
    # The exporter writes an adaptive pool as an index computation, and F.normalize with an Expand:
    # these modules take one and four nodes. forward() applies `logits` last.
    folded.register_module("avgpool_1a", _SpatialMean())
    unit = UnitLength()
    folded.register_module("logits", unit if centre is None else _Centred(unit, centre))
    folded.__dict__["classify"] = True
    return folded.float().eval()


class _SpatialMean(nn.Module):
    """float32 [n, c, h, w] -> float32 [n, c, 1, 1]."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3), keepdim=True)


class UnitLength(nn.Module):
    """float32 [n, d] -> float32 [n, d], each row divided by its length."""

    def forward(self, vectors: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        unit: Tensor = vectors / lengths.clamp_min(1e-12)
        return unit


class _Centred(nn.Module):
    """float32 [n, d] -> two of that shape: unit vectors less the centre, and plain unit vectors."""

    def __init__(self, unit: nn.Module, centre: NDArray[np.float32]) -> None:
        super().__init__()
        self.unit = unit
        self.centre = nn.Parameter(torch.from_numpy(centre))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        compatible = self.unit(vectors)
        return self.unit(compatible - self.centre), compatible


def _convolution(network: nn.Module, name: str) -> nn.Conv2d:
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    return module


def fold_standardisation(convolution: nn.Module) -> None:
    """Make a convolution of pixels equal to one of standardised pixels.

    Exact only without padding: a padded zero would stand for black, not for the mean.
    """
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.padding == (0, 0)
    weight = convolution.weight.data / PIXEL_SCALE
    offset = -PIXEL_MEAN * weight.sum((1, 2, 3))
    bias = offset if convolution.bias is None else convolution.bias.data + offset
    convolution.weight = nn.Parameter(weight)
    convolution.bias = nn.Parameter(bias)

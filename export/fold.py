"""Arithmetic that moves into the weights, so that the graph takes pixels and holds less.

Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

# facenet-pytorch's standardisation, (x - 127.5) / 128: `fixed_image_standardization` and the
# first lines of its detection loop.
PIXEL_MEAN = 127.5
PIXEL_SCALE = 128.0


def standardise(images: Tensor) -> Tensor:
    """[n, h, w, 3], 0 to 255 -> float32 [n, 3, h, w], what facenet-pytorch feeds its networks."""
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    return (pixels - PIXEL_MEAN) / PIXEL_SCALE


def fold_mtcnn_stage(network: nn.Module) -> nn.Module:
    """A copy of P-Net, R-Net or O-Net that takes pixels and gives one face probability.

    The softmax over two classes is the sigmoid of their difference, so the two-class layer
    becomes one output wide: probabilities are [n, 1, ...] instead of [n, 2, ...]. Every PReLU
    becomes a sum of the input and its ReLU: see `_SplitPReLU`.
    """
    folded = copy.deepcopy(network).double()
    _fold_standardisation(_convolution(folded, "conv1"))
    children = dict(folded.named_children())
    for name, child in children.items():
        if isinstance(child, nn.PReLU):
            after_convolution = name.replace("prelu", "conv") in children
            setattr(folded, name, _SplitPReLU(child, spatial=after_convolution))
    softmax = next(name for name, _ in folded.named_children() if name.startswith("softmax"))
    layer = softmax.replace("softmax", "conv" if hasattr(folded, "conv4_1") else "dense")
    setattr(folded, layer, _class_difference(folded.get_submodule(layer)))
    setattr(folded, softmax, nn.Sigmoid())
    return folded.float().eval()


def fold_facenet(network: nn.Module) -> nn.Module:
    """A copy of InceptionResnetV1 that takes pixels and has no batch norms or residual scales."""
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
    _fold_standardisation(_convolution(folded, "conv2d_1a.conv"))
    linear, norm = folded.get_submodule("last_linear"), folded.get_submodule("last_bn")
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    folded.register_module("last_linear", fuse_linear_bn_eval(linear, norm))
    folded.register_module("last_bn", nn.Identity())
    # The exporter writes an adaptive pool as an index computation, and F.normalize with an Expand:
    # these say the same in one and four plain nodes. forward() applies `logits` last.
    folded.register_module("avgpool_1a", _SpatialMean())
    folded.register_module("logits", _UnitLength())
    folded.__dict__["classify"] = True
    return folded.float().eval()


class _SplitPReLU(nn.Module):
    """PReLU(x) = a x + (1 - a) ReLU(x), a channel wise: the same function of x for every slope a.

    ONNX Runtime lays convolutions out in blocks of channels. A PRelu node forces it to go back to
    plain rows and again to blocks, which took half of P-Net's time; multiplication, ReLU and
    addition stay in the blocks.
    """

    def __init__(self, prelu: nn.PReLU, *, spatial: bool) -> None:
        super().__init__()
        slope = prelu.weight.detach().reshape((-1, 1, 1) if spatial else (-1,))
        self.slope = nn.Parameter(slope)
        self.rest = nn.Parameter(1 - slope)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.slope + torch.relu(x) * self.rest


class _SpatialMean(nn.Module):
    """float32 [n, c, h, w] -> float32 [n, c, 1, 1]."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3), keepdim=True)


class _UnitLength(nn.Module):
    """float32 [n, d] -> float32 [n, d], each row divided by its length."""

    def forward(self, vectors: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        unit: Tensor = vectors / lengths.clamp_min(1e-12)
        return unit


def _convolution(network: nn.Module, name: str) -> nn.Conv2d:
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    return module


def _fold_standardisation(convolution: nn.Conv2d) -> None:
    """Make a convolution of pixels equal to one of standardised pixels.

    Exact only without padding: a padded zero would stand for black, not for the mean.
    """
    assert convolution.padding == (0, 0)
    weight = convolution.weight.data / PIXEL_SCALE
    offset = -PIXEL_MEAN * weight.sum((1, 2, 3))
    bias = offset if convolution.bias is None else convolution.bias.data + offset
    convolution.weight = nn.Parameter(weight)
    convolution.bias = nn.Parameter(bias)


def _class_difference(layer: nn.Module) -> nn.Module:
    """A two-class layer reduced to (face - no face)."""
    narrow: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        narrow = nn.Conv2d(layer.in_channels, 1, kernel_size=1, dtype=torch.float64)
    else:
        assert isinstance(layer, nn.Linear)
        narrow = nn.Linear(layer.in_features, 1, dtype=torch.float64)
    assert layer.bias is not None
    narrow.weight = nn.Parameter(layer.weight.data[1:] - layer.weight.data[:1])
    narrow.bias = nn.Parameter(layer.bias.data[1:] - layer.bias.data[:1])
    return narrow

"""MTCNN's networks rewritten for ONNX Runtime: the same functions of the pixels, less work.

ONNX Runtime lays convolutions out in blocks of sixteen channels. A node without that layout copies
its input out of the blocks and its output back, and at P-Net's full resolution each pass over the
activations costs as much as a convolution. Each rewrite saves passes. All are exact, computed in
float64 and rounded once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from export.graphs.fold import fold_standardisation

# Channels in a block with AVX512; with AVX2 it is 8, which divides it.
_BLOCK = 16


class FoldedStage(nn.Module):
    """P-Net, R-Net or O-Net over pixels: float32 [n, 3, h, w], 0 to 255.

    Returns the stage's outputs in its own order, the probability last and of the face alone:
    [n, 1, ...] instead of [n, 2, ...].
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, widths: list[int]) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.widths = widths

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        *others, logit = torch.split(self.head(self.trunk(images)), self.widths, dim=1)
        return (*others, torch.sigmoid(logit))


def fold_mtcnn_stage(network: nn.Module) -> FoldedStage:
    """A copy of a stage that takes pixels and gives one face probability.

    - The standardisation of pixels goes into the first convolution.
    - The first PReLU moves behind its pool (`PooledPReLU`), the others become sums (`SplitPReLU`).
    - The softmax over two classes is the sigmoid of their difference, so the two-class layer
      becomes one output wide, and all heads become one layer.
    - A dense layer takes its input as it lies; its weights are permuted instead.
    """
    layers = dict(copy.deepcopy(network).double().named_children())
    first = next(iter(layers))
    fold_standardisation(layers[first])
    heads = _heads(layers)
    trunk = nn.Sequential(*_trunk(layers, list(heads)))
    # The first head is the two-class layer; the stages return it last.
    classes, *others = heads.values()
    parts = [*others, _class_difference(classes)]
    weights = [_weight(part) for part in parts]
    head = _like(parts[0], torch.cat(weights), torch.cat([_bias(part) for part in parts]))
    return FoldedStage(trunk, head, [len(weight) for weight in weights]).float().eval()


class SplitPReLU(nn.Module):
    """PReLU(x) = x + ReLU((a - 1) x), a channel wise, for slopes a of at most 1.

    A PRelu node would leave the blocks. The sum is one depthwise convolution with a fused ReLU, and
    an addition.
    """

    def __init__(self, prelu: nn.PReLU, dimensions: int) -> None:
        super().__init__()
        slope = prelu.weight.detach()
        if bool((slope > 1).any()):
            raise ValueError("a slope above 1 makes PReLU concave; this rewrite holds up to 1")
        self.rest = nn.Parameter((slope - 1).reshape(-1, *[1] * (dimensions - 2)))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(x * self.rest)


class PooledPReLU(nn.Module):
    """maxpool(PReLU(conv(x))) as a PReLU behind the max pool, over a quarter of the pixels.

    A slope a >= 0 keeps the order, so pool and PReLU change places. For a < 0 PReLU is
    max(y, a y), and so the pool is max(maxpool(y), maxpool(a y)): the convolution gets a further
    channel that computes a y. In P-Net those six fill its ten channels up to a whole block.

    From the pooled channels p, PReLU is p + ReLU(d), or -(-p + ReLU(d)) where a > 1, with d linear
    in p; the next convolution takes the sign. Channels of zeros fill the last block: a part of one
    would send pool and additions out of the blocks.
    """

    def __init__(self, convolution: nn.Conv2d, prelu: nn.PReLU, pool: nn.MaxPool2d) -> None:
        super().__init__()
        slope = prelu.weight.detach()
        bent = torch.nonzero(slope < 0).flatten()
        channels, wide = len(slope), _padded(len(slope) + len(bent))
        weight, bias = _weight(convolution), _bias(convolution)
        self.convolution = _like(
            convolution,
            _rows(torch.cat([weight, weight[bent] * slope[bent].reshape(-1, 1, 1, 1)]), wide),
            _rows(torch.cat([bias, bias[bent] * slope[bent]]), wide),
        )
        self.pool = pool
        self.sign = torch.where(slope > 1, -1.0, 1.0).to(slope)
        straight = torch.zeros(channels, wide, dtype=slope.dtype)
        straight.diagonal().copy_(self.sign)
        difference = torch.zeros_like(straight)
        difference.diagonal().copy_(torch.where(slope < 0, -1.0, -(slope - 1).abs()))
        difference[bent, channels + torch.arange(len(bent))] = 1.0
        # ONNX Runtime takes fewer input channels than a block without padding.
        self.channels = channels if channels < _BLOCK else _padded(channels)
        straight, difference = _rows(straight, self.channels), _rows(difference, self.channels)
        self.straight, self.difference = _pointwise(straight), _pointwise(difference)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.pool(self.convolution(images))
        bent: Tensor = self.straight(pooled) + torch.relu(self.difference(pooled))
        return bent


def _heads(layers: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The layers behind the last PReLU, without the softmax."""
    names = list(layers)
    last = max(i for i, name in enumerate(names) if name.startswith("prelu"))
    return {n: layers[n] for n in names[last + 1 :] if not n.startswith("softmax")}


def _trunk(layers: dict[str, nn.Module], heads: list[str]) -> Iterator[nn.Module]:
    """The layers before the heads, in order."""
    names = [n for n in layers if n not in heads and not n.startswith("softmax")]
    convolution, prelu, pool = (layers[name] for name in names[:3])
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(prelu, nn.PReLU)
    assert isinstance(pool, nn.MaxPool2d)
    pooled = PooledPReLU(convolution, prelu, pool)
    following = layers[names[3]]
    assert isinstance(following, nn.Conv2d)
    signed = following.weight.detach() * pooled.sign.reshape(1, -1, 1, 1)
    filled = _rows(signed.transpose(0, 1), pooled.channels).transpose(0, 1)
    layers[names[3]] = _like(following, filled, _bias(following))
    yield pooled
    channels, dimensions = following.out_channels, 4
    for name in names[3:]:
        layer = layers[name]
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
        elif isinstance(layer, nn.Linear) and dimensions == 4:
            dimensions = 2
            yield nn.Flatten()
            layer.weight.data = _from_columns(layer.weight.data, channels)
        yield SplitPReLU(layer, dimensions) if isinstance(layer, nn.PReLU) else layer


def _from_columns(weight: Tensor, channels: int) -> Tensor:
    """Weights [out, w * h * c] of facenet-pytorch's flattening, for [n, c, h, w] flattened."""
    side = round((weight.shape[1] / channels) ** 0.5)
    columns = weight.reshape(-1, side, side, channels)
    return columns.permute(0, 3, 2, 1).reshape(len(weight), -1)


def _padded(channels: int) -> int:
    return -(-channels // _BLOCK) * _BLOCK


def _rows(tensor: Tensor, rows: int) -> Tensor:
    """The tensor with rows of zeros below, up to a number of rows."""
    filling = tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])
    return torch.cat([tensor, filling])


def _class_difference(layer: nn.Module) -> nn.Module:
    """A two-class layer reduced to (face - no face)."""
    weight, bias = _weight(layer), _bias(layer)
    return _like(layer, weight[1:] - weight[:1], bias[1:] - bias[:1])


def _pointwise(matrix: Tensor) -> nn.Conv2d:
    """A convolution that multiplies the channels by a matrix [out, in]."""
    convolution = nn.Conv2d(matrix.shape[1], matrix.shape[0], kernel_size=1, bias=False)
    convolution.weight = nn.Parameter(matrix.reshape(*matrix.shape, 1, 1))
    return convolution


def _like(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A layer of the same kind with other weights, and as many outputs as they have rows."""
    made: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        assert layer.padding == (0, 0)
        size = (weight.shape[2], weight.shape[3])
        made = nn.Conv2d(weight.shape[1], len(weight), kernel_size=size)
    else:
        made = nn.Linear(weight.shape[1], len(weight))
    made.weight, made.bias = nn.Parameter(weight), nn.Parameter(bias)
    return made


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer.weight.detach()


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert layer.bias is not None
    return layer.bias.detach()

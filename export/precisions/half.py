"""FaceNet in half precision, for GPUs: float16 inside, the unit length in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.errors import ConversionError


def to_half(model: bytes) -> bytes:
    """The fp16 file of an fp32 FaceNet file: same input, output and opset.

    Pixels to linear layer are float16. The vector is cast back to float32 before it is divided by
    its length: float16 would round the squares.

    Raises:
        ConversionError: a weight is beyond float16's range, or ONNX's checker refuses the result.
    """
    half = onnx.load_from_string(model)
    graph = half.graph
    last = max(place for place, node in enumerate(graph.node) if node.op_type == "Gemm")
    body, rest = list(graph.node[: last + 1]), list(graph.node[last + 1 :])
    used = {name for node in body for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in used and tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(_rounded(tensor))
    for node in body:
        if node.op_type == "Cast":
            node.attribute[0].CopyFrom(helper.make_attribute("to", TensorProto.FLOAT16))
    vector = body[-1].output[0]
    body[-1].output[0] = f"{vector}.half"
    back = helper.make_node(
        "Cast", [f"{vector}.half"], [vector], name=f"{vector}.cast", to=TensorProto.FLOAT
    )
    _replace_nodes(half, [*body, back, *rest])
    try:
        onnx.checker.check_model(half, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError("facenet: ONNX's checker refuses the fp16 graph") from error
    data = half.SerializeToString(deterministic=True)
    assert isinstance(data, bytes)
    return data


def _rounded(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max() > np.finfo(np.float16).max:
        raise ConversionError(f"facenet: '{tensor.name}' is too large for half precision")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    copies = [NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del model.graph.node[:]
    model.graph.node.extend(copies)

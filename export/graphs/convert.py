"""From a folded PyTorch module to the bytes of one clean ONNX file."""

from __future__ import annotations

import warnings

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from export.errors import ConversionError
from export.graphs.signature import Signature
from service.runtime.manifest import TensorSpec

# 25 is the newest opset to which torch 2.13's exporter converts by its own, tested rules
# (onnxscript 0.7, SUPPORTED_MAX_ONNX_OPSET); for 26 and above it warns and falls back to another
# converter. onnx 1.23's checker knows up to 28, and ONNX Runtime 1.32 accepts up to 28 as released.
OPSET = 25

# The smallest picture P-Net gives an output for: its receptive field.
_PNET_MIN_SIDE = 12


class PixelModel(nn.Module):
    """A folded network with the interface of its signature.

    image, as the signature lays it out -> the network's outputs, the probability without its
    class axis.
    """

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.network = network
        self.in_planes = signature.image.layout == "NCHW"
        self.has_probability = "probability" in signature.output_names

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        planes = image if self.in_planes else image.permute(0, 3, 1, 2)
        outputs = self.network(planes.to(torch.float32))
        if not self.has_probability:
            assert isinstance(outputs, Tensor | tuple)
            return outputs
        *others, probability = outputs
        return (*others, probability.squeeze(1))


def to_onnx(signature: Signature, folded: nn.Module) -> bytes:
    """The file of one model, checked by ONNX's own checker.

    Raises:
        ConversionError: torch cannot export it, or the checker refuses the result.
    """
    name = signature.name
    module = PixelModel(folded, signature).eval()
    try:
        with warnings.catch_warnings():
            # torch 2.13 copies its own tree descriptions in a way it has deprecated itself.
            warnings.filterwarnings(
                "ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning
            )
            program = torch.onnx.export(
                module,
                (_example(signature),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[signature.image.name],
                output_names=signature.output_names,
                dynamic_shapes={"image": _dynamic_dimensions(signature)},
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(f"{name}: torch cannot export the network: {reason}") from error
    assert program is not None
    model = program.model_proto
    _clean(model, signature)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"{name}: ONNX's checker refuses the graph") from error
    data = model.SerializeToString(deterministic=True)
    assert isinstance(data, bytes)
    return data


def _example(signature: Signature) -> Tensor:
    # Unequal and above one, so that no dimension is mistaken for a constant or for another one.
    stand_ins = {"batch": 2, "height": 37, "width": 50}
    shape = [stand_ins[d] if isinstance(d, str) else d for d in signature.image.shape]
    return torch.zeros(shape, dtype=getattr(torch, signature.image.dtype))


def _dynamic_dimensions(signature: Signature) -> dict[int, object]:
    return {
        axis: torch.export.Dim(name, min=1 if name == "batch" else _PNET_MIN_SIDE)
        for axis, name in enumerate(signature.image.shape)
        if isinstance(name, str)
    }


def _clean(model: ModelProto, signature: Signature) -> None:
    """Drop torch's metadata, which has local paths, and name the dynamic dimensions."""
    if len(model.functions) or [entry.version for entry in model.opset_import] != [OPSET]:
        raise ConversionError(
            f"{signature.name}: torch wrote another opset than {OPSET}, or functions"
        )
    graph = model.graph
    graph.name = signature.name
    model.doc_string = graph.doc_string = ""
    model.producer_name, model.producer_version = "pytorch", torch.__version__
    values = [*graph.input, *graph.output, *graph.initializer, *graph.node]
    for part in [model, graph, *values]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    # Shapes of inner values carry the exporter's throw-away symbols; every runtime infers them.
    graph.ClearField("value_info")
    for value, spec in zip(
        [*graph.input, *graph.output], [signature.image, *signature.outputs], strict=True
    ):
        _name_dimensions(value, spec)


def _name_dimensions(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    dimensions = value.type.tensor_type.shape.dim
    if len(dimensions) != len(spec.shape):
        return  # verification reports it, with both shapes
    for dimension, wanted in zip(dimensions, spec.shape, strict=True):
        if isinstance(wanted, str) and dimension.HasField("dim_param"):
            dimension.dim_param = wanted

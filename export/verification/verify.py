"""Verification of a graph against its network: names, shapes, dtypes, then numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from export.errors import DtypesError, NamesError, NumbersError, ShapesError
from export.graphs.fold import standardise
from export.graphs.signature import Signature
from export.verification.samples import Pixels
from service.runtime.manifest import TensorSpec

# Largest absolute difference of an output to that of the original network.
TOLERANCE = 1e-4

Outputs = dict[str, NDArray[np.float32]]
Reference = Callable[[Pixels], Outputs]
_ORT_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


def reference(signature: Signature, network: nn.Module) -> Reference:
    """facenet-pytorch's own module as a function of images in the signature's layout."""
    names = signature.output_names
    in_planes = signature.image.layout == "NCHW"

    def run(images: Pixels) -> Outputs:
        with torch.inference_mode():
            pixels = torch.from_numpy(images)
            result = network(standardise(pixels if in_planes else pixels.permute(0, 3, 1, 2)))
        tensors = result if isinstance(result, tuple) else (result,)
        outputs = dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True))
        if "probability" in outputs:
            outputs["probability"] = outputs["probability"][:, 1]
        return outputs

    return run


def verify(
    signature: Signature, model: bytes, expected: Reference, batches: Iterable[Pixels]
) -> dict[str, float]:
    """Largest absolute difference of each output over all batches, on the CPU provider.

    Raises:
        NamesError, ShapesError, DtypesError, NumbersError: in this order.
    """
    name = signature.name
    session = open_checked(signature, model)
    worst = dict.fromkeys(signature.output_names, 0.0)
    for images in batches:
        found = dict(zip(worst, session.run(list(worst), {"image": images}), strict=True))
        wanted = expected(images)
        _check_arrays(name, images.shape, found, wanted)
        for output, values in wanted.items():
            difference = float(np.max(np.abs(found[output] - values)))
            # Written so that a NaN, which compares false with everything, counts as too large.
            if not difference <= TOLERANCE:
                raise NumbersError(name, output, difference, TOLERANCE)
            worst[output] = max(worst[output], difference)
    return worst


def open_checked(signature: Signature, model: bytes) -> ort.InferenceSession:
    """A session on the CPU provider for a graph that declares what its signature promises.

    Raises:
        NamesError, ShapesError, DtypesError: in this order.
    """
    name = signature.name
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _check_names(signature, inputs, outputs)
    specs: list[TensorSpec] = [signature.image, *signature.outputs]
    for spec, value in zip(specs, [*inputs, *outputs], strict=True):
        if tuple(value.shape) != spec.shape:
            raise ShapesError(name, f"'{spec.name}' is declared {value.shape}, not {spec.shape}")
    for spec, value in zip(specs, [*inputs, *outputs], strict=True):
        if value.type != _ORT_TYPES[spec.dtype]:
            raise DtypesError(name, f"'{spec.name}' is declared {value.type}, not {spec.dtype}")
    return session


def _check_names(signature: Signature, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    found = [value.name for value in inputs], [value.name for value in outputs]
    wanted = [signature.image.name], signature.output_names
    if found != wanted:
        raise NamesError(
            signature.name, f"inputs and outputs are named {found[0]} -> {found[1]}, "
            f"not {wanted[0]} -> {wanted[1]}"
        )  # fmt: skip


def _check_arrays(
    name: str,
    input_shape: tuple[int, ...],
    found: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, NDArray[Any]],
) -> None:
    for output, values in wanted.items():
        if found[output].shape != values.shape:
            raise ShapesError(
                name,
                f"'{output}' is {found[output].shape} for input {input_shape}, not {values.shape}",
            )
    for output, values in wanted.items():
        if found[output].dtype != values.dtype:
            raise DtypesError(name, f"'{output}' is {found[output].dtype}, not {values.dtype}")

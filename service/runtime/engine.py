"""Opens one model file in ONNX Runtime, and makes sure that it runs where it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import ModelError, ProviderError
from service.runtime.manifest import ModelSpec, TensorSpec
from service.runtime.providers import EXECUTION_PROVIDERS, Provider, provider_chain

if TYPE_CHECKING:
    import onnxruntime

# P-Net's tiles have about this side; it is the only model whose height and width are free.
_FREE_SIDE = 160


def available_providers() -> list[str]:
    """The execution providers of the installed ONNX Runtime, by its names for them.

    Raises:
        ModelError: no ONNX Runtime is installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "ONNX Runtime is not installed: install one of the extras facette[cpu], facette[gpu] "
            "and facette[openvino]"
        ) from None
    return list(onnxruntime.get_available_providers())


def open_graph(
    path: Path,
    spec: ModelSpec,
    provider: Provider,
    *,
    workers: int,
    intra_op_threads: int,
    spins: bool = False,
) -> onnxruntime.InferenceSession:
    """A session that has answered one call on the provider asked for.

    Args:
        spins: whether threads within a call wait for each other without sleeping. They do so only
            while a call runs.

    Raises:
        ModelError: ONNX Runtime cannot load the file, or the graph is not what the manifest says.
        ProviderError: the provider is offered but does not run the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Cores are shared with decoding, PostgreSQL and the event loop: a spinning thread robs them.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    chain = provider_chain(provider, workers, intra_op_threads)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=chain)
    except Exception as error:
        raise _failure(provider)(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
    # A provider that does not come up is dropped without an exception.
    if (first := session.get_providers()[0]) != EXECUTION_PROVIDERS[provider]:
        raise ProviderError(f"{path.name} came up on {first} instead")
    _check_graph(session, spec)
    try:
        # Some faults, like a missing cuDNN, show in the first call only.
        session.run(None, {spec.input.name: sample(spec, 1)})
    except Exception as error:
        raise _failure(provider)(f"{path} cannot be run by ONNX Runtime: {error}") from error
    return session


def sample(spec: ModelSpec, batch: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Random pixels in a model's layout and dtype: `batch` faces or crops, or tiles of 160 pixels.

    What they show does not matter: the networks do the same work for every picture.
    """
    shape = [side if isinstance(side, int) else _FREE_SIDE for side in spec.input.shape[1:]]
    low, high = spec.input.value_range
    pixels = np.random.default_rng(0).integers(low, high, (batch, *shape), np.uint8, endpoint=True)
    return pixels if spec.input.dtype == "uint8" else pixels.astype(np.float32)


def _failure(provider: Provider) -> type[ModelError]:
    # What the CPU cannot run is the file's fault; elsewhere the CPU is still to be tried.
    return ModelError if provider == "cpu" else ProviderError


def _check_graph(session: onnxruntime.InferenceSession, spec: ModelSpec) -> None:
    declared = [_signature(spec.input), *(_signature(output) for output in spec.outputs)]
    found = [
        (node.name, node.type, _static_shape(node.shape))
        for node in [*session.get_inputs(), *session.get_outputs()]
    ]
    if declared != found:
        raise ModelError(
            f"{spec.file}: the graph has {found}, its manifest says {declared}: "
            "run `facette export` again"
        )


def _signature(tensor: TensorSpec) -> tuple[str, str, list[int | None]]:
    kind = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[tensor.dtype]
    return tensor.name, kind, _static_shape(list(tensor.shape))


def _static_shape(shape: list[int | str | None]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]

"""ONNX Runtime sessions for the models of a manifest."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import ModelError
from service.runtime.manifest import Manifest, ModelName, ModelSpec, TensorSpec, check_file

if TYPE_CHECKING:
    import onnxruntime

_logger = logging.getLogger(__name__)

Provider = Literal["auto", "cpu", "cuda"]
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How sessions run.

    provider: where; `auto` takes CUDA when ONNX Runtime offers it.
    intra_op_threads: threads within one call; the worker pool runs several calls side by side.
    """

    provider: Provider = "auto"
    intra_op_threads: int = 1


class ModelSession:
    """One model, ready to run; safe to call from several threads."""

    def __init__(self, session: onnxruntime.InferenceSession, spec: ModelSpec) -> None:
        self.spec = spec
        self._session = session
        self._output_names = [output.name for output in spec.outputs]

    def run(self, image: NDArray[np.uint8] | NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs in the manifest's order for images [n, height, width, 3], of its dtype."""
        outputs: list[NDArray[np.float32]] = self._session.run(
            self._output_names, {self.spec.input.name: image}
        )
        return outputs

    @property
    def provider(self) -> str:
        """The execution provider that runs the model."""
        return str(self._session.get_providers()[0])


def open_sessions(
    directory: Path, manifest: Manifest, settings: SessionSettings
) -> dict[ModelName, ModelSession]:
    """Open every model of a manifest after checking its hash and its declared shapes.

    Raises:
        ModelError: a file is not the manifest's, a graph is not what the manifest says, no ONNX
            Runtime is installed, or it lacks the provider asked for.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "ONNX Runtime is not installed: install the extra facette[cpu] or facette[gpu]"
        ) from None
    providers = choose_providers(settings.provider, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Cores are shared with decoding, PostgreSQL and the event loop: a spinning thread robs them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions: dict[ModelName, ModelSession] = {}
    for name, spec in manifest.models.items():
        path = check_file(directory, spec)
        # The arena keeps its largest buffers for good. MTCNN's are small, and reusing them saves a
        # tenth of the time; FaceNet's are large, and reusing them saves nothing.
        options.enable_cpu_mem_arena = spec.embedding is None
        try:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise ModelError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
        _check_graph(name, session, spec)
        sessions[name] = ModelSession(session, spec)
        if sessions[name].provider != providers[0]:
            _logger.warning(
                "%s fell back from %s to %s", name, providers[0], sessions[name].provider
            )
    _logger.info(
        "models loaded",
        extra={
            "fields": {"provider": next(iter(sessions.values())).provider, "models": len(sessions)}
        },
    )
    return sessions


def choose_providers(wanted: Provider, available: list[str]) -> list[str]:
    """Execution providers in order of preference, CPU always last.

    Raises:
        ModelError: CUDA was asked for by name and is not available.
    """
    if wanted == "cpu":
        return [_CPU]
    if _CUDA in available:
        return [_CUDA, _CPU]
    if wanted == "cuda":
        raise ModelError(
            "inference.provider is 'cuda', but ONNX Runtime offers no CUDA here: "
            "install the extra facette[gpu] on a machine with an NVIDIA driver, or set 'auto'"
        )
    return [_CPU]


def _check_graph(name: str, session: onnxruntime.InferenceSession, spec: ModelSpec) -> None:
    declared = [_signature(spec.input), *(_signature(output) for output in spec.outputs)]
    found = [
        (node.name, node.type, _static_shape(node.shape))
        for node in [*session.get_inputs(), *session.get_outputs()]
    ]
    if declared != found:
        raise ModelError(
            f"{spec.file}: the {name} graph has {found}, its manifest says {declared}: "
            "run `facette export` again"
        )


def _signature(tensor: TensorSpec) -> tuple[str, str, list[int | None]]:
    kind = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[tensor.dtype]
    return tensor.name, kind, _static_shape(list(tensor.shape))


def _static_shape(shape: list[int | str | None]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]

"""Opens the models of a manifest, each on the placement that suits it best on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import ModelError, ProviderError
from service.machine.cpu import adds_int8_exactly, cpu_flags
from service.machine.memory import release_free_memory
from service.runtime.choice import (
    PrecisionSetting,
    ProviderSetting,
    candidates,
    fastest,
    files_by_precision,
)
from service.runtime.manifest import Manifest, ModelName, ModelSpec, TensorSpec, check_file
from service.runtime.providers import (
    ADVICE,
    EXECUTION_PROVIDERS,
    Placement,
    Provider,
    missing_providers,
    provider_chain,
)
from service.runtime.trial import time_calls

if TYPE_CHECKING:
    import onnxruntime

_logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8] | NDArray[np.float32]

# Batch sizes of the measurement, similar to those of the service. Where all candidates are on CUDA,
# the sizes are multiplied by the factor.
_TRIAL_BATCH: dict[ModelName, int] = {"pnet": 1, "rnet": 12, "onet": 4, "embedder": 4}
_CUDA_TRIAL_FACTOR = 16
# A latency session makes an embedding of a single face sooner. The crops of the other networks are
# spread over the workers anyway. More than four threads gain little on one face.
_LATENCY_SESSION_MODELS: frozenset[ModelName] = frozenset({"embedder"})
_MAX_LATENCY_THREADS = 4


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How sessions run.

    provider, precision: `auto` chooses by the features of the machine and a short measurement.
    workers: the number of threads that call the sessions.
    intra_op_threads: the number of threads within one call.
    """

    provider: ProviderSetting = "auto"
    precision: PrecisionSetting = "auto"
    workers: int = 1
    intra_op_threads: int = 1


class ModelSession:
    """One model, ready to run; several threads may call it at once."""

    def __init__(
        self, session: onnxruntime.InferenceSession, spec: ModelSpec, placement: Placement
    ) -> None:
        self.spec = spec
        self.placement = placement
        self._session = session
        self._latency_session = session
        self._output_names = [output.name for output in spec.outputs]

    def use_latency_session(self, session: onnxruntime.InferenceSession) -> None:
        """Set the session of `run_for_latency`: the same model, with more intra-op threads."""
        self._latency_session = session

    def run(self, image: Pixels, outputs: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """The outputs for a batch of images in the manifest's layout and dtype.

        Args:
            outputs: the names of the outputs, in order; by default all, in the manifest's order.
        """
        if self.placement.provider == "cuda":
            return self._run_bound(image, outputs)
        return self._run_on(self._session, image, outputs)

    def run_for_latency(
        self, image: Pixels, outputs: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        """Run as `run` does, on the latency session: sooner while no other call runs."""
        if self.placement.provider == "cuda":
            return self._run_bound(image, outputs)
        return self._run_on(self._latency_session, image, outputs)

    def _run_on(
        self,
        session: onnxruntime.InferenceSession,
        image: Pixels,
        outputs: Sequence[str] | None,
    ) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = session.run(
            self._output_names if outputs is None else list(outputs),
            {self.spec.input.name: image},
        )
        return found

    def _run_bound(self, image: Pixels, outputs: Sequence[str] | None) -> list[NDArray[np.float32]]:
        """Run through an IOBinding, so that data moves to the device and back only once.

        The batch is padded to a power of two, because cuDNN chooses an algorithm for each new
        shape. The outputs of the padding are cut off.
        """
        padded = pad_to_bucket(image)  # the binding does not keep its memory alive
        binding = self._session.io_binding()
        binding.bind_cpu_input(self.spec.input.name, padded)
        for name in self._output_names if outputs is None else outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        found: list[NDArray[np.float32]] = binding.copy_outputs_to_cpu()
        return [output[: len(image)] for output in found]


def pad_to_bucket(image: NDArray[Any]) -> NDArray[Any]:
    """The rows of a batch, followed by zeros up to the next power of two (at least one row)."""
    rows = len(image)
    bucket = 1 << max(0, rows - 1).bit_length()
    if rows == bucket:
        return image
    padded = np.zeros_like(image, shape=(bucket, *image.shape[1:]))
    padded[:rows] = image
    return padded


@dataclass(slots=True)
class _Report:
    """The fields of the log line about the choice."""

    excluded: dict[str, str] = field(default_factory=dict)
    measured_ms: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def open_sessions(
    directory: Path, manifest: Manifest, settings: SessionSettings
) -> dict[ModelName, ModelSession]:
    """Open every model of a manifest after checking its hash and its declared shapes.

    If a model has several candidates, each is opened and measured with the threads of the service,
    and only the best one is kept. One log line reports the choice.

    Raises:
        ModelError: a file or a graph is not the one of the manifest, no ONNX Runtime is installed,
            or the settings demand a provider or a precision that is not available.
    """
    missing = missing_providers(available_providers())
    not_offered = set(missing)
    report = _Report()
    sessions: dict[ModelName, ModelSession] = {}
    for name, spec in manifest.models.items():
        sessions[name] = _open_best(directory, name, spec, settings, missing, report)
    release_free_memory()  # of the other candidates, and of the graphs before their optimization
    placements: dict[str, str] = {
        name: str(session.placement) for name, session in sessions.items()
    }
    for provider in missing.keys() - not_offered:
        _logger.warning(
            "%s is offered but does not work: models run on other providers",
            provider,
            extra={"fields": {"why": missing[provider], "check": ADVICE[provider], **placements}},
        )
    _logger.info(
        "models loaded",
        extra={
            "fields": {
                **placements,
                "reasons": report.reasons,
                "measured_ms": report.measured_ms,
                "excluded": report.excluded,
            }
        },
    )
    return sessions


def _open_best(
    directory: Path,
    name: ModelName,
    spec: ModelSpec,
    settings: SessionSettings,
    missing: dict[Provider, str],
    report: _Report,
) -> ModelSession:
    """The best candidate of one model; a provider that fails is added to `missing` for all."""
    opened: dict[Placement, ModelSession] = {}
    while not opened:
        found = candidates(
            name,
            spec,
            settings.provider,
            settings.precision,
            missing=missing,
            int8_is_exact=adds_int8_exactly(cpu_flags()),
        )
        for placement in found.placements:
            try:
                opened[placement] = _open(directory, spec, placement, settings)
            except ProviderError as error:
                # If the settings demand this provider, `candidates` raises the error.
                missing[placement.provider] = str(error)
                opened.clear()
                break
    report.excluded |= found.excluded
    taken, report.reasons[name] = _pick(name, opened, settings.workers, report)
    if doubt := found.doubts.get(taken):
        _logger.warning("%s runs as %s, as configured, although %s", name, taken, doubt)
    latency_threads = min(settings.workers, _MAX_LATENCY_THREADS)
    if (
        name in _LATENCY_SESSION_MODELS
        and taken.provider == "cpu"
        and latency_threads > settings.intra_op_threads
    ):
        opened[taken].use_latency_session(
            _open_graph(directory, spec, taken, settings, latency_threads, spins=True)
        )
    return opened[taken]


def _pick(
    name: ModelName, opened: Mapping[Placement, ModelSession], workers: int, report: _Report
) -> tuple[Placement, str]:
    if len(opened) == 1:
        return next(iter(opened)), "the only candidate"
    batch = _TRIAL_BATCH[name]
    if all(placement.provider == "cuda" for placement in opened):
        batch *= _CUDA_TRIAL_FACTOR
    seconds = time_calls(
        {
            placement: partial(session.run, sample(session.spec, batch))
            for placement, session in opened.items()
        },
        workers,
    )
    report.measured_ms |= {f"{name} {p}": round(s * 1e3, 3) for p, s in seconds.items()}
    return fastest(seconds)


def _open(
    directory: Path, spec: ModelSpec, placement: Placement, settings: SessionSettings
) -> ModelSession:
    graph = _open_graph(directory, spec, placement, settings, settings.intra_op_threads)
    return ModelSession(graph, spec, placement)


def _open_graph(
    directory: Path,
    spec: ModelSpec,
    placement: Placement,
    settings: SessionSettings,
    threads: int,
    *,
    spins: bool = False,
) -> onnxruntime.InferenceSession:
    return open_graph(
        check_file(directory, files_by_precision(spec)[placement.precision]),
        spec,
        placement.provider,
        workers=settings.workers,
        intra_op_threads=threads,
        spins=spins,
    )


# The approximate side of P-Net's tiles. Only P-Net has a free height and width.
_FREE_SIDE = 160


def available_providers() -> list[str]:
    """The execution providers of the installed ONNX Runtime, by the names of ONNX Runtime.

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
    """A session that has completed one call on the provider.

    Args:
        spins: whether the threads of a call wait for each other in a busy loop. The loop ends with
            the call.

    Raises:
        ModelError: ONNX Runtime cannot load the file, or the graph is not the one of the manifest.
        ProviderError: the provider is offered but does not run the model.
    """
    import onnxruntime

    if provider == "cuda":
        _load_cuda()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A spinning thread takes a core from decoding, PostgreSQL and the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    chain = provider_chain(provider, workers, intra_op_threads)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=chain)
    except Exception as error:
        raise _failure(provider)(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
    # ONNX Runtime drops a provider that fails to start, without an exception.
    if (first := session.get_providers()[0]) != EXECUTION_PROVIDERS[provider]:
        raise ProviderError(f"{path.name} started on {first} instead")
    _check_graph(session, spec)
    try:
        # Some faults, such as a missing cuDNN, appear only in the first call.
        session.run(None, {spec.input.name: sample(spec, 1)})
    except Exception as error:
        raise _failure(provider)(f"{path} cannot be run by ONNX Runtime: {error}") from error
    return session


@cache
def _load_cuda() -> None:
    """Load, once, the libraries of CUDA and cuDNN that pip installed, if it did."""
    import onnxruntime

    with redirect_stdout(StringIO()) as said:  # it prints what it does not find
        onnxruntime.preload_dlls()
    if said.getvalue():
        _logger.info("CUDA: %s", " ".join(said.getvalue().split()))


def sample(spec: ModelSpec, batch: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Random pixels in a model's layout and dtype: `batch` faces or crops, or tiles of 160 pixels.

    The contents do not matter, because the networks do the same work for every image.
    """
    shape = [side if isinstance(side, int) else _FREE_SIDE for side in spec.input.shape[1:]]
    low, high = spec.input.value_range
    pixels = np.random.default_rng(0).integers(low, high, (batch, *shape), np.uint8, endpoint=True)
    return pixels if spec.input.dtype == "uint8" else pixels.astype(np.float32)


def _failure(provider: Provider) -> type[ModelError]:
    # A file that fails on the CPU is faulty. After a failure elsewhere, the CPU is tried next.
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

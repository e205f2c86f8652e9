"""ONNX Runtime's execution providers: their names, their options, and advice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from service.runtime.manifest import Precision

Provider = Literal["cpu", "openvino", "cuda"]

EXECUTION_PROVIDERS: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
ADVICE: dict[Provider, str] = {
    "cpu": "install the extra facette[cpu]",
    "openvino": "install the extra facette[openvino] instead of facette[cpu] (both wheels install "
    "the same module: uninstall the other one first), on an x86-64 machine",
    "cuda": "install the extra facette[gpu] instead of facette[cpu], check the driver with "
    "nvidia-smi, and that CUDA and cuDNN are of the versions this ONNX Runtime was built for",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """The provider and the precision of a model."""

    provider: Provider
    precision: Precision

    def __str__(self) -> str:
        return f"{self.provider}/{self.precision}"


def missing_providers(available: Sequence[str]) -> dict[Provider, str]:
    """The providers that this ONNX Runtime lacks, each with the reason.

    Args:
        available: the names that onnxruntime.get_available_providers gives.
    """
    return {
        provider: "this build of ONNX Runtime does not offer it"
        for provider in get_args(Provider)
        if EXECUTION_PROVIDERS[provider] not in available
    }


def provider_chain(
    provider: Provider, workers: int, intra_op_threads: int
) -> list[tuple[str, dict[str, str]]]:
    """Names and options for an InferenceSession; the CPU is the last in every chain.

    Source: ONNX Runtime's pages on the CUDA and OpenVINO execution providers, and OpenVINO's page
    on CPU inference properties.
    """
    cpu: tuple[str, dict[str, str]] = (EXECUTION_PROVIDERS["cpu"], {})
    if provider == "cpu":
        return [cpu]
    options = {"openvino": _openvino, "cuda": _cuda}[provider](workers, intra_op_threads)
    return [(EXECUTION_PROVIDERS[provider], options), cpu]


def _openvino(workers: int, intra_op_threads: int) -> dict[str, str]:
    # One stream for each worker; the threads are counted over all streams. Calls wait for
    # OpenVINO's threads, so the cores in use stay workers x intra_op_threads.
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",  # else it may convert fp32 to bf16 on CPUs with bf16
        "NUM_STREAMS": str(workers),
        "INFERENCE_NUM_THREADS": str(workers * intra_op_threads),
        "ENABLE_CPU_PINNING": "NO",  # the cores are shared with decoding and PostgreSQL
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}


def _cuda(workers: int, intra_op_threads: int) -> dict[str, str]:
    del workers, intra_op_threads  # one stream; the calls of all workers take turns on it
    return {
        # The exhaustive default tries every algorithm on each new shape, for seconds.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles the arena at each growth.
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 rounds fp32 to 10 bits, which changes the detected faces.
        "use_tf32": "0",
    }

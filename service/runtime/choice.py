"""The providers and precisions that a model can have on this machine, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from service.domain.errors import ModelError
from service.runtime.manifest import ModelName, ModelSpec, Precision, Variant
from service.runtime.providers import ADVICE, Placement, Provider

ProviderSetting = Literal["auto", "cpu", "cuda", "openvino"]
PrecisionSetting = Literal["auto", "fp32", "int8", "fp16"]

# A placement must be faster by more than this share to be worth less exact results.
TIE_MARGIN = 0.05
# The first of these wins a tie: the most exact precision, then the simplest provider.
_TIE_ORDER = [
    Placement(provider, precision)
    for precision in ("fp32", "fp16", "int8")
    for provider in ("cpu", "openvino", "cuda")
]

_SATURATES = (
    "this CPU has no VNNI, AMX or Arm dot product: 8-bit sums saturate, and vectors differ from "
    "those of the other precisions"
)
_HALF_ON_CPU = "CPUs convert fp16 to fp32 in every call, which is slower than fp32"
_INT8_ON_CUDA = "CUDA has no int8 kernels and converts the weights to floats in every call"
_NEW_SHAPES = (
    "it compiles the model for every new size of a tile, which is slower than the CPU and takes "
    "half a megabyte of memory each time"
)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The placements that a model can have on this machine.

    placements: at least one.
    excluded: the reason against each other placement, by provider or placement.
    doubts: the reason against a placement that `auto` would not choose, but the settings demand.
    """

    placements: tuple[Placement, ...]
    excluded: Mapping[str, str]
    doubts: Mapping[Placement, str]


def candidates(
    name: ModelName,
    spec: ModelSpec,
    provider: ProviderSetting,
    precision: PrecisionSetting,
    *,
    missing: Mapping[Provider, str],
    int8_is_exact: bool,
) -> Candidates:
    """The placements that the settings, the manifest and the machine allow.

    Models without an embedding run in fp32 under every setting, so that they detect the same faces.
    A placement that works but is inferior (8 bits on a CPU that saturates, fp16 on a CPU) is a
    candidate only if the settings allow no other.

    Args:
        missing: the providers that cannot be used, with the reason.
        int8_is_exact: whether the CPU adds products of bytes without saturation.

    Raises:
        ModelError: the settings demand a provider or a precision that is not available.
    """
    if provider != "auto" and provider in missing:
        raise ModelError(
            f"inference.provider is '{provider}', but {missing[provider]}: "
            f"{ADVICE[provider]}; or set 'auto'"
        )
    has = files_by_precision(spec)
    if spec.embedding is None:
        precision = "fp32"
    if precision != "auto" and precision not in has:
        raise ModelError(
            f"inference.precision is '{precision}', but the manifest has no such file of "
            f"{name}: run `facette export` again, or set 'auto'"
        )
    places, excluded = _places(name, provider, missing)
    good: list[Placement] = []
    doubts: dict[Placement, str] = {}
    for placement in (Placement(place, kind) for place in places for kind in get_args(Precision)):
        if placement.precision not in has:
            # MTCNN always has fp32 files only.
            if spec.embedding is not None:
                excluded[f"{name} {placement}"] = "the manifest has no such file"
        elif precision not in ("auto", placement.precision):
            excluded[f"{name} {placement}"] = f"inference.precision is '{precision}'"
        elif doubt := _doubt(placement, int8_is_exact):
            doubts[placement] = doubt
        else:
            good.append(placement)
    if good:
        excluded |= {f"{name} {placement}": reason for placement, reason in doubts.items()}
        doubts = {}
    left = good or list(doubts)
    if on_gpu := [placement for placement in left if placement.provider == "cuda"]:
        behind = (placement for placement in left if placement not in on_gpu)
        excluded |= {f"{name} {placement}": "CUDA is offered and preferred" for placement in behind}
        left = on_gpu
    return Candidates(tuple(left), excluded, {p: doubts[p] for p in left if p in doubts})


def files_by_precision(spec: ModelSpec) -> dict[Precision, ModelSpec | Variant]:
    """The files of a model in the manifest; the model itself is fp32."""
    return {"fp32": spec, **{variant.precision: variant for variant in spec.variants}}


def fastest(seconds: Mapping[Placement, float]) -> tuple[Placement, str]:
    """The best placement with the reason: the fastest, or a more exact one within `TIE_MARGIN`.

    Args:
        seconds: the measured duration of a call on each candidate.
    """
    best = min(seconds, key=lambda placement: seconds[placement])
    near = [p for p in seconds if seconds[p] <= seconds[best] * (1 + TIE_MARGIN)]
    taken = min(near, key=_TIE_ORDER.index)
    if taken == best:
        return taken, f"the fastest of {len(seconds)}"
    return taken, f"within {TIE_MARGIN:.0%} of the fastest, {best}, and more exact or simpler"


def _doubt(placement: Placement, int8_is_exact: bool) -> str | None:
    on_cuda = placement.provider == "cuda"
    if placement.precision == "int8":
        if on_cuda:
            return _INT8_ON_CUDA
        return None if int8_is_exact else _SATURATES
    return _HALF_ON_CPU if placement.precision == "fp16" and not on_cuda else None


def _places(
    name: ModelName, provider: ProviderSetting, missing: Mapping[Provider, str]
) -> tuple[list[Provider], dict[str, str]]:
    excluded: dict[str, str] = {str(place): reason for place, reason in missing.items()}
    offered = [place for place in get_args(Provider) if place not in missing]
    if name == "pnet" and "openvino" in offered:
        offered.remove("openvino")
        excluded[f"{name} openvino"] = _NEW_SHAPES
        provider = "cpu" if provider == "openvino" else provider
    if provider == "auto":
        return offered, excluded
    for place in offered:
        if place != provider:
            excluded[f"{name} {place}"] = f"inference.provider is '{provider}'"
    return [provider], excluded

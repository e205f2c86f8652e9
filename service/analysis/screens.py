"""Opens the screens of P-Net and R-Net on machines that can run them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numba

from service.domain.errors import ModelError
from service.machine.cpu import cpu_flags
from service.runtime.manifest import Manifest, ModelName, ScreenSpec, check_file
from service.runtime.sessions import ModelSession
from service.vision.rnet_screen import RnetScreen, RnetScreenWeights
from service.vision.screen import Screen, ScreenWeights
from service.vision.screening import Margin, read_weights

_logger = logging.getLogger(__name__)
_OF_NUMBA: Any = numba.config
_Weights = TypeVar("_Weights", ScreenWeights, RnetScreenWeights)
_TITLES: Mapping[ModelName, str] = {"pnet": "P-Net", "rnet": "R-Net"}

# The instruction sets of the kernels: vectors of 512 bits, four products of bytes at once.
SCREEN_FLAGS = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_vnni"})


@dataclass(frozen=True, slots=True)
class Screens:
    """pnet, rnet: None for a network that judges all of its inputs itself."""

    pnet: Screen | None = None
    rnet: RnetScreen | None = None


def open_screens(
    directory: Path,
    manifest: Manifest,
    sessions: Mapping[ModelName, ModelSession],
    flags: frozenset[str] | None = None,
) -> Screens:
    """The screens that the manifest has and that this machine can run.

    Args:
        flags: the instruction sets of the processor; None to detect them.

    Raises:
        ModelError: the file of a screen is not the one of the manifest.
    """
    if flags is None:
        flags = cpu_flags()
    pnet = _open(directory, "pnet", manifest.screen, sessions, flags, ScreenWeights)
    rnet = _open(directory, "rnet", manifest.rnet_screen, sessions, flags, RnetScreenWeights)
    return Screens(
        None if pnet is None else Screen(*pnet), None if rnet is None else RnetScreen(*rnet)
    )


def _open(
    directory: Path,
    name: ModelName,
    spec: ScreenSpec | None,
    sessions: Mapping[ModelName, ModelSession],
    flags: frozenset[str],
    weights: type[_Weights],
) -> tuple[_Weights, Margin] | None:
    """The weights and the margin of a screen."""
    title, provider = _TITLES[name], sessions[name].placement.provider
    missing = SCREEN_FLAGS - flags
    if spec is None:
        reason = "the manifest has no screen"
    elif provider == "cuda":
        reason = f"{title} runs on {provider}"
    elif missing:
        reason = f"the processor lacks {', '.join(sorted(missing))}"
    elif _OF_NUMBA.CPU_NAME is not None or _OF_NUMBA.CPU_FEATURES is not None:
        # Numba compiles for another processor then, which may lack these instructions.
        reason = "NUMBA_CPU_NAME or NUMBA_CPU_FEATURES is set"
    else:
        path = check_file(directory, spec)
        try:
            read = read_weights(weights, path)
        except (KeyError, OSError, ValueError) as error:
            raise ModelError(f"{path} is not a screen: run `facette export` again") from error
        fields = {"margin": spec.margin, "inputs": spec.cells}
        _logger.info("%s is screened", title, extra={"fields": fields})
        return read, Margin(spec.margin, spec.threshold)
    _logger.info("%s is not screened", title, extra={"fields": {"reason": reason}})
    return None

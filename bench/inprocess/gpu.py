"""An NVIDIA GPU: FaceNet by batch and precision, TensorRT, detection there and on the cores."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.common.harness import (
    MODELS,
    Pixels,
    by_callers,
    default_settings,
    describe,
    embedders,
    in_calls,
    running_analyzer,
    running_detector,
    sessions,
)
from bench.common.measure import Work, interleave
from bench.common.photos import LONG_SIDE, Photo, face_crops, load, source
from bench.common.result import Effort, Result
from service.analysis.analyzer import AnalysisSettings, Analyzer
from service.analysis.embedder import FaceEmbedder
from service.analysis.stages import StageFactory
from service.batching import WorkerPool, free_ticket
from service.runtime.providers import EXECUTION_PROVIDERS, Provider
from service.runtime.sessions import available_providers
from service.telemetry import StageClock

_BATCHES, _QUICK_BATCHES = (1, 8, 16, 32, 64, 128, 256), (1, 4)
_FACES, _QUICK_FACES = 1024, 8
_CALLERS, _QUICK_CALLERS = 128, 4
_PHOTOS, _QUICK_PHOTOS = 96, 2
_TENSORRT = "TensorrtExecutionProvider"

Call = Callable[[Pixels], object]
"""Embeds the faces of a batch, uint8 [n, side, side, 3]."""


async def run(effort: Effort) -> Result:
    """Measure faces and photos a second.

    Raises:
        SystemExit: ONNX Runtime has no CUDA here. A quick run measures the CPU in its place.
    """
    provider = _provider(quick=effort.quick)
    settings = _on(provider)
    before_mb = _memory_mb()
    crops = face_crops(160, _QUICK_FACES if effort.quick else _FACES)
    photos = load(LONG_SIDE, _QUICK_PHOTOS if effort.quick else _PHOTOS)
    callers = _QUICK_CALLERS if effort.quick else _CALLERS
    models, on_cores = sessions(settings), sessions(_on("cpu"))
    raw, notes = _raw(settings, crops, _QUICK_BATCHES if effort.quick else _BATCHES)
    pool = WorkerPool(settings.workers)
    embedder = FaceEmbedder(models["embedder"], StageFactory(pool))

    async def one(crop: Pixels) -> None:
        await embedder.embed([crop], free_ticket())

    async with (
        running_analyzer(settings) as analyzer,
        running_detector(settings, models) as detect,
        running_detector(_on("cpu"), on_cores) as detect_on_cores,
    ):
        pixels = [photo.pixels for photo in photos]
        batcher = f"faces, {callers} callers of one each"
        there, here = f"detection, {provider}", f"detection, {settings.workers} cores"
        rates = await interleave(
            {
                **raw,
                batcher: lambda: by_callers(crops, one, callers),
                there: lambda: by_callers(pixels, detect, callers),
                here: lambda: by_callers(pixels, detect_on_cores, callers),
                f"photos, {callers} callers": partial(_analysis, analyzer, photos, callers),
            },
            effort.rounds,
        )
        used_mb = _memory_mb()
    await embedder.drain()
    await pool.aclose()
    best = max(raw, key=lambda name: rates[name].median)
    return Result(
        unit="a second",
        rates=rates,
        compared={
            "gpu_batcher_vs_raw_session": (batcher, best),
            "gpu_detection_vs_cores": (there, here),
        },
        details={
            "gpu": {
                "name": _asked_of_driver("name"),
                "driver": _asked_of_driver("driver_version"),
                "memory_mb_before": before_mb,
                "memory_mb": used_mb,
            }
        },
        configuration={"faces": len(crops), "photos": len(photos), **describe(settings, models)},
        notes=[
            f"Raw sessions run in {settings.workers} threads; the best is: {best}.",
            f"Photos have a longer side of {LONG_SIDE} px, and are JPEG files in the analysis.",
            *notes,
        ],
    )


def _provider(*, quick: bool) -> Provider:
    if EXECUTION_PROVIDERS["cuda"] in available_providers():
        return "cuda"
    if quick:
        return "cpu"
    raise SystemExit("ONNX Runtime offers no CUDA here: `make gpu` installs the build that does")


def _on(provider: Provider) -> AnalysisSettings:
    """The default settings, with all models on one provider."""
    settings = default_settings()
    return dataclasses.replace(
        settings, sessions=dataclasses.replace(settings.sessions, provider=provider)
    )


def _raw(
    settings: AnalysisSettings, crops: Sequence[Pixels], batches: Sequence[int]
) -> tuple[Mapping[str, Work], list[str]]:
    """Calls of bare sessions, and what could not be opened."""
    works: dict[str, Work] = {}
    notes: list[str] = []

    def add(name: str, call: Call) -> None:
        for batch in batches:
            work = in_calls(crops, batch, call, settings.workers)
            works[f"raw session, {name}, batch {batch}"] = work

    found = embedders(settings.sessions)
    if settings.sessions.provider == "cuda":
        found.pop("int8", None)  # CUDA has no kernels for it
    for precision, session in found.items():
        add(f"{session.placement.provider}/{precision}", session.run)
    if _TENSORRT in available_providers():
        spec = found["fp32"].spec
        try:
            add("TensorRT fp16", _tensorrt(MODELS / spec.file, spec.input.name, crops, batches))
        except Exception as error:  # whatever its libraries lack is worth a line
            notes.append(f"TensorRT could not be used: {error}.")
    else:
        notes.append("This build of ONNX Runtime has no TensorRT.")
    return works, notes


def _tensorrt(model: Path, name: str, crops: Sequence[Pixels], batches: Sequence[int]) -> Call:
    """A call of FaceNet in fp16 by TensorRT, whose engine is built here for batches of all sizes.

    Raises:
        RuntimeError: the provider did not start.
    """
    import onnxruntime

    face = "x".join(map(str, crops[0].shape))
    options = {"trt_fp16_enable": "1"} | {
        f"trt_profile_{which}_shapes": f"{name}:{batch}x{face}"
        for which, batch in (("min", batches[0]), ("opt", batches[-1]), ("max", batches[-1]))
    }
    session = onnxruntime.InferenceSession(
        model, providers=[(_TENSORRT, options), EXECUTION_PROVIDERS["cuda"]]
    )
    if session.get_providers()[0] != _TENSORRT:
        raise RuntimeError(f"the session started on {session.get_providers()[0]}")

    def call(faces: Pixels) -> object:
        return session.run(None, {name: faces})

    for batch in (batches[0], batches[-1]):
        call(np.stack(crops[:batch]))
    return call


async def _analysis(analyzer: Analyzer, photos: Sequence[Photo], callers: int) -> int:
    return await by_callers(
        photos,
        lambda photo: analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket()),
        callers,
    )


def _memory_mb() -> float | None:
    """Memory of the GPU that is in use; None without one."""
    used = _asked_of_driver("memory.used")
    return None if used is None else float(used.split()[0])


def _asked_of_driver(what: str) -> str | None:
    """A fact of the first GPU; None where there is none, or its driver does not tell."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader", "--id=0"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    found = said.stdout.strip()
    return None if said.returncode or found.startswith("[") else found

"""Shared by the in-process benches: the models, and work spread over callers or threads."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.common.measure import Work
from service.analysis.analyzer import AnalysisSettings, Analyzer
from service.analysis.detector import CascadeDetector
from service.analysis.finder import FaceFinder
from service.analysis.screens import Screens, open_screens
from service.analysis.stages import StageFactory
from service.app.settings import analysis_settings
from service.batching import WorkerPool, free_ticket
from service.config import AuthConfig, Config
from service.domain.types import Detection
from service.runtime.manifest import ModelName, ModelSpec, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.telemetry import Metrics
from service.vision.resample import summed_area_table
from service.vision.views import View

MODELS = Path(__file__).resolve().parents[2] / "models"

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Sessions = Mapping[ModelName, ModelSession]


def default_settings() -> AnalysisSettings:
    """The analyzer's settings of an untouched configuration on this machine."""
    return analysis_settings(Config(auth=AuthConfig(token="unused-here")))  # noqa: S106


def sessions(settings: AnalysisSettings) -> dict[ModelName, ModelSession]:
    """The models as the service opens them."""
    return open_sessions(MODELS, load_manifest(MODELS), settings.sessions)


def embedders(settings: SessionSettings, models: Path = MODELS) -> dict[str, ModelSession]:
    """The embedder in every precision that the manifest offers, by precision."""
    manifest = load_manifest(models)
    spec = manifest.models["embedder"]
    found: dict[str, ModelSession] = {}
    for file in spec.files:
        precision = "fp32" if isinstance(file, ModelSpec) else file.precision
        # A manifest of this one file, so that nothing else can be chosen.
        alone = spec.model_copy(update={"file": file.file, "sha256": file.sha256, "variants": ()})
        only = manifest.model_copy(update={"models": {"embedder": alone}})
        found[precision] = open_sessions(models, only, settings)["embedder"]
    return found


def describe(settings: AnalysisSettings, models: Sessions) -> dict[str, Any]:
    """The settings, and the provider and precision of each model."""
    return {
        "settings": dataclasses.asdict(settings),
        "models": {
            name: {
                "file": session.spec.file,
                "provider": session.placement.provider,
                "precision": session.placement.precision,
            }
            for name, session in models.items()
        },
    }


def compatible_settings() -> AnalysisSettings:
    """The same for detection.compatible."""
    return dataclasses.replace(default_settings(), compatible=True)


@asynccontextmanager
async def running_analyzer(
    settings: AnalysisSettings, models: Path = MODELS, space: str | None = None
) -> AsyncIterator[Analyzer]:
    """A warm analyzer for the time of the block; of the default space unless another is named.

    In compatible mode that is facenet-pytorch's.
    """
    if space is None and settings.compatible:
        space = load_manifest(models).models["embedder"].embeddings[-1].space
    analyzer = await asyncio.to_thread(Analyzer, models, settings, Metrics(), space)
    await analyzer.warm_up()
    try:
        yield analyzer
    finally:
        await analyzer.aclose()


@asynccontextmanager
async def running_detector(
    settings: AnalysisSettings, models: Sessions, screens: Screens | None = None
) -> AsyncIterator[Callable[[Pixels], Awaitable[Sequence[Detection]]]]:
    """Detection from pixels, uint8 [height, width, 3] RGB, for the time of the block.

    The summed-area table is a stage of its own in the same pool, as it is in the analyzer.

    Args:
        screens: of P-Net and R-Net; None for those of the settings.
    """
    if screens is None:
        manifest = load_manifest(MODELS)
        screens = open_screens(MODELS, manifest, models) if settings.screen else Screens()
    pool = WorkerPool(settings.workers)
    stages = StageFactory(pool)
    preparer = stages.make("prepare", _tables)
    detector = CascadeDetector(
        models["pnet"],
        models["rnet"],
        models["onet"],
        settings.cascade,
        stages=stages,
        screens=screens,
    )

    finder = FaceFinder(
        detector,
        settings.cascade,
        min_confidence=settings.min_confidence,
        compatible=settings.compatible,
    )

    async def detect(pixels: Pixels) -> Sequence[Detection]:
        found = await finder.find(await preparer.submit(pixels), free_ticket())
        return found.faces

    try:
        yield detect
    finally:
        await preparer.drain()
        await detector.drain()
        await pool.aclose()


def prepare(pixels: Pixels) -> View:
    """The input of the cascade, from uint8 [height, width, 3] RGB."""
    return View.of(summed_area_table(pixels))


def _tables(photos: Sequence[Pixels]) -> list[NDArray[np.uint32]]:
    return [summed_area_table(pixels) for pixels in photos]


async def by_callers(
    items: Sequence[T], act: Callable[[T], Awaitable[object]], callers: int
) -> int:
    """Let `callers` coroutines work through the items; returns how many there were."""
    waiting = iter(items)

    async def caller() -> None:
        for item in waiting:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return len(items)


async def by_threads(items: Sequence[T], act: Callable[[T], object], threads: int) -> int:
    """Let `threads` threads work through the items; returns how many there were."""

    def run() -> int:
        with ThreadPoolExecutor(threads) as executor:
            return len(list(executor.map(act, items)))

    return await asyncio.to_thread(run)


def in_calls(
    crops: Sequence[Pixels], batch: int, call: Callable[[Pixels], object], threads: int
) -> Work:
    """Work through all crops in calls of `batch` crops each, from some threads.

    Args:
        crops: uint8 [side, side, 3] each. call: takes uint8 [n, side, side, 3].
    """
    stacks = [np.stack(crops[start : start + batch]) for start in range(0, len(crops), batch)]

    async def work() -> int:
        await by_threads(stacks, call, threads)
        return len(crops)

    return work

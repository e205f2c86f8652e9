"""Cost by batch, threads, precision, image size and number of faces; peak memory."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from bench.common.harness import (
    Pixels,
    Sessions,
    default_settings,
    describe,
    embedders,
    in_calls,
    running_analyzer,
    running_detector,
    sessions,
)
from bench.common.measure import Samples, Work, interleave
from bench.common.photos import LONG_SIDE, face_crops, load, source
from bench.common.result import Curve, Effort, Result
from bench.inprocess import memory
from bench.inprocess.canvases import face_tiles, jpeg, mosaic, scaled
from bench.inprocess.facenet_pytorch import NAME, STAND_IN, FacenetPytorch
from service.analysis.analyzer import AnalysisSettings
from service.batching import free_ticket
from service.machine.cpu import usable_cores
from service.runtime.sessions import ModelSession
from service.telemetry import StageClock

_FULL_SIZE = 1 << 16
_BATCHES = (1, 2, 4, 8, 16, 32)
_BATCH = 8
_MEGAPIXELS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
_MEASURED_PIXELS = 2_000_000
_FACES = (1, 4, 16, 64)


async def run(effort: Effort) -> Result:
    """Measure every curve, and the peak memory of both."""
    settings = default_settings()
    models = sessions(settings)
    peer = FacenetPytorch(usable_cores(), settings.cascade.min_face_size)
    curves = await _embedding(settings, effort)
    sizes, faces, found = await _canvases(settings, models, effort)
    curves["image_size"] = await _costs(settings, models, peer, sizes, effort, "megapixels")
    curves["faces"] = await _costs(settings, models, peer, faces, effort, "faces on the canvas")
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as folder:
        peer.save_weights(weights := Path(folder) / "weights.pt")
        photos = load(LONG_SIDE, 2 if effort.quick else 24)
        peaks = memory.measure(photos, weights)
    return Result(
        unit="",
        rates={},
        compared={},
        curves=curves,
        details={
            "memory_mb": {
                f"{contestant}, {moment}": peak
                for contestant, moments in peaks.items()
                for moment, peak in moments.items()
            },
        },
        configuration={
            "batch_against_threads": _BATCH,
            "photos_for_memory": len(photos),
            "canvas_side": LONG_SIDE,
            "torch_threads": usable_cores(),
            **describe(settings, models),
        },
        notes=[
            (
                "Faces a second: raw FaceNet sessions with "
                f"{settings.sessions.intra_op_threads} intra-op thread each, in every precision of "
                f"the manifest; against the batch in {settings.workers} threads, against threads "
                f"in batches of {_BATCH}."
            ),
            (
                "Milliseconds a photo: one caller, shapes seen before. Detection starts from "
                "pixels, analysis from a JPEG file's bytes."
            ),
            (
                "Image size: the photo with the most pixels, scaled. Faces: as many tiles of 128 "
                f"px, each with a real face, on a gray square of {LONG_SIDE} px; Facette finds "
                f"{', '.join(f'{n} of {placed}' for placed, n in found.items())}."
            ),
            (
                "Memory: the largest resident size of a process that does nothing else, over "
                f"{len(photos)} photos, longer side {LONG_SIDE} px; Facette under "
                f"{memory.CALLERS} callers, {NAME} one by one, with its weights from a file as it "
                "publishes them."
            ),
            f"{STAND_IN}.",
        ],
    )


async def _embedding(settings: AnalysisSettings, effort: Effort) -> dict[str, Curve]:
    by_precision = embedders(settings.sessions)
    crops = face_crops(160, (_BATCH if effort.quick else 32) * settings.workers)
    batches = _BATCHES[:2] if effort.quick else _BATCHES

    def work(session: ModelSession, batch: int, threads: int) -> Work:
        return in_calls(crops, batch, session.run, threads)

    return {
        "embed_batch": Curve(
            "faces in one call",
            "faces/s",
            await _measure(
                {
                    precision: {b: work(session, b, settings.workers) for b in batches}
                    for precision, session in by_precision.items()
                },
                effort.rounds,
            ),
        ),
        "embed_threads": Curve(
            "threads",
            "faces/s",
            await _measure(
                {
                    precision: {n: work(session, _BATCH, n) for n in _threads()}
                    for precision, session in by_precision.items()
                },
                effort.rounds,
            ),
        ),
    }


def _threads() -> list[int]:
    """1, 2, 4 ... and all cores."""
    cores = usable_cores()
    return sorted({*(1 << n for n in range(cores.bit_length()) if 1 << n <= cores), cores})


async def _canvases(
    settings: AnalysisSettings, models: Sessions, effort: Effort
) -> tuple[dict[float, Pixels], dict[float, Pixels], dict[int, int]]:
    """Photos by megapixels and by number of faces, and the numbers of faces found."""
    photos = 2 if effort.quick else 64
    originals = load(_FULL_SIZE, photos)
    largest = max(originals, key=lambda photo: photo.pixels.size).pixels
    sizes = {n: scaled(largest, n) for n in _MEGAPIXELS[: 2 if effort.quick else None]}
    async with running_detector(settings, models) as detect:
        tiles = await face_tiles(load(LONG_SIDE, photos), detect)
        faces = {n: mosaic(tiles, n, LONG_SIDE) for n in _FACES[: 2 if effort.quick else None]}
        found = {n: len(await detect(canvas)) for n, canvas in faces.items()}
    return sizes, {float(n): canvas for n, canvas in faces.items()}, found


async def _costs(
    settings: AnalysisSettings,
    models: Sessions,
    peer: FacenetPytorch,
    canvases: Mapping[float, Pixels],
    effort: Effort,
    x_label: str,
) -> Curve:
    """Milliseconds a photo, for one caller."""
    async with running_detector(settings, models) as detect, running_analyzer(settings) as analyzer:

        def repeated(act: Callable[[], Awaitable[object]], pixels: Pixels) -> Work:
            # A small photo alone would be too short a time to measure.
            times = max(1, _MEASURED_PIXELS * 3 // pixels.size)

            async def work() -> int:
                for _ in range(times):
                    await act()
                return times

            return work

        async def analyzes(data: bytes) -> None:
            await analyzer.analyze(source(data), StageClock(), free_ticket())

        async def peer_detects(pixels: Pixels) -> None:
            peer.detect(pixels)

        async def peer_analyzes(data: bytes) -> None:
            peer.analyze(data)

        def each(act: Callable[[float], Awaitable[object]]) -> dict[float, Work]:
            return {x: repeated(partial(act, x), pixels) for x, pixels in canvases.items()}

        files = {x: jpeg(pixels) for x, pixels in canvases.items()}
        rates = await _measure(
            {
                "Facette, detection": each(lambda x: detect(canvases[x])),
                "Facette, analysis": each(lambda x: analyzes(files[x])),
                f"{NAME}, detection": each(lambda x: peer_detects(canvases[x])),
                f"{NAME}, analysis": each(lambda x: peer_analyzes(files[x])),
            },
            effort.rounds,
        )
    costs = {
        line: {x: samples.inverted(1e3) for x, samples in points.items()}
        for line, points in rates.items()
    }
    return Curve(x_label, "ms a photo", costs)


async def _measure(
    works: Mapping[str, Mapping[float, Work]], rounds: int
) -> dict[str, dict[float, Samples]]:
    named = {f"{line}, {x:g}": work for line, points in works.items() for x, work in points.items()}
    rates = await interleave(named, rounds)
    return {line: {x: rates[f"{line}, {x:g}"] for x in points} for line, points in works.items()}

"""The whole path in process: a JPEG file's bytes to embeddings, next to facenet-pytorch."""

from __future__ import annotations

from bench.common.harness import by_callers, default_settings, describe, running_analyzer, sessions
from bench.common.measure import interleave
from bench.common.photos import LONG_SIDE, Photo, load, source
from bench.common.result import Effort, Result
from bench.inprocess.facenet_pytorch import NAME, STAND_IN, FacenetPytorch
from service.batching import free_ticket
from service.domain.types import AnalyzedPhoto
from service.machine.cpu import usable_cores
from service.telemetry import StageClock

_CALLERS = 16


async def run(effort: Effort) -> Result:
    """Measure photos a second."""
    settings = default_settings()
    photos = load(LONG_SIDE, 4 if effort.quick else 24)
    peer = FacenetPytorch(usable_cores(), settings.cascade.min_face_size)

    async def theirs() -> int:
        return len([peer.analyze(photo.jpeg) for photo in photos])

    async with running_analyzer(settings) as analyzer:

        async def analyze(photo: Photo) -> AnalyzedPhoto:
            return await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket())

        faces = sum([len((await analyze(photo)).faces) for photo in photos])
        ours = f"Facette, {_CALLERS} callers"
        rates = await interleave(
            {
                ours: lambda: by_callers(photos, analyze, _CALLERS),
                NAME: theirs,
                "Facette, one caller": lambda: by_callers(photos, analyze, 1),
            },
            effort.rounds,
        )
    return Result(
        unit="photos/s",
        rates=rates,
        compared={"analyze_vs_facenet_pytorch": (ours, NAME)},
        configuration={
            "photos_a_round": len(photos),
            "faces_a_round": faces,
            "long_side": LONG_SIDE,
            "torch_threads": usable_cores(),
            **describe(settings, sessions(settings)),
        },
        notes=[
            (
                f"{len(photos)} JPEG files a round with {faces} faces, longer side {LONG_SIDE} px: "
                "decode, detect, crop and embed. Facette also takes each photo's perceptual hash."
            ),
            (
                f"{NAME} decodes with OpenCV and takes one photo after the other on all "
                f"{usable_cores()} cores, every shape seen in the warm-up."
            ),
            f"{STAND_IN}.",
        ],
    )

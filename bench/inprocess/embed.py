"""Embedding: ours under concurrent callers, next to the bare session and facenet-pytorch."""

from __future__ import annotations

import numpy as np

from bench.common.harness import (
    Pixels,
    by_callers,
    default_settings,
    describe,
    in_calls,
    sessions,
)
from bench.common.measure import Work, interleave
from bench.common.photos import face_crops
from bench.common.result import Effort, Result
from bench.inprocess.facenet_pytorch import NAME, FacenetPytorch, standardised
from service.analysis.embedder import FaceEmbedder
from service.analysis.stages import StageFactory
from service.batching import WorkerPool, free_ticket
from service.machine.cpu import usable_cores

BATCH = 16
_CALLERS = 16
_RAW_BATCHES = (1, 4, 8, 16, 32)
_FEW_RAW_BATCHES = (1, 8)


async def run(effort: Effort) -> Result:
    """Measure faces a second."""
    settings = default_settings()
    models = sessions(settings)
    session = models["embedder"]
    pool = WorkerPool(settings.workers)
    embedder = FaceEmbedder(session, StageFactory(pool))
    raw_batches = _FEW_RAW_BATCHES if effort.quick else _RAW_BATCHES
    # Every worker gets whole batches, even of the largest size.
    crops = face_crops(embedder.facts.crop.size, (BATCH if effort.quick else 64) * settings.workers)
    batches = [crops[start : start + BATCH] for start in range(0, len(crops), BATCH)]
    peer = FacenetPytorch(usable_cores())

    async def in_batches() -> int:
        await by_callers(
            batches, lambda batch: embedder.embed(batch, free_ticket()), settings.workers
        )
        return len(crops)

    async def one(crop: Pixels) -> None:
        await embedder.embed([crop], free_ticket())

    async def through_batcher() -> int:
        return await by_callers(crops, one, _CALLERS)

    def theirs(*, channels_last: bool) -> Work:
        tensors = [standardised(np.stack(batch), channels_last=channels_last) for batch in batches]

        async def work() -> int:
            return sum(len(peer.embed(each)) for each in tensors)

        return work

    ours = f"Facette, batches of {BATCH}"
    batcher = f"Facette, {_CALLERS} callers of one face each"
    bare = {
        f"raw session, batch {batch}": in_calls(crops, batch, session.run, settings.workers)
        for batch in raw_batches
    }
    eager = f"{NAME}, batches of {BATCH}"
    rates = await interleave(
        {
            ours: in_batches,
            eager: theirs(channels_last=False),
            f"{NAME}, the same, tensors channels-last": theirs(channels_last=True),
            batcher: through_batcher,
            **bare,
        },
        effort.rounds,
    )
    await embedder.drain()
    await pool.aclose()
    best = max(bare, key=lambda name: rates[name].median)
    return Result(
        unit="faces/s",
        rates=rates,
        compared={
            "embed_vs_facenet_pytorch": (ours, eager),
            "batcher_vs_raw_session": (batcher, best),
        },
        configuration={
            "faces_a_round": len(crops),
            "callers": settings.workers,
            "torch_threads": usable_cores(),
            **describe(settings, models),
        },
        notes=[
            (
                f"{len(crops)} face crops a round. Facette takes uint8 pixels, from "
                f"{settings.workers} callers that each hand in {BATCH} faces at once, or from "
                f"{_CALLERS} that hand in one."
            ),
            (
                f"{NAME} is eager and takes one batch after the other on all {usable_cores()} "
                "cores. Its float tensors are made before the time runs, channels first as its own "
                "MTCNN makes them; channels-last is faster, and shown beside it."
            ),
            (
                f"Facette's FaceNet is {models['embedder'].placement.precision}, which it chose at "
                f"start; {NAME}'s is fp32, the only one it has. bench scaling has every precision."
            ),
            (
                f"The raw sessions run in {settings.workers} threads, "
                f"{settings.sessions.intra_op_threads} intra-op thread each; the best is: {best}."
            ),
        ],
    )

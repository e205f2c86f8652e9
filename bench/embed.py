"""Embedding: the batcher under concurrent callers, next to the bare session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.harness import by_callers, by_threads, default_settings, sessions
from bench.measure import Work, interleave, ratio
from bench.photos import load
from service.analysis.embedder import FaceEmbedder
from service.batching import WorkerPool

UNIT = "faces/s"
_FACES = 192
_CALLERS = 16
_RAW_BATCHES = (1, 8, 16)


async def run(rounds: int) -> dict[str, Any]:
    """Measure and return `rates` and `ratios`."""
    settings = default_settings()
    session = sessions(settings)["facenet"]
    pool = WorkerPool(settings.workers)
    embedder = FaceEmbedder(
        session,
        pool=pool,
        max_batch_size=settings.max_batch_faces,
        max_queue_delay_s=settings.max_queue_delay_s,
        report=lambda _: None,
    )
    crops = _crops(embedder.crop_size)

    async def one(crop: NDArray[np.uint8]) -> None:
        await embedder.embed([crop])

    async def through_batcher() -> int:
        return await by_callers(crops, one, _CALLERS)

    def raw(batch: int) -> Work:
        stacks = [np.stack(crops[i : i + batch]) for i in range(0, len(crops), batch)]

        async def work() -> int:
            await by_threads(stacks, session.run, settings.workers)
            return len(crops)

        return work

    ours = f"batcher, {_CALLERS} callers"
    bare = {f"raw session, batch {batch}": raw(batch) for batch in _RAW_BATCHES}
    rates = await interleave({ours: through_batcher, **bare}, rounds)
    await embedder.drain()
    await pool.aclose()
    best = max(bare, key=lambda name: rates[name].median)
    return {
        "rates": rates,
        "ratios": {"batcher_vs_raw_session": ratio(rates[ours], rates[best])},
        "notes": f"{_FACES} crops a round, {settings.workers} workers with "
        f"{settings.sessions.intra_op_threads} intra-op thread each; the best raw is: {best}",
    }


def _crops(size: int) -> Sequence[NDArray[np.uint8]]:
    """Central squares of photos: the network's cost does not depend on what they show."""
    found = []
    for photo in load(1024, _FACES):
        side = min(photo.pixels.shape[:2])
        top, left = ((n - side) // 2 for n in photo.pixels.shape[:2])
        square = photo.pixels[top : top + side, left : left + side]
        resized = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
        found.append(np.asarray(resized, dtype=np.uint8))
    return [found[i % len(found)] for i in range(_FACES)]

"""Detection: the cascade under concurrent callers, next to P-Net's bare session."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.harness import by_callers, by_threads, default_settings, sessions
from bench.measure import interleave, ratio
from bench.photos import load
from service.analysis.detector import CPU_CALLS, CascadeDetector, PreparedPhoto
from service.batching import WorkerPool
from service.vision.cascade import CascadeSettings
from service.vision.pyramid import cut_into_tiles, pyramid_levels
from service.vision.resample import resample_tile, summed_area_table

UNIT = "photos/s"
_PHOTOS = 24
_LONG_SIDE = 1024
_CALLERS = 4


async def run(rounds: int) -> dict[str, Any]:
    """Measure and return `rates` and `ratios`."""
    settings = default_settings()
    models = sessions(settings)
    pool = WorkerPool(settings.workers)
    detector = CascadeDetector(
        models["pnet"],
        models["rnet"],
        models["onet"],
        settings.cascade,
        pool=pool,
        max_batch_crops=settings.max_batch_crops,
        max_queue_delay_s=settings.max_queue_delay_s,
        report=lambda _: None,
    )
    pixels = [photo.pixels for photo in load(_LONG_SIDE, _PHOTOS)]
    photos = [
        PreparedPhoto(summed_area_table(each), each.shape[1], each.shape[0]) for each in pixels
    ]
    levels = [pyramid(photo, settings.cascade) for photo in photos]

    async def cascade() -> int:
        return await by_callers(photos, detector.detect, _CALLERS)

    async def alone() -> int:
        return await by_callers(photos, detector.detect, 1)

    def pnet(images: list[NDArray[np.float32]]) -> None:
        for image in images:
            models["pnet"].run(image)

    async def raw() -> int:
        return await by_threads(levels, pnet, settings.workers)

    ours, bare = f"cascade, {_CALLERS} callers", "raw P-Net session on the same pixels"
    rates = await interleave({ours: cascade, "cascade, one caller": alone, bare: raw}, rounds)
    await detector.drain()
    await pool.aclose()
    megapixels = sum(photo.width * photo.height for photo in photos) / 1e6
    return {
        "rates": rates,
        "ratios": {"cascade_vs_raw_pnet": ratio(rates[ours], rates[bare])},
        "notes": f"{len(photos)} photos a round, longer side {_LONG_SIDE} px, {megapixels:.1f} MP "
        f"in all, min_face_size {settings.cascade.min_face_size}; the raw figure leaves out "
        "resampling, R-Net, O-Net and suppression",
    }


def pyramid(photo: PreparedPhoto, cascade: CascadeSettings) -> list[NDArray[np.float32]]:
    """What P-Net is shown of a photo, tile by tile: float32 [1, 3, height, width] each."""
    levels = pyramid_levels(photo.width, photo.height, cascade.min_face_size, cascade.factor)
    shown = []
    for tile in cut_into_tiles(levels, CPU_CALLS.tile_side):
        level = levels[tile.level]
        pixels = np.empty((3, tile.bottom - tile.top, tile.right - tile.left), np.float32)
        resample_tile(photo.table, level.rows, level.columns, tile.top, tile.left, pixels)
        shown.append(pixels[np.newaxis])
    return shown

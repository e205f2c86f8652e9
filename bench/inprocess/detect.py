"""Detection: the cascade from pixels to boxes, next to facenet-pytorch and P-Net's bare session."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.common.harness import (
    Pixels,
    by_callers,
    by_threads,
    default_settings,
    describe,
    prepare,
    running_detector,
    sessions,
)
from bench.common.measure import interleave
from bench.common.photos import LONG_SIDE, load, never_seen
from bench.common.result import Effort, Result
from bench.inprocess.facenet_pytorch import NAME, STAND_IN, FacenetPytorch
from service.analysis.detector import CPU_CALLS
from service.machine.cpu import usable_cores
from service.vision.cascade import CascadeSettings
from service.vision.pyramid import cut_into_tiles, pyramid_levels
from service.vision.resample import resample_tile
from service.vision.views import View

_CALLERS = 4


async def run(effort: Effort) -> Result:
    """Measure photos a second, of shapes seen before and of new ones."""
    settings = default_settings()
    models = sessions(settings)
    photos = [photo.pixels for photo in load(LONG_SIDE, 4 if effort.quick else 24)]
    some = photos[: 2 if effort.quick else 8]
    # The warm-up is a round too.
    new_shapes = [never_seen(some, number) for number in range(effort.rounds + 1)]
    levels = [pyramid(prepare(pixels), settings.cascade) for pixels in photos]
    peer = FacenetPytorch(usable_cores(), settings.cascade.min_face_size)

    def pnet(images: list[NDArray[np.float32]]) -> None:
        for image in images:
            models["pnet"].run(image)

    async def raw() -> int:
        return await by_threads(levels, pnet, settings.workers)

    async def theirs(pixels: Sequence[Pixels]) -> int:
        return len([peer.detect(each) for each in pixels])

    async with running_detector(settings, models) as detect:

        async def ours(pixels: Sequence[Pixels], callers: int = _CALLERS) -> int:
            return await by_callers(pixels, detect, callers)

        # Each contestant goes through the same rounds by itself.
        turns = [iter(new_shapes) for _ in range(4)]
        many, bare = f"Facette, {_CALLERS} callers", "raw P-Net session on the same pixels"
        rates = await interleave(
            {
                many: lambda: ours(photos),
                NAME: lambda: theirs(photos),
                "Facette, one caller": lambda: ours(photos, 1),
                bare: raw,
                f"{many}, first-seen shapes": lambda: ours(next(turns[0])),
                f"{many}, the same shapes again": lambda: ours(next(turns[1])),
                f"{NAME}, first-seen shapes": lambda: theirs(next(turns[2])),
                f"{NAME}, the same shapes again": lambda: theirs(next(turns[3])),
            },
            effort.rounds,
        )
    megapixels = sum(each.shape[0] * each.shape[1] for each in photos) / 1e6
    return Result(
        unit="photos/s",
        rates=rates,
        compared={
            "detect_vs_facenet_pytorch": (many, NAME),
            "detect_first_seen_vs_facenet_pytorch": (
                f"{many}, first-seen shapes",
                f"{NAME}, first-seen shapes",
            ),
            "detect_first_seen_vs_repeated": (
                f"{many}, first-seen shapes",
                f"{many}, the same shapes again",
            ),
            "cascade_vs_raw_pnet": (many, bare),
        },
        configuration={
            "photos_a_round": len(photos),
            "first_seen_photos_a_round": len(some),
            "long_side": LONG_SIDE,
            "torch_threads": usable_cores(),
            **describe(settings, models),
        },
        notes=[
            (
                f"{len(photos)} photos a round, longer side {LONG_SIDE} px, {megapixels:.1f} MP in "
                f"all, smallest face {settings.cascade.min_face_size} px; both start from uint8 "
                "pixels and end with boxes in source pixels."
            ),
            (
                f"{NAME} takes one photo after the other on all {usable_cores()} cores, every "
                "shape seen in the warm-up."
            ),
            f"{STAND_IN}.",
            (
                f"First-seen: {len(some)} of the photos, in every round cut to sizes new to both; "
                "the same shapes again: the same cut photos, a moment later."
            ),
            "The raw P-Net figure leaves out resampling, R-Net, O-Net and suppression.",
        ],
    )


def pyramid(photo: View, cascade: CascadeSettings) -> list[NDArray[np.float32]]:
    """The inputs of P-Net for a photo, tile by tile: float32 [1, 3, height, width] each."""
    levels = pyramid_levels(photo.width, photo.height, cascade.min_face_size, cascade.factor)
    shown = []
    for tile in cut_into_tiles(levels, CPU_CALLS.tile_side):
        level = levels[tile.level]
        pixels = np.empty((3, tile.bottom - tile.top, tile.right - tile.left), np.float32)
        resample_tile(photo, level.rows, level.columns, tile.top, tile.left, pixels)
        shown.append(pixels[np.newaxis])
    return shown

"""Finds faces: MTCNN's three networks as batched stages over all requests in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.analysis.scan import FullScanner, PreparedPhoto, Scanner, ScreenedScanner
from service.analysis.stages import StageFactory
from service.batching import Ticket
from service.domain.types import Box, Detection
from service.runtime.sessions import ModelSession
from service.vision.boxes import Boxes
from service.vision.cascade import (
    ONET_SIZE,
    RNET_SIZE,
    CascadeSettings,
    Detections,
    crop_windows,
    final_detections,
    refine_candidates,
)
from service.vision.pyramid import (
    Cells,
    Level,
    Tile,
    cut_into_tiles,
    group_tiles,
    propose,
    pyramid_levels,
)
from service.vision.resample import resample_windows
from service.vision.screen import Screen


@dataclass(frozen=True, slots=True)
class CallSizes:
    """How much the networks see in one call.

    tile_side: about the largest side of a P-Net tile, in pixels. rnet_crops, onet_crops: crops.
    job_crops: crops that one R-Net or O-Net job takes from the requests in flight.
    """

    tile_side: int
    rnet_crops: int
    onet_crops: int
    job_crops: int


# Activations of one call should stay in a core's second-level cache (2 MB where this was measured):
# P-Net in tiles of 160 pixels takes 46 ms a megapixel on one core, in whole levels 70; R-Net takes
# 39 us a crop in calls of 8 to 16, 50 us in calls of 128; O-Net 259 us in calls of 4, 323 in 32.
CPU_CALLS = CallSizes(tile_side=160, rnet_crops=12, onet_crops=4, job_crops=128)
# A GPU has no such cache to stay in, and each call costs it a trip there and back. Not measured.
CUDA_CALLS = CallSizes(tile_side=1024, rnet_crops=512, onet_crops=256, job_crops=512)


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    photo: PreparedPhoto
    levels: Sequence[Level]
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """What P-Net found in a photo, not yet thinned."""

    photo: PreparedPhoto
    levels: Sequence[Level]
    cells: Cells

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True, slots=True, eq=False)
class _Proposals:
    """Boxes to judge next: windows int32 [n, 4] (y1 x1 y2 x2), boxes float32 [n, 4]."""

    photo: PreparedPhoto
    windows: NDArray[np.int32]
    boxes: Boxes

    @classmethod
    def of(cls, photo: PreparedPhoto, boxes: Boxes) -> _Proposals:
        return cls(photo, *crop_windows(boxes, photo.width, photo.height))

    def __len__(self) -> int:
        return len(self.boxes)


class CascadeDetector:
    """The cascade; its stages share the worker pool, the later network first.

    Args:
        pnet, rnet, onet: float32 planes in.
        screen: what chooses the cells that P-Net looks at; None for all of them.
        calls: how much the networks see in one call; None for what suits P-Net's provider.
        stages: makes the batchers, in the order of the pipeline.
    """

    def __init__(
        self,
        pnet: ModelSession,
        rnet: ModelSession,
        onet: ModelSession,
        settings: CascadeSettings,
        *,
        stages: StageFactory,
        screen: Screen | None,
        calls: CallSizes | None = None,
    ) -> None:
        self._sessions = {"rnet": rnet, "onet": onet}
        self._settings = settings
        on_cuda = pnet.placement.provider == "cuda"
        self._calls = calls = calls or (CUDA_CALLS if on_cuda else CPU_CALLS)
        threshold = settings.thresholds[0]
        self._scanner: Scanner = (
            FullScanner(pnet, threshold, calls.tile_side)
            if screen is None
            else ScreenedScanner(pnet, threshold, screen)
        )
        self._pnet = stages.make("pnet", self._run_tiles)
        self._rnet = stages.make("rnet", self._run_rnet, full=calls.job_crops, cost=len)
        self._onet = stages.make("onet", self._run_onet, full=calls.job_crops, cost=len)

    async def detect(self, photo: PreparedPhoto, ticket: Ticket) -> list[Detection]:
        """Every face of a photo, best score first."""
        settings = self._settings
        levels = pyramid_levels(
            photo.width,
            photo.height,
            settings.min_face_size,
            settings.factor,
            settings.max_side,
        )
        tiles = cut_into_tiles(levels, self._scanner.tile_side)
        if not tiles:
            return []
        parts = await self._pnet.submit_all(
            [
                _Tiles(photo, levels, group)
                for group in group_tiles(tiles, self._scanner.job_pixels)
            ],
            ticket,
        )
        scan = _Scan(photo, levels, Cells.joined(parts))
        if not len(scan):
            return []
        proposals = await self._rnet.submit(scan, ticket)
        if not len(proposals):
            return []
        found = await self._onet.submit(proposals, ticket)
        return [
            Detection(
                Box(*(float(value) for value in box)),
                tuple((float(x), float(y)) for x, y in points),
                float(score),
            )
            for box, score, points in zip(found.boxes, found.scores, found.landmarks, strict=True)
        ]

    async def drain(self) -> None:
        """Finish what was accepted, stage after stage."""
        for stage in (self._pnet, self._rnet, self._onet):
            await stage.drain()

    def warm_up(self, photo: PreparedPhoto) -> None:
        """Run each network and compile each kernel once, on a photo of 40 pixels or more."""
        levels = [Level(0.6, *(int(side * 0.6) for side in (photo.height, photo.width)))]
        self._run_tiles([_Tiles(photo, levels, cut_into_tiles(levels, self._scanner.tile_side))])
        places = np.array([[0, 0, 0], [0, 2, 2]], dtype=np.int32)
        cells = Cells(places, np.ones(2, np.float32), np.zeros((2, 4), np.float32))
        scan = _Scan(photo, levels, cells)
        self._run_rnet([scan])
        self._run_onet([self._proposals(scan)])

    def _run_tiles(self, batch: Sequence[_Tiles]) -> list[Cells]:
        return [self._scanner.find(item.photo, item.levels, item.tiles) for item in batch]

    def _proposals(self, scan: _Scan) -> _Proposals:
        boxes = propose(scan.cells, scan.levels, self._settings.max_candidates)
        return _Proposals.of(scan.photo, boxes)

    def _run_rnet(self, scans: Sequence[_Scan]) -> list[_Proposals]:
        batch = [self._proposals(scan) for scan in scans]
        regression, probability = self._judge("rnet", batch, RNET_SIZE, self._calls.rnet_crops)
        threshold = self._settings.thresholds[1]
        return [
            _Proposals.of(
                item.photo,
                refine_candidates(item.boxes, probability[rows], regression[rows], threshold),
            )
            for item, rows in _rows(batch)
        ]

    def _run_onet(self, batch: Sequence[_Proposals]) -> list[Detections]:
        regression, landmarks, probability = self._judge(
            "onet", batch, ONET_SIZE, self._calls.onet_crops
        )
        threshold = self._settings.thresholds[2]
        return [
            final_detections(
                item.boxes, probability[rows], regression[rows], landmarks[rows], threshold
            )
            for item, rows in _rows(batch)
        ]

    def _judge(
        self, network: str, batch: Sequence[_Proposals], size: int, call_crops: int
    ) -> list[NDArray[np.float32]]:
        """Run a network over the crops of all items, `call_crops` a call."""
        crops = np.concatenate(
            [resample_windows(item.photo.table, item.windows, size, size) for item in batch]
        )
        # One call at least: no crops still have to give outputs of the right width.
        calls = [
            self._sessions[network].run(crops[start : start + call_crops])
            for start in range(0, max(1, len(crops)), call_crops)
        ]
        return [np.concatenate(parts) for parts in zip(*calls, strict=True)]


def _rows(batch: Sequence[_Proposals]) -> list[tuple[_Proposals, slice]]:
    """Each item with its rows in the concatenated outputs."""
    ends = np.cumsum([len(item) for item in batch])
    return [
        (item, slice(int(end) - len(item), int(end))) for item, end in zip(batch, ends, strict=True)
    ]

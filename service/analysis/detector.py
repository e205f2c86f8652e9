"""Finds faces: MTCNN's three networks as batched stages over all requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.batching import BatchReport, MicroBatcher, WorkerPool
from service.domain.types import Box, Detection
from service.runtime.sessions import ModelSession
from service.vision.boxes import Boxes
from service.vision.cascade import (
    ONET_SIZE,
    RNET_SIZE,
    Candidates,
    CascadeSettings,
    Detections,
    crop_windows,
    final_detections,
    level_bands,
    level_candidates,
    level_size,
    merge_levels,
    pyramid_scales,
    refine_candidates,
)
from service.vision.resample import resample_windows

# Activations take about 150 bytes a pixel. Those of a band this small stay in the cache, which
# makes a pixel half as expensive as in a whole megapixel, and keep ONNX Runtime's arena small.
MAX_BAND_PIXELS = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPhoto:
    """What the cascade looks at: a photo's summed-area table and its size in pixels."""

    table: NDArray[np.uint32]
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    photo: PreparedPhoto
    scale: float


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
        sessions: `pnet`, `rnet` and `onet`, uint8 NHWC in.
        max_batch_crops: crops in one R-Net or O-Net call.
        max_queue_delay_s: how long crops may wait for such a call to fill.
    """

    def __init__(
        self,
        pnet: ModelSession,
        rnet: ModelSession,
        onet: ModelSession,
        settings: CascadeSettings,
        *,
        pool: WorkerPool,
        max_batch_crops: int,
        max_queue_delay_s: float,
        report: Callable[[BatchReport], None],
    ) -> None:
        self._sessions = {"pnet": pnet, "rnet": rnet, "onet": onet}
        self._settings = settings
        self._max_batch_crops = max_batch_crops
        self._pnet = MicroBatcher(self._run_levels, pool=pool, name="pnet", report=report)
        self._rnet = MicroBatcher(
            self._run_rnet,
            pool=pool,
            name="rnet",
            max_batch_cost=max_batch_crops,
            max_queue_delay_s=max_queue_delay_s,
            cost=len,
            report=report,
        )
        self._onet = MicroBatcher(
            self._run_onet,
            pool=pool,
            name="onet",
            max_batch_cost=max_batch_crops,
            max_queue_delay_s=max_queue_delay_s,
            cost=len,
            report=report,
        )

    async def detect(self, photo: PreparedPhoto) -> list[Detection]:
        """Every face of a photo, best score first."""
        scales = pyramid_scales(photo.width, photo.height, self._settings)
        levels = await self._pnet.submit_all([_Level(photo, scale) for scale in scales])
        proposals = _Proposals.of(photo, merge_levels(levels, self._settings))
        if not len(proposals):
            return []
        proposals = await self._rnet.submit(proposals)
        if not len(proposals):
            return []
        found = await self._onet.submit(proposals)
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
        self._run_levels([_Level(photo, 0.6)])
        boxes = np.array([[0, 0, 32, 32], [8, 8, 40, 40]], dtype=np.float32)
        proposals = _Proposals.of(photo, boxes)
        self._run_rnet([proposals])
        self._run_onet([proposals])

    def _run_levels(self, levels: Sequence[_Level]) -> list[Candidates]:
        return [self._run_level(level) for level in levels]

    def _run_level(self, level: _Level) -> Candidates:
        photo = level.photo
        rows, columns = level_size(photo.width, photo.height, level.scale)
        whole = np.array([[0, 0, photo.height, photo.width]], dtype=np.int32)
        image = resample_windows(photo.table, whole, rows, columns)
        bands = [
            self._sessions["pnet"].run(image[:, top:bottom])
            for top, bottom in level_bands(rows, columns, MAX_BAND_PIXELS)
        ]
        regression = np.concatenate([band[0][0] for band in bands], axis=1)
        probability = np.concatenate([band[1][0] for band in bands], axis=0)
        return level_candidates(probability, regression, level.scale, self._settings.thresholds[0])

    def _run_rnet(self, batch: Sequence[_Proposals]) -> list[_Proposals]:
        regression, probability = self._judge("rnet", batch, RNET_SIZE)
        threshold = self._settings.thresholds[1]
        return [
            _Proposals.of(
                item.photo,
                refine_candidates(item.boxes, probability[rows], regression[rows], threshold),
            )
            for item, rows in _rows(batch)
        ]

    def _run_onet(self, batch: Sequence[_Proposals]) -> list[Detections]:
        regression, landmarks, probability = self._judge("onet", batch, ONET_SIZE)
        threshold = self._settings.thresholds[2]
        return [
            final_detections(
                item.boxes, probability[rows], regression[rows], landmarks[rows], threshold
            )
            for item, rows in _rows(batch)
        ]

    def _judge(
        self, network: str, batch: Sequence[_Proposals], size: int
    ) -> list[NDArray[np.float32]]:
        """Run a network over the crops of all items, at most `max_batch_crops` a call."""
        crops = np.concatenate(
            [resample_windows(item.photo.table, item.windows, size, size) for item in batch]
        )
        calls = [
            self._sessions[network].run(crops[start : start + self._max_batch_crops])
            for start in range(0, len(crops), self._max_batch_crops)
        ]
        return [np.concatenate(parts) for parts in zip(*calls, strict=True)]


def _rows(batch: Sequence[_Proposals]) -> list[tuple[_Proposals, slice]]:
    """Each item with its rows in the concatenated outputs."""
    ends = np.cumsum([len(item) for item in batch])
    return [
        (item, slice(int(end) - len(item), int(end))) for item, end in zip(batch, ends, strict=True)
    ]

"""Finds the faces of a photo in one detection pass, or in more if the first leaves a doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector, CoarsePass
from service.batching import Ticket
from service.domain.types import Box, Detection
from service.vision import passes
from service.vision.cascade import CascadeSettings, Detections
from service.vision.views import TURNS, View

Table = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """The faces of a photo, best score first, in pixels of the photo without rotation.

    turned: the rotation that makes the faces upright, in degrees clockwise.
    """

    faces: tuple[Detection, ...]
    turned: int


class FaceFinder:
    """Runs the cascade, with further passes if the first full pass leaves a doubt.

    Args:
        min_confidence: the smallest probability of a face.
        compatible: whether to make one full pass only, as facenet-pytorch does.
    """

    def __init__(
        self,
        detector: CascadeDetector,
        settings: CascadeSettings,
        *,
        min_confidence: float,
        compatible: bool,
    ) -> None:
        self._detector = detector
        self._settings = settings
        self._min_confidence = min_confidence
        self._compatible = compatible

    async def find(self, table: Table, ticket: Ticket) -> FoundFaces:
        """All faces of a photo.

        Args:
            table: the summed-area table of the photo, uint32 [height + 1, width + 1, 3].
        """
        if self._compatible:
            return _found(await self._detector.detect(View.of(table), ticket), 0)
        best, sure = await self._see(table, 0, ticket)
        turned = 0
        if not await self._is_upright(table, best, sure, ticket):
            for way in await self._ways(table, sure, ticket):
                found, this_sure = await self._see(table, way, ticket)
                if passes.is_better(this_sure, sure):
                    best, sure, turned = found, this_sure, way
        return _found(best, turned)

    async def _see(self, table: Table, turned: int, ticket: Ticket) -> tuple[Detections, float]:
        """The faces in one orientation, in pixels of the photo, and the highest probability.

        A face at the edge may be more probable in the pass without a border, which does not see it
        whole.
        """
        view = View.of(table, turned=turned)
        plain = passes.in_photo(view, await self._detector.detect(view, ticket))
        sure = passes.certainty(plain)
        height, width = table.shape[0] - 1, table.shape[1] - 1
        if not passes.needs_border(plain, width, height, self._min_confidence):
            return plain, sure
        size = passes.coarse_face_size(width, height, self._settings.min_face_size)
        border = passes.border_of(width, height)
        coarse = CoarsePass(table, size, 1, border, (turned,), rough=False)
        (beyond,) = await self._detector.run_coarse(coarse, ticket)
        merged = passes.merge(plain, beyond, width, height, self._min_confidence)
        return merged, max(sure, passes.certainty(merged))

    async def _is_upright(
        self, table: Table, found: Detections, sure: float, ticket: Ticket
    ) -> bool:
        """Whether the photo is upright, by its most probable face."""
        answer = passes.is_upright(sure)
        if answer is not None:
            return answer
        judged = await self._detector.judge(table, found.boxes[:1], TURNS[1:], ticket)
        return max(passes.certainty(other) for other in judged) < sure

    async def _ways(self, table: Table, sure: float, ticket: Ticket) -> Sequence[int]:
        """The rotations that are worth a full pass, the most promising first."""
        settings = self._settings
        height, width = table.shape[0] - 1, table.shape[1] - 1
        size = passes.coarse_face_size(width, height, settings.min_face_size)
        pixel = passes.coarse_pixel(size, max(width, height), settings.max_side)
        seen = await self._detector.run_coarse(
            CoarsePass(table, size, pixel, 0, TURNS[1:], rough=True), ticket
        )
        ways = {
            turned: passes.certainty(other) for turned, other in zip(TURNS[1:], seen, strict=True)
        }
        return passes.ways_to_try(sure, ways)


def _found(found: Detections, turned: int) -> FoundFaces:
    faces = tuple(
        Detection(
            Box(*(float(value) for value in box)),
            tuple((float(x), float(y)) for x, y in points),
            float(score),
        )
        for box, score, points in zip(found.boxes, found.scores, found.landmarks, strict=True)
    )
    return FoundFaces(faces, turned)

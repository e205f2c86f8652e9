"""Finds the faces of a photo by as many looks as it takes: most need one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector, Glance
from service.batching import Ticket
from service.domain.types import Box, Detection
from service.vision import looks
from service.vision.cascade import CascadeSettings, Detections
from service.vision.views import TURNS, View

Table = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """What was found, best score first, in pixels of the photo before it was turned.

    turned: degrees clockwise by which it has to be turned for its faces to be upright.
    """

    faces: tuple[Detection, ...]
    turned: int


class FaceFinder:
    """The cascade, and what a first look at a photo leaves in doubt.

    Args:
        min_confidence: smallest probability of what counts as a face.
        compatible: one look alone, as facenet-pytorch does.
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
        """Every face of a photo.

        Args:
            table: the photo's summed-area table, uint32 [height + 1, width + 1, 3].
        """
        if self._compatible:
            return _found(await self._detector.detect(View.of(table), ticket), 0)
        best, sure = await self._see(table, 0, ticket)
        turned = 0
        if not await self._is_upright(table, best, sure, ticket):
            for way in await self._ways(table, sure, ticket):
                found, this_sure = await self._see(table, way, ticket)
                if looks.is_better(this_sure, sure):
                    best, sure, turned = found, this_sure, way
        return _found(best, turned)

    async def _see(self, table: Table, turned: int, ticket: Ticket) -> tuple[Detections, float]:
        """The faces of a photo one way up, in its pixels, and how certain one of them is.

        A face at the edge may be more probable in the plain look, which does not see it whole.
        """
        view = View.of(table, turned=turned)
        plain = looks.in_photo(view, await self._detector.detect(view, ticket))
        sure = looks.certainty(plain)
        height, width = table.shape[0] - 1, table.shape[1] - 1
        if not looks.needs_border(plain, width, height, self._min_confidence):
            return plain, sure
        size = looks.coarse_face_size(width, height, self._settings.min_face_size)
        border = looks.border_of(width, height)
        glance = Glance(table, size, 1, border, (turned,), rough=False)
        (beyond,) = await self._detector.glance(glance, ticket)
        merged = looks.merge(plain, beyond, width, height, self._min_confidence)
        return merged, max(sure, looks.certainty(merged))

    async def _is_upright(
        self, table: Table, found: Detections, sure: float, ticket: Ticket
    ) -> bool:
        """Whether the photo is the right way up, as far as its most probable face can tell."""
        answer = looks.is_upright(sure)
        if answer is not None:
            return answer
        judged = await self._detector.judge(table, found.boxes[:1], TURNS[1:], ticket)
        return max(looks.certainty(other) for other in judged) < sure

    async def _ways(self, table: Table, sure: float, ticket: Ticket) -> Sequence[int]:
        """The turns after which the photo is to be seen again."""
        settings = self._settings
        height, width = table.shape[0] - 1, table.shape[1] - 1
        size = looks.coarse_face_size(width, height, settings.min_face_size)
        pixel = looks.coarse_pixel(size, max(width, height), settings.max_side)
        seen = await self._detector.glance(
            Glance(table, size, pixel, 0, TURNS[1:], rough=True), ticket
        )
        ways = {
            turned: looks.certainty(other) for turned, other in zip(TURNS[1:], seen, strict=True)
        }
        return looks.ways_to_try(sure, ways)


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

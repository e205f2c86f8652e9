"""The later stages of MTCNN around their networks: refinement and detections.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks",
IEEE Signal Processing Letters 2016; constants and order of steps as in facenet-pytorch's
`detect_face`, so that the same faces come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import (
    Boxes,
    nms,
    nms_by_smaller,
    refine,
    square,
    windows,
)

RNET_SIZE = 24
ONET_SIZE = 48
_OVERLAP = 0.7


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """The cascade's knobs; the defaults are facenet-pytorch's.

    min_face_size: smallest face looked for, in pixels of the upright photo.
    thresholds: smallest face probability after P-Net, R-Net and O-Net.
    factor: ratio between neighbouring pyramid scales, 0 to 1.
    max_side: pixels; longer photos are searched without their finest pyramid levels. 0 = never,
        which is facenet-pytorch's way.
    max_candidates: at most so many boxes go on from P-Net, the best ones; a guard against photos
        made to be expensive.
    """

    min_face_size: int = 20
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    factor: float = 0.709
    max_side: int = 0
    max_candidates: int = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What O-Net is left with.

    boxes: float32 [n, 4]; scores: float32 [n]; landmarks: float32 [n, 5, 2], x y in pixels.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Detections:
        """The named rows only."""
        return Detections(self.boxes[rows], self.scores[rows], self.landmarks[rows])

    @classmethod
    def joined(cls, parts: Sequence[Detections]) -> Detections:
        """All of several; there is at least one part."""
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.landmarks for part in parts]),
        )


NO_DETECTIONS = Detections(
    np.empty((0, 4), dtype=np.float32),
    np.empty(0, dtype=np.float32),
    np.empty((0, 5, 2), dtype=np.float32),
)


def refine_candidates(
    boxes: Boxes,
    probability: NDArray[np.float32],
    regression: NDArray[np.float32],
    threshold: float,
) -> Boxes:
    """The squares for O-Net: R-Net's verdict applied to its input boxes, row by row."""
    passed = np.flatnonzero(probability > np.float32(threshold))
    kept = passed[nms(boxes[passed], probability[passed], _OVERLAP)]
    return square(refine(boxes[kept], regression[kept], border=1))


def final_detections(
    boxes: Boxes,
    probability: NDArray[np.float32],
    regression: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    threshold: float,
) -> Detections:
    """The faces: O-Net's verdict applied to its input boxes, row by row.

    Args:
        landmarks: float32 [n, 10], five x then five y, as fractions of the box.
    """
    passed = probability > np.float32(threshold)
    boxes, regression, landmarks = boxes[passed], regression[passed], landmarks[passed]
    size = boxes[:, 2:] - boxes[:, :2] + np.float32(1)
    points = np.stack([landmarks[:, :5], landmarks[:, 5:]], axis=2)
    points = points * size[:, np.newaxis, :] + boxes[:, np.newaxis, :2] - np.float32(1)
    found = Detections(refine(boxes, regression, border=1), probability[passed], points)
    return found.take(nms_by_smaller(found.boxes, found.scores, _OVERLAP))


def crop_windows(boxes: Boxes, width: int, height: int) -> tuple[NDArray[np.int32], Boxes]:
    """The windows to cut out for the next network, and the boxes they belong to.

    Returns:
        windows: int32 [m, 4], y1 x1 y2 x2; boxes: float32 [m, 4], those that cover a pixel.
    """
    cut, valid = windows(boxes, width, height)
    return cut, boxes[valid]

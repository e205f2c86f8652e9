"""The steps between the networks of MTCNN: pyramid, candidates, refinement, detections.

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
    refine,
    square,
    suppress_by_smaller,
    suppress_by_union,
    windows,
)

CELL_SIZE = 12
STRIDE = 2
RNET_SIZE = 24
ONET_SIZE = 48
_SAME_SCALE_OVERLAP = 0.5
_OVERLAP = 0.7


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """The cascade's knobs; the defaults are facenet-pytorch's.

    min_face_size: smallest face looked for, in pixels of the upright photo.
    thresholds: smallest face probability after P-Net, R-Net and O-Net.
    factor: ratio between neighbouring pyramid scales, 0 to 1.
    max_candidates: at most so many boxes go on from P-Net, the best ones; a guard against photos
        made to be expensive.
    """

    min_face_size: int = 20
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    factor: float = 0.709
    max_candidates: int = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes on their way through the cascade.

    boxes: float32 [n, 4]; scores: float32 [n], the face probability of the last network;
    regression: float32 [n, 4], not yet applied.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    regression: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
        """The named rows only."""
        return Candidates(self.boxes[rows], self.scores[rows], self.regression[rows])


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


def pyramid_scales(width: int, height: int, settings: CascadeSettings) -> list[float]:
    """Scales at which P-Net's 12-pixel cell sees faces from `min_face_size` to the whole photo."""
    scale = CELL_SIZE / settings.min_face_size
    shorter = min(width, height) * scale
    scales = []
    while shorter >= CELL_SIZE:
        scales.append(scale)
        scale *= settings.factor
        shorter *= settings.factor
    return scales


def level_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Height and width in pixels of a pyramid level."""
    return int(height * scale + 1), int(width * scale + 1)


def level_bands(height: int, width: int, max_pixels: int) -> list[tuple[int, int]]:
    """Rows (first, past the last) in which a level can be fed to P-Net piece by piece.

    The pieces' outputs, one below the other, are those of the whole level: every band starts on
    an even row and overlaps the next by what a 12-pixel cell at stride 2 needs.
    """
    outputs = max(1, (max_pixels // width - CELL_SIZE) // STRIDE + 1)
    bands = []
    top = 0
    while height - top > (outputs - 1) * STRIDE + CELL_SIZE + STRIDE:
        bands.append((top, top + (outputs - 1) * STRIDE + CELL_SIZE))
        top += outputs * STRIDE
    bands.append((top, height))
    return bands


def level_candidates(
    probability: NDArray[np.float32],
    regression: NDArray[np.float32],
    scale: float,
    threshold: float,
) -> Candidates:
    """Boxes of one pyramid level that P-Net takes for a face, thinned within the level.

    Args:
        probability: float32 [rows, columns], one value a cell.
        regression: float32 [4, rows, columns].
        scale: the level's size over the photo's.
        threshold: smallest probability.
    """
    rows, columns = np.nonzero(probability >= np.float32(threshold))
    corner = np.stack([columns, rows], axis=1).astype(np.float32) * np.float32(STRIDE)
    boxes = np.concatenate(
        [
            np.floor((corner + np.float32(1)) / np.float32(scale)),
            np.floor((corner + np.float32(CELL_SIZE)) / np.float32(scale)),
        ],
        axis=1,
    )
    found = Candidates(boxes, probability[rows, columns], regression[:, rows, columns].T)
    return found.take(suppress_by_union(found.boxes, found.scores, _SAME_SCALE_OVERLAP))


def merge_levels(levels: Sequence[Candidates], settings: CascadeSettings) -> Boxes:
    """The boxes of all levels as squares for R-Net, thinned across levels and refined."""
    if not levels:
        return np.empty((0, 4), dtype=np.float32)
    every = Candidates(
        np.concatenate([level.boxes for level in levels]),
        np.concatenate([level.scores for level in levels]),
        np.concatenate([level.regression for level in levels]),
    )
    if len(every) > settings.max_candidates:
        best = np.argsort(-every.scores, kind="stable")[: settings.max_candidates]
        every = every.take(best)
    kept = every.take(suppress_by_union(every.boxes, every.scores, _OVERLAP))
    return square(refine(kept.boxes, kept.regression, border=0))


def refine_candidates(
    boxes: Boxes,
    probability: NDArray[np.float32],
    regression: NDArray[np.float32],
    threshold: float,
) -> Boxes:
    """The squares for O-Net: R-Net's verdict applied to its input boxes, row by row."""
    found = Candidates(boxes, probability, regression).take(probability > np.float32(threshold))
    kept = found.take(suppress_by_union(found.boxes, found.scores, _OVERLAP))
    return square(refine(kept.boxes, kept.regression, border=1))


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
    return found.take(suppress_by_smaller(found.boxes, found.scores, _OVERLAP))


def crop_windows(boxes: Boxes, width: int, height: int) -> tuple[NDArray[np.int32], Boxes]:
    """The windows to cut out for the next network, and the boxes they belong to.

    Returns:
        windows: int32 [m, 4], y1 x1 y2 x2; boxes: float32 [m, 4], those that cover a pixel.
    """
    cut, valid = windows(boxes, width, height)
    return cut, boxes[valid]

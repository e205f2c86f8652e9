"""The first stage of MTCNN around its network: the pyramid of P-Net, its tiles and its proposals.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks",
IEEE Signal Processing Letters 2016; constants and order of steps as in facenet-pytorch's
`detect_face`, so the detections are the same. Unlike there, P-Net takes its levels in tiles that
fit a core's cache; the outputs of the tiles side by side are those of the whole level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Boxes, nms, nms_within_groups, refine, square
from service.vision.compiled import kernel

CELL_SIZE = 12
STRIDE = 2
_SAME_LEVEL_OVERLAP = 0.5
_OVERLAP = 0.7


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the pyramid: the photo at one scale.

    scale: of the level over the photo; rows, columns: in pixels.
    """

    scale: float
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a level: pixels from `top` up to `bottom` and from `left` up to `right`."""

    level: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def pixels(self) -> int:
        """The number of pixels, including those shared with a neighbour."""
        return (self.bottom - self.top) * (self.right - self.left)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of P-Net's output above the threshold, one a row.

    places: int32 [n, 3], level, row and column, counted over the whole level;
    scores: float32 [n], face probabilities; regression: float32 [n, 4], not yet applied.
    """

    places: NDArray[np.int32]
    scores: NDArray[np.float32]
    regression: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        """The concatenation of one or more parts."""
        return cls(
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.regression for part in parts]),
        )


NO_CELLS = Cells(
    np.empty((0, 3), dtype=np.int32),
    np.empty(0, dtype=np.float32),
    np.empty((0, 4), dtype=np.float32),
)


def pyramid_levels(
    width: int, height: int, min_face_size: float, factor: float, max_side: float = 0
) -> list[Level]:
    """The levels at which a 12-pixel cell covers faces from `min_face_size` to the whole photo.

    Args:
        min_face_size: in pixels of the photo.
        factor: ratio of neighbouring scales.
        max_side: a photo with a longer side loses its finest levels, those larger than the finest
            level of a photo of that size; 0 keeps them all. The remaining levels are unchanged,
            and so are the detections of faces well above the smallest.
    """
    scale = CELL_SIZE / min_face_size
    shorter, longer = min(width, height) * scale, max(width, height) * scale
    largest = max_side * scale if max_side else longer
    levels = []
    while shorter >= CELL_SIZE:
        if longer <= largest:
            levels.append(Level(scale, int(height * scale + 1), int(width * scale + 1)))
        scale *= factor
        longer *= factor
        shorter *= factor
    return levels


def cut_into_tiles(levels: Sequence[Level], max_side: int) -> list[Tile]:
    """Cover every level with tiles of at most about `max_side` pixels a side."""
    return [
        Tile(number, top, bottom, left, right)
        for number, level in enumerate(levels)
        for top, bottom in _spans(level.rows, max_side)
        for left, right in _spans(level.columns, max_side)
    ]


def group_tiles(tiles: Sequence[Tile], max_pixels: int) -> Iterator[list[Tile]]:
    """Group tiles in order, up to `max_pixels` a group; a larger tile is a group of its own."""
    group: list[Tile] = []
    pixels = 0
    for tile in tiles:
        if group and pixels + tile.pixels > max_pixels:
            yield group
            group, pixels = [], 0
        group.append(tile)
        pixels += tile.pixels
    if group:
        yield group


def find_cells(
    tile: Tile,
    probability: NDArray[np.float32],
    regression: NDArray[np.float32],
    threshold: float,
) -> Cells:
    """The cells of one tile that P-Net takes for a face.

    Args:
        probability: float32 [rows, columns], one value a cell.
        regression: float32 [4, rows, columns].
        threshold: smallest probability.
    """
    first_row, first_column = tile.top // STRIDE, tile.left // STRIDE
    place = np.array([tile.level, first_row, first_column], dtype=np.int32)
    return Cells(*_find_cells(probability, regression, np.float32(threshold), place))


def propose(cells: Cells, levels: Sequence[Level], max_candidates: int) -> Boxes:
    """The boxes for R-Net: NMS within each level, then across levels, refinement, squares.

    Args:
        max_candidates: the largest number of boxes for the NMS across levels, best first.
    """
    # By level, best first; equal scores in reading order, as in facenet-pytorch.
    columns, rows, numbers = cells.places[:, 2], cells.places[:, 1], cells.places[:, 0]
    order = np.lexsort((columns, rows, -cells.scores, numbers))
    places, scores = cells.places[order], cells.scores[order]
    scale = np.array([level.scale for level in levels], dtype=np.float32)[places[:, 0], np.newaxis]
    corner = places[:, :0:-1].astype(np.float32) * np.float32(STRIDE)
    boxes = np.concatenate(
        [
            np.floor((corner + np.float32(1)) / scale),
            np.floor((corner + np.float32(CELL_SIZE)) / scale),
        ],
        axis=1,
    )
    kept = nms_within_groups(boxes, places[:, 0], _SAME_LEVEL_OVERLAP)
    if len(kept) > max_candidates:
        kept = kept[np.argsort(-scores[kept], kind="stable")[:max_candidates]]
    kept = kept[nms(boxes[kept], scores[kept], _OVERLAP)]
    return square(refine(boxes[kept], cells.regression[order[kept]], border=0))


def _spans(length: int, max_length: int) -> list[tuple[int, int]]:
    """Ranges (first pixel, past the last) of nearly equal length that cover one dimension.

    The outputs of the ranges are those of the whole: each range begins at an even pixel and
    overlaps the next by the pixels that a cell needs beyond its stride. Only the last range may end
    in half a pool window, as the whole does.
    """
    shared = CELL_SIZE - STRIDE
    count = max(1, -(-(length - shared) // max(STRIDE, max_length - shared)))
    step = -(-(length - shared) // (count * STRIDE)) * STRIDE
    starts = list(range(0, length - shared, step)) or [0]
    if len(starts) > 1 and length - starts[-1] < CELL_SIZE:
        starts.pop()
    ends = [start + step + shared for start in starts[:-1]]
    return list(zip(starts, [*ends, length], strict=True))


@kernel
def _find_cells(
    probability: NDArray[np.float32],
    regression: NDArray[np.float32],
    threshold: np.float32,
    place: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = probability.shape
    count = 0
    for row in range(rows):
        for column in range(columns):
            # No branch, so that this compiles to vector instructions: few cells pass.
            count += int(probability[row, column] >= threshold)
    places = np.empty((count, 3), dtype=np.int32)
    scores = np.empty(count, dtype=np.float32)
    moves = np.empty((count, 4), dtype=np.float32)
    if not count:
        return places, scores, moves
    n = 0
    for row in range(rows):
        for column in range(columns):
            if probability[row, column] >= threshold:
                places[n, 0] = place[0]
                places[n, 1] = place[1] + row
                places[n, 2] = place[2] + column
                scores[n] = probability[row, column]
                for side in range(4):
                    moves[n, side] = regression[side, row, column]
                n += 1
    return places, scores, moves

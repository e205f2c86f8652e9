"""A view of a photo: rotated by quarter turns, with a black border around it.

No pixel is copied. A view is another order of the rows and columns of a summed-area table; a border
repeats the outermost ones, since black adds nothing to a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TURNS = (0, 90, 180, 270)
"""Degrees clockwise."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One view of a photo.

    sums: uint32 [n], a summed-area table, flat.
    rows, columns: uint64 [height + 1] and [width + 1], offsets into `sums` of each row and column
        of the view; the offset of a pixel is the sum of both.
    turned: rotation of the photo, in degrees clockwise.
    border: width of the border, in pixels of the view.
    pixel: side of a pixel of the view, in pixels of the photo.
    """

    sums: NDArray[np.uint32]
    rows: NDArray[np.uint64]
    columns: NDArray[np.uint64]
    turned: int
    border: int
    pixel: int

    @classmethod
    def of(
        cls, table: NDArray[np.uint32], *, turned: int = 0, border: int = 0, pixel: int = 1
    ) -> View:
        """A view of the photo with a table, uint32 [height + 1, width + 1, 3], contiguous.

        Args:
            table: of `service.vision.resample.summed_area_table`; of `thinned` for a larger pixel.
            turned: degrees clockwise: 0, 90, 180 or 270.
            border: pixels of the view, 0 or more.
        """
        height, width = table.shape[0] - 1, table.shape[1] - 1
        down = np.arange(height + 1, dtype=np.uint64) * np.uint64(3 * (width + 1))
        right = np.arange(width + 1, dtype=np.uint64) * np.uint64(3)
        # The columns of a photo rotated clockwise by 90 degrees are its rows, from the last to the
        # first.
        rows, columns = {
            0: (down, right),
            90: (right, down[::-1]),
            180: (down[::-1], right[::-1]),
            270: (right[::-1], down),
        }[turned]
        return cls(
            table.reshape(-1),
            _with_border(rows, border),
            _with_border(columns, border),
            turned,
            border,
            pixel,
        )

    @property
    def width(self) -> int:
        """In pixels, border included."""
        return len(self.columns) - 1

    @property
    def height(self) -> int:
        """In pixels, border included."""
        return len(self.rows) - 1

    @property
    def unit(self) -> np.float32:
        """The factor of a mean over pixels of the view, whose sums are over pixels of the photo."""
        return np.float32(1 / self.pixel**2)

    @property
    def photo_size(self) -> tuple[int, int]:
        """Width and height without the border, in pixels of the view."""
        return self.width - 2 * self.border, self.height - 2 * self.border

    def boxes_to_photo(self, boxes: Floats) -> Floats:
        """Boxes float32 [n, 4], x1 y1 x2 y2 of the view, in pixels of the photo."""
        return _box_round(self.points_to_photo(boxes.reshape(-1, 2, 2)))

    def points_to_photo(self, points: Floats) -> Floats:
        """Points float32 [n, k, 2], x y of the view, in pixels of the photo."""
        inside = points - np.float32(self.border)
        return turn_points(inside, *self.photo_size, -self.turned) * np.float32(self.pixel)

    def boxes_of_photo(self, boxes: Floats) -> Floats:
        """Boxes float32 [n, 4] of the photo, in pixels of the view."""
        width, height = self.photo_size
        if self.turned in (90, 270):
            width, height = height, width
        own = boxes.reshape(-1, 2, 2) / np.float32(self.pixel)
        corners = turn_points(own, width, height, self.turned)
        return _box_round(corners + np.float32(self.border))


def turn_points(points: NDArray[Any], width: float, height: float, turned: int) -> NDArray[Any]:
    """Rotate points with an image of `width` x `height`.

    Args:
        points: float [..., 2], x y in pixels of the image before the rotation.
        turned: degrees clockwise, a multiple of 90.
    """
    x, y = points[..., 0], points[..., 1]
    match turned % 360:
        case 90:
            moved = (height - y, x)
        case 180:
            moved = (width - x, height - y)
        case 270:
            moved = (y, width - x)
        case _:
            return points
    return np.stack(moved, axis=-1)


def _with_border(places: NDArray[np.uint64], border: int) -> NDArray[np.uint64]:
    return np.pad(places, border, mode="edge") if border else np.ascontiguousarray(places)


def _box_round(corners: Floats) -> Floats:
    """Boxes float32 [n, 4] from two opposite corners of each, float32 [n, 2, 2]."""
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)

"""P-Net over the tiles of a photo, on all cells or on the cells that its screen chooses."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.runtime.sessions import ModelSession
from service.vision.pyramid import CELL_SIZE, NO_CELLS, STRIDE, Cells, Level, Tile, find_cells
from service.vision.resample import resample_patches, resample_tile
from service.vision.screen import Screen
from service.vision.views import View

# Bytes take less memory than activations in float32. Larger tiles, which overlap less, therefore
# still fit into the second-level cache.
_SCREEN_SIDE = 256
# A patch costs P-Net as much as eighteen cells of a whole tile. If the patches of a tile exceed
# this share of its cells, P-Net runs on the whole tile, so that no crafted photo costs much more
# than without the screen.
_CELLS_FOR_A_PATCH = 18
# The number of cells in one call of P-Net. A cell takes 2.8 us in calls of 32 to 256, and 3.5 us in
# calls of 16.
_CALL_CELLS = 64


class Scanner(Protocol):
    """Finds the cells of a view in which P-Net detects a face."""

    @property
    def tile_side(self) -> int:
        """The approximate largest side of a tile, in pixels."""
        ...

    @property
    def group_pixels(self) -> int:
        """The number of pixels of the tiles that are looked at together, in some milliseconds.

        The dispatch of smaller groups costs too much. With larger ones a single photo does not keep
        every worker busy.
        """
        ...

    def find(self, view: View, levels: Sequence[Level], tiles: Sequence[Tile]) -> Cells:
        """The cells of some tiles, at least one tile."""
        ...


class FullScanner:
    """P-Net over every pixel.

    Args:
        threshold: the smallest probability of a cell.
        tile_side: the approximate largest side of a tile, in pixels.
    """

    group_pixels = 1 << 16

    def __init__(self, pnet: ModelSession, threshold: float, tile_side: int) -> None:
        self.tile_side = tile_side
        self._pnet = pnet
        self._threshold = threshold
        self._scratch = _Scratch()

    def find(self, view: View, levels: Sequence[Level], tiles: Sequence[Tile]) -> Cells:
        """The cells of some tiles, by one call for each tile."""
        return Cells.joined([self._find(view, levels[tile.level], tile) for tile in tiles])

    def _find(self, view: View, level: Level, tile: Tile) -> Cells:
        pixels = self._scratch.array(3, tile.bottom - tile.top, tile.right - tile.left)
        resample_tile(view, level.rows, level.columns, tile.top, tile.left, pixels)
        regression, probability = self._pnet.run(pixels[np.newaxis])
        return find_cells(tile, probability[0], regression[0], self._threshold)


class ScreenedScanner:
    """P-Net on the cells that its screen chooses.

    On all photos that were measured it finds the cells that `FullScanner` finds.
    """

    tile_side = _SCREEN_SIDE
    group_pixels = 1 << 18

    def __init__(self, pnet: ModelSession, threshold: float, screen: Screen) -> None:
        self._pnet = pnet
        self._threshold = threshold
        self._screen = screen
        self._full = FullScanner(pnet, threshold, self.tile_side)

    def find(self, view: View, levels: Sequence[Level], tiles: Sequence[Tile]) -> Cells:
        """Run the screen over all tiles, then P-Net on the patches of all tiles together."""
        shapes = np.array(
            [
                (levels[t.level].rows, levels[t.level].columns, t.top, t.bottom, t.left, t.right)
                for t in tiles
            ],
            dtype=np.int32,
        )
        limits = np.array(
            [max(_CALL_CELLS, t.pixels // (_CELLS_FOR_A_PATCH * STRIDE**2)) for t in tiles]
        )
        places, crowded = self._screen.places(view, shapes, limits)
        whole = [tile for tile, full in zip(tiles, crowded, strict=True) if full]
        parts = [self._full.find(view, levels, whole)] if whole else []
        # From places in a tile's output to places in that of its level.
        corners = np.array([(t.level, t.top, t.left) for t in tiles], dtype=np.int32)
        corners[:, 1:] //= STRIDE
        corners = corners[places[:, 0]]
        places[:, 0] = 0
        places += corners
        parts += [
            self._judge(chosen[start : start + _CALL_CELLS], patches[start : start + _CALL_CELLS])
            for chosen, patches in _patches(view, levels, places)
            for start in range(0, len(chosen), _CALL_CELLS)
        ]
        return Cells.joined([NO_CELLS, *parts])

    def _judge(self, places: NDArray[np.int32], patches: NDArray[np.float32]) -> Cells:
        regression, probability = self._pnet.run(patches)
        scores = probability[:, 0, 0]
        passed = scores >= np.float32(self._threshold)
        return Cells(places[passed], scores[passed], regression[passed, :, 0, 0])


class _Scratch(threading.local):
    """One buffer for each thread, reused for every tile.

    The operating system zeroes the pages of a new buffer, which takes as long as filling them.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, dtype=np.float32)

    def array(self, *shape: int) -> NDArray[np.float32]:
        """float32 of this shape, not initialised, valid until the next call in this thread."""
        size = math.prod(shape)
        if self._buffer.size < size:
            self._buffer = np.empty(size, dtype=np.float32)
        return self._buffer[:size].reshape(shape)


_PATCH_SIZES = [(rows, columns) for rows in (CELL_SIZE, 11) for columns in (CELL_SIZE, 11)]


def _patches(
    view: View, levels: Sequence[Level], places: NDArray[np.int32]
) -> Iterable[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Places with the pixels of their cells, float32 [n, 3, rows, columns], one size at a time.

    A cell at the end of a level with an odd side has one row or column less.
    """
    whole = np.array([(level.rows, level.columns) for level in levels], dtype=np.int32)
    parts = np.concatenate([whole[places[:, 0]], places[:, 1:] * STRIDE], axis=1)
    sizes = np.minimum(parts[:, :2] - parts[:, 2:], CELL_SIZE)
    for rows, columns in _PATCH_SIZES:
        chosen = np.flatnonzero((sizes[:, 0] == rows) & (sizes[:, 1] == columns))
        if len(chosen):
            yield places[chosen], resample_patches(view, parts[chosen], rows, columns)

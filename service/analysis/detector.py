"""Detects faces: MTCNN's three networks as batched stages over all requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.analysis.scan import FullScanner, Scanner, ScreenedScanner
from service.analysis.screens import Screens
from service.analysis.stages import StageFactory
from service.batching import Ticket
from service.runtime.sessions import ModelSession
from service.vision.boxes import Boxes, square
from service.vision.cascade import (
    NO_DETECTIONS,
    ONET_SIZE,
    RNET_SIZE,
    CascadeSettings,
    Detections,
    crop_windows,
    final_detections,
    refine_candidates,
)
from service.vision.passes import in_photo
from service.vision.pyramid import (
    NO_CELLS,
    Cells,
    Level,
    Tile,
    cut_into_tiles,
    group_tiles,
    propose,
    pyramid_levels,
)
from service.vision.resample import resample_windows, thinned
from service.vision.views import View


@dataclass(frozen=True, slots=True)
class CallSizes:
    """The input sizes of one call of each network.

    tile_side: the approximate largest side of a P-Net tile, in pixels.
    rnet_crops, onet_crops: the number of crops in a call.
    job_pixels, job_cells, job_crops: the number of pixels, of P-Net's cells before NMS, and of
        crops that one job of P-Net, R-Net and O-Net takes from the requests in flight, unless a
        single item has more.
    """

    tile_side: int
    rnet_crops: int
    onet_crops: int
    job_pixels: int
    job_cells: int
    job_crops: int


# The pixels of a P-Net item of cost 1, which is what an item costs at least.
_PIXELS_OF_COST = 1 << 16

# The largest numbers of boxes of a view that go to R-Net and to O-Net in a coarse pass, which is
# one job. A rough pass needs only the most probable faces, so it has smaller numbers, and a higher
# threshold of P-Net.
_COARSE_CANDIDATES = (512, 128)
_ROUGH_CANDIDATES = (32, 8)
_ROUGH_THRESHOLD = 0.8

# The activations of one call should stay in a core's second-level cache (2 MB on the machine of
# these figures). On one core, P-Net takes 46 ms a megapixel in tiles of 160 pixels, and 70 ms in
# whole levels. R-Net takes 39 us a crop in calls of 8 to 16, and 50 us in calls of 128. O-Net takes
# 259 us in calls of 4, and 323 us in calls of 32. To dispatch a job and to hand its results on
# takes a quarter of a millisecond: a job takes some milliseconds where there is that much work.
CPU_CALLS = CallSizes(
    tile_side=160, rnet_crops=12, onet_crops=4, job_pixels=1 << 19, job_cells=1024, job_crops=32
)
# A GPU has no such cache, and each call costs a round trip to the device. Not measured.
CUDA_CALLS = CallSizes(
    tile_side=1024, rnet_crops=512, onet_crops=256,
    job_pixels=1 << 22, job_cells=1 << 14, job_crops=512,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class CoarsePass:
    """A pass over a photo for large faces alone, in one or more orientations.

    table: the summed-area table of the photo, uint32 [height + 1, width + 1, 3].
    min_face_size: the smallest face, in pixels of the photo.
    pixel: the side of a pixel of the pass, in pixels of the photo.
    border: the width of the black border, in pixels of the pass.
    turns: the rotations, in degrees clockwise.
    rough: whether the most probable faces are enough, at approximate places.
    """

    table: NDArray[np.uint32]
    min_face_size: float
    pixel: int
    border: int
    turns: tuple[int, ...]
    rough: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The plan of one pass.

    levels: the sizes of the view at which P-Net sees it.
    max_candidates: the largest number of boxes that go from P-Net to R-Net.
    """

    view: View
    levels: Sequence[Level]
    max_candidates: int


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    plan: _Plan
    tiles: Sequence[Tile]

    @property
    def cost(self) -> int:
        return 1 + sum(tile.pixels for tile in self.tiles) // _PIXELS_OF_COST


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """The cells that P-Net found in a pass, before NMS."""

    plan: _Plan
    cells: Cells

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True, slots=True, eq=False)
class _Proposals:
    """Boxes for the next network.

    windows: int32 [n, 4], y1 x1 y2 x2. boxes: float32 [n, 4].
    """

    view: View
    windows: NDArray[np.int32]
    boxes: Boxes

    @classmethod
    def of(cls, view: View, boxes: Boxes) -> _Proposals:
        return cls(view, *crop_windows(boxes, view.width, view.height))

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: NDArray[np.bool_] | slice) -> _Proposals:
        """A selection of the rows."""
        return _Proposals(self.view, self.windows[rows], self.boxes[rows])


class CascadeDetector:
    """The cascade; its stages share the worker pool, and the later network goes first.

    Args:
        pnet, rnet, onet: the networks; each takes float32 planes.
        screens: choose the cells that P-Net judges and the crops that R-Net judges.
        calls: the input sizes of the calls; None for the sizes that suit P-Net's provider.
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
        screens: Screens,
        calls: CallSizes | None = None,
    ) -> None:
        self._sessions = {"rnet": rnet, "onet": onet}
        self._settings = settings
        rnet_screen = screens.rnet
        if rnet_screen is not None and not rnet_screen.margin.holds_for(settings.thresholds[1]):
            rnet_screen = None
        self._rnet_screen = rnet_screen
        on_cuda = pnet.placement.provider == "cuda"
        self._calls = calls = calls or (CUDA_CALLS if on_cuda else CPU_CALLS)

        def scanner(threshold: float) -> Scanner:
            if screens.pnet is None or not screens.pnet.margin.holds_for(threshold):
                return FullScanner(pnet, threshold, calls.tile_side)
            return ScreenedScanner(pnet, threshold, screens.pnet)

        self._scanner = scanner(settings.thresholds[0])
        self._rough_scanner = scanner(max(_ROUGH_THRESHOLD, settings.thresholds[0]))
        self._pnet = stages.make(
            "pnet",
            self._run_tiles,
            full=calls.job_pixels // _PIXELS_OF_COST,
            cost=lambda item: item.cost,
        )
        self._rnet = stages.make("rnet", self._run_rnet, full=calls.job_cells, cost=len)
        self._onet = stages.make("onet", self._run_onet, full=calls.job_crops, cost=len)
        self._coarse = stages.make("coarse", self._run_jobs)

    async def detect(self, view: View, ticket: Ticket) -> Detections:
        """All faces of a view, best score first, in pixels of the view."""
        settings = self._settings
        plan = self._plan(view, settings.min_face_size, settings.max_candidates)
        tiles = cut_into_tiles(plan.levels, self._scanner.tile_side)
        if not tiles:
            return NO_DETECTIONS
        parts = await self._pnet.submit_all(
            [_Tiles(plan, group) for group in group_tiles(tiles, self._scanner.group_pixels)],
            ticket,
        )
        scan = _Scan(plan, Cells.joined(parts))
        if not len(scan):
            return NO_DETECTIONS
        proposals = await self._rnet.submit(scan, ticket)
        if not len(proposals):
            return NO_DETECTIONS
        return await self._onet.submit(proposals, ticket)

    async def run_coarse(self, coarse: CoarsePass, ticket: Ticket) -> list[Detections]:
        """Run a coarse pass as one job: the faces in each orientation, in pixels of the photo."""
        return await self._coarse.submit(partial(self._run_coarse_pass, coarse), ticket)

    async def judge(
        self, table: NDArray[np.uint32], box: Boxes, turns: Sequence[int], ticket: Ticket
    ) -> list[Detections]:
        """Run O-Net alone on the square around a box as one job: the face in each orientation.

        Args:
            table: the summed-area table of the photo, uint32 [height + 1, width + 1, 3].
            box: float32 [1, 4], in pixels of the photo.
            turns: the rotations, in degrees clockwise.
        """
        return await self._coarse.submit(partial(self._run_turned, table, box, turns), ticket)

    async def drain(self) -> None:
        """Finish the accepted items, stage after stage."""
        for stage in (self._pnet, self._rnet, self._onet, self._coarse):
            await stage.drain()

    def warm_up(self, view: View) -> None:
        """Run each network and compile each kernel once.

        Args:
            view: at least 40 pixels wide and high, without rotation and border.
        """
        levels = [Level(0.6, *(int(side * 0.6) for side in (view.height, view.width)))]
        plan = _Plan(view, levels, 1)
        self._run_tiles([_Tiles(plan, cut_into_tiles(levels, self._scanner.tile_side))])
        places = np.array([[0, 0, 0], [0, 2, 2]], dtype=np.int32)
        cells = Cells(places, np.ones(2, np.float32), np.zeros((2, 4), np.float32))
        scan = _Scan(plan, cells)
        self._run_rnet([scan])
        # Its screen drops black crops.
        self._judge("rnet", [self._proposals(scan)], RNET_SIZE, self._calls.rnet_crops)
        self._run_onet([self._proposals(scan)])
        table = view.sums.reshape(view.height + 1, view.width + 1, 3)
        self._run_coarse_pass(CoarsePass(table, 40, 2, 4, (0,), rough=True))

    def _plan(self, view: View, min_face_size: float, max_candidates: int) -> _Plan:
        settings = self._settings
        levels = pyramid_levels(
            view.width,
            view.height,
            min_face_size / view.pixel,
            settings.factor,
            settings.max_side / view.pixel,
        )
        return _Plan(view, levels, max_candidates)

    def _run_jobs(self, batch: Sequence[Callable[[], list[Detections]]]) -> list[list[Detections]]:
        return [job() for job in batch]

    def _run_turned(
        self, table: NDArray[np.uint32], box: Boxes, turns: Sequence[int]
    ) -> list[Detections]:
        views = [View.of(table, turned=turned) for turned in turns]
        return self._run_onet(
            [_Proposals.of(view, square(view.boxes_of_photo(box))) for view in views]
        )

    def _run_coarse_pass(self, coarse: CoarsePass) -> list[Detections]:
        """Run the whole cascade, each network over all views at once."""
        scanner = self._rough_scanner if coarse.rough else self._scanner
        most, most_judged = _ROUGH_CANDIDATES if coarse.rough else _COARSE_CANDIDATES
        most = min(most, self._settings.max_candidates)
        table = thinned(coarse.table, coarse.pixel)
        views = [
            View.of(table, turned=turned, border=coarse.border, pixel=coarse.pixel)
            for turned in coarse.turns
        ]
        found = [NO_DETECTIONS] * len(views)
        scans = {}
        for number, view in enumerate(views):
            plan = self._plan(view, coarse.min_face_size, most)
            if tiles := cut_into_tiles(plan.levels, scanner.tile_side):
                scan = _Scan(plan, scanner.find(view, plan.levels, tiles))
                if len(scan):
                    scans[number] = scan
        if scans:
            # The first boxes are the most probable ones.
            judged = zip(scans, self._run_rnet(list(scans.values())), strict=True)
            proposals = {
                number: each.take(slice(most_judged)) for number, each in judged if len(each)
            }
            if proposals:
                faces = self._run_onet(list(proposals.values()))
                for number, each in zip(proposals, faces, strict=True):
                    found[number] = in_photo(views[number], each)
        return found

    def _run_tiles(self, batch: Sequence[_Tiles]) -> list[Cells]:
        # The tiles of one pass are scanned together; all of its cells are those of its first item.
        together: dict[_Plan, list[int]] = {}
        for number, item in enumerate(batch):
            together.setdefault(item.plan, []).append(number)
        found = [NO_CELLS] * len(batch)
        for plan, numbers in together.items():
            tiles = [tile for number in numbers for tile in batch[number].tiles]
            found[numbers[0]] = self._scanner.find(plan.view, plan.levels, tiles)
        return found

    def _proposals(self, scan: _Scan) -> _Proposals:
        plan = scan.plan
        return _Proposals.of(plan.view, propose(scan.cells, plan.levels, plan.max_candidates))

    def _run_rnet(self, scans: Sequence[_Scan]) -> list[_Proposals]:
        batch = [self._to_judge(self._proposals(scan)) for scan in scans]
        if not any(map(len, batch)):
            return batch
        regression, probability = self._judge("rnet", batch, RNET_SIZE, self._calls.rnet_crops)
        threshold = self._settings.thresholds[1]
        return [
            _Proposals.of(
                item.view,
                refine_candidates(item.boxes, probability[rows], regression[rows], threshold),
            )
            for item, rows in _rows(batch)
        ]

    def _to_judge(self, proposals: _Proposals) -> _Proposals:
        """The proposals that R-Net has to judge: all but those that its screen drops."""
        if self._rnet_screen is None or not len(proposals):
            return proposals
        return proposals.take(self._rnet_screen.may_pass(proposals.view, proposals.windows))

    def _run_onet(self, batch: Sequence[_Proposals]) -> list[Detections]:
        if not any(map(len, batch)):
            return [NO_DETECTIONS] * len(batch)
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
        """Run a network over the crops of all items, one or more, `call_crops` in a call."""
        crops = np.concatenate(
            [resample_windows(item.view, item.windows, size, size) for item in batch]
        )
        calls = [
            self._sessions[network].run(crops[start : start + call_crops])
            for start in range(0, len(crops), call_crops)
        ]
        return [np.concatenate(parts) for parts in zip(*calls, strict=True)]


def _rows(batch: Sequence[_Proposals]) -> list[tuple[_Proposals, slice]]:
    """Each item with its rows in the concatenated outputs."""
    ends = np.cumsum([len(item) for item in batch])
    return [
        (item, slice(int(end) - len(item), int(end))) for item, end in zip(batch, ends, strict=True)
    ]

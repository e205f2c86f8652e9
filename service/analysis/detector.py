"""Finds faces: MTCNN's three networks as batched stages over all requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.analysis.scan import FullScanner, Scanner, ScreenedScanner
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
from service.vision.looks import in_photo
from service.vision.pyramid import (
    Cells,
    Level,
    Tile,
    cut_into_tiles,
    group_tiles,
    propose,
    pyramid_levels,
)
from service.vision.resample import resample_windows, thinned
from service.vision.screen import Screen
from service.vision.views import View


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


# How many boxes of a view pass to R-Net and to O-Net at a glance, which is one job. The second pair
# is for where the most probable faces are enough, with the smallest probability of P-Net there.
_GLANCE_CANDIDATES = (512, 128)
_ROUGH_CANDIDATES = (32, 8)
_ROUGH_THRESHOLD = 0.8

# Activations of one call should stay in a core's second-level cache (2 MB where this was measured):
# P-Net in tiles of 160 pixels takes 46 ms a megapixel on one core, in whole levels 70; R-Net takes
# 39 us a crop in calls of 8 to 16, 50 us in calls of 128; O-Net 259 us in calls of 4, 323 in 32.
CPU_CALLS = CallSizes(tile_side=160, rnet_crops=12, onet_crops=4, job_crops=128)
# A GPU has no such cache to stay in, and each call costs it a trip there and back. Not measured.
CUDA_CALLS = CallSizes(tile_side=1024, rnet_crops=512, onet_crops=256, job_crops=512)


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """A search of a photo for large faces alone, some ways up.

    table: the photo's, uint32 [height + 1, width + 1, 3]. min_face_size: in pixels of the photo.
    pixel: side of the pixels that are looked at, in pixels of the photo; border: how many of them
    are black on each side. turns: degrees clockwise. rough: whether the most probable faces alone
    are wanted, and not their exact places.
    """

    table: NDArray[np.uint32]
    min_face_size: float
    pixel: int
    border: int
    turns: tuple[int, ...]
    rough: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """One search for faces.

    levels: at which sizes P-Net sees the view. max_candidates: most boxes that pass from there to
    R-Net.
    """

    view: View
    levels: Sequence[Level]
    max_candidates: int


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    look: _Look
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """What P-Net found in a look, not yet thinned."""

    look: _Look
    cells: Cells

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True, slots=True, eq=False)
class _Proposals:
    """Boxes to judge next: windows int32 [n, 4] (y1 x1 y2 x2), boxes float32 [n, 4]."""

    view: View
    windows: NDArray[np.int32]
    boxes: Boxes

    @classmethod
    def of(cls, view: View, boxes: Boxes) -> _Proposals:
        return cls(view, *crop_windows(boxes, view.width, view.height))

    def __len__(self) -> int:
        return len(self.boxes)

    def best(self, count: int) -> _Proposals:
        """The first ones, which are the most probable."""
        return _Proposals(self.view, self.windows[:count], self.boxes[:count])


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

        def scanner(threshold: float) -> Scanner:
            if screen is None:
                return FullScanner(pnet, threshold, calls.tile_side)
            return ScreenedScanner(pnet, threshold, screen)

        self._scanner = scanner(settings.thresholds[0])
        self._rough_scanner = scanner(max(_ROUGH_THRESHOLD, settings.thresholds[0]))
        self._pnet = stages.make("pnet", self._run_tiles)
        self._rnet = stages.make("rnet", self._run_rnet, full=calls.job_crops, cost=len)
        self._onet = stages.make("onet", self._run_onet, full=calls.job_crops, cost=len)
        self._glances = stages.make("glance", self._run_jobs)

    async def detect(self, view: View, ticket: Ticket) -> Detections:
        """Every face of a view, best score first, in its pixels."""
        settings = self._settings
        look = self._look(view, settings.min_face_size, settings.max_candidates)
        tiles = cut_into_tiles(look.levels, self._scanner.tile_side)
        if not tiles:
            return NO_DETECTIONS
        parts = await self._pnet.submit_all(
            [_Tiles(look, group) for group in group_tiles(tiles, self._scanner.job_pixels)],
            ticket,
        )
        scan = _Scan(look, Cells.joined(parts))
        if not len(scan):
            return NO_DETECTIONS
        proposals = await self._rnet.submit(scan, ticket)
        if not len(proposals):
            return NO_DETECTIONS
        return await self._onet.submit(proposals, ticket)

    async def glance(self, glance: Glance, ticket: Ticket) -> list[Detections]:
        """What the whole cascade finds each way up, in pixels of the photo, all in one job."""
        return await self._glances.submit(partial(self._run_glance, glance), ticket)

    async def judge(
        self, table: NDArray[np.uint32], box: Boxes, turns: Sequence[int], ticket: Ticket
    ) -> list[Detections]:
        """What O-Net alone finds in the square round a box, each way up, in one job.

        Args:
            table: the photo's, uint32 [height + 1, width + 1, 3].
            box: float32 [1, 4], in pixels of the photo.
            turns: degrees clockwise.
        """
        return await self._glances.submit(partial(self._run_turned, table, box, turns), ticket)

    async def drain(self) -> None:
        """Finish what was accepted, stage after stage."""
        for stage in (self._pnet, self._rnet, self._onet, self._glances):
            await stage.drain()

    def warm_up(self, view: View) -> None:
        """Run each network and compile each kernel once.

        Args:
            view: of 40 pixels or more, neither turned nor bordered.
        """
        levels = [Level(0.6, *(int(side * 0.6) for side in (view.height, view.width)))]
        look = _Look(view, levels, 1)
        self._run_tiles([_Tiles(look, cut_into_tiles(levels, self._scanner.tile_side))])
        places = np.array([[0, 0, 0], [0, 2, 2]], dtype=np.int32)
        cells = Cells(places, np.ones(2, np.float32), np.zeros((2, 4), np.float32))
        scan = _Scan(look, cells)
        self._run_rnet([scan])
        self._run_onet([self._proposals(scan)])
        table = view.sums.reshape(view.height + 1, view.width + 1, 3)
        self._run_glance(Glance(table, 40, 2, 4, (0,), rough=True))

    def _look(self, view: View, min_face_size: float, max_candidates: int) -> _Look:
        settings = self._settings
        levels = pyramid_levels(
            view.width,
            view.height,
            min_face_size / view.pixel,
            settings.factor,
            settings.max_side / view.pixel,
        )
        return _Look(view, levels, max_candidates)

    def _run_jobs(self, batch: Sequence[Callable[[], list[Detections]]]) -> list[list[Detections]]:
        return [job() for job in batch]

    def _run_turned(
        self, table: NDArray[np.uint32], box: Boxes, turns: Sequence[int]
    ) -> list[Detections]:
        views = [View.of(table, turned=turned) for turned in turns]
        return self._run_onet(
            [_Proposals.of(view, square(view.boxes_of_photo(box))) for view in views]
        )

    def _run_glance(self, glance: Glance) -> list[Detections]:
        """The cascade from end to end, each network over all views at once."""
        scanner = self._rough_scanner if glance.rough else self._scanner
        most, most_judged = _ROUGH_CANDIDATES if glance.rough else _GLANCE_CANDIDATES
        most = min(most, self._settings.max_candidates)
        table = thinned(glance.table, glance.pixel)
        views = [
            View.of(table, turned=turned, border=glance.border, pixel=glance.pixel)
            for turned in glance.turns
        ]
        found = [NO_DETECTIONS] * len(views)
        scans = {}
        for number, view in enumerate(views):
            look = self._look(view, glance.min_face_size, most)
            if tiles := cut_into_tiles(look.levels, scanner.tile_side):
                scan = _Scan(look, scanner.find(view, look.levels, tiles))
                if len(scan):
                    scans[number] = scan
        if scans:
            judged = zip(scans, self._run_rnet(list(scans.values())), strict=True)
            proposals = {number: each.best(most_judged) for number, each in judged if len(each)}
            if proposals:
                faces = self._run_onet(list(proposals.values()))
                for number, each in zip(proposals, faces, strict=True):
                    found[number] = in_photo(views[number], each)
        return found

    def _run_tiles(self, batch: Sequence[_Tiles]) -> list[Cells]:
        return [self._scanner.find(item.look.view, item.look.levels, item.tiles) for item in batch]

    def _proposals(self, scan: _Scan) -> _Proposals:
        look = scan.look
        return _Proposals.of(look.view, propose(scan.cells, look.levels, look.max_candidates))

    def _run_rnet(self, scans: Sequence[_Scan]) -> list[_Proposals]:
        batch = [self._proposals(scan) for scan in scans]
        regression, probability = self._judge("rnet", batch, RNET_SIZE, self._calls.rnet_crops)
        threshold = self._settings.thresholds[1]
        return [
            _Proposals.of(
                item.view,
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
            [resample_windows(item.view, item.windows, size, size) for item in batch]
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

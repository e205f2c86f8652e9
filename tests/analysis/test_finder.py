"""Faces at the photo's edge and in turned photos are found; photos without faces stay cheap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.analysis.detector import CascadeDetector
from service.analysis.finder import FaceFinder, FoundFaces
from service.analysis.screens import Screens
from service.analysis.stages import StageFactory
from service.batching import WorkerPool, free_ticket
from service.domain.types import Box, Detection
from service.runtime.manifest import ModelName, load_manifest
from service.runtime.sessions import ModelSession, SessionSettings, open_sessions
from service.vision.cascade import CascadeSettings
from service.vision.resample import summed_area_table

Pixels = NDArray[np.uint8]
Find = Callable[[Pixels], Awaitable[FoundFaces]]

LEAST = 0.9


class CountingSession:
    """A network, and how many pixels it was shown."""

    def __init__(self, session: ModelSession) -> None:
        self.spec, self.placement, self.pixels = session.spec, session.placement, 0
        self._session = session

    def run(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self.pixels += image.shape[0] * image.shape[2] * image.shape[3]
        return self._session.run(image)


@pytest.fixture(scope="module")
def sessions(models_dir: Path) -> dict[ModelName, Any]:
    opened = open_sessions(models_dir, load_manifest(models_dir), SessionSettings("cpu", "fp32"))
    return {name: CountingSession(opened[name]) for name in ("pnet", "rnet", "onet")}


@pytest.fixture(scope="module")
def photos(portraits: list[Path]) -> list[Pixels]:
    found = []
    for path in portraits:
        image = cv2.imread(str(path))
        assert image is not None
        found.append(np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8))
    return found


@asynccontextmanager
async def finding(
    sessions: dict[ModelName, Any], *, compatible: bool = False
) -> AsyncIterator[Find]:
    pool, settings = WorkerPool(2), CascadeSettings()
    detector = CascadeDetector(
        sessions["pnet"],
        sessions["rnet"],
        sessions["onet"],
        settings,
        stages=StageFactory(pool),
        screens=Screens(),
    )
    finder = FaceFinder(detector, settings, min_confidence=LEAST, compatible=compatible)

    async def find(pixels: Pixels) -> FoundFaces:
        return await finder.find(summed_area_table(np.ascontiguousarray(pixels)), free_ticket())

    try:
        yield find
    finally:
        await detector.drain()
        await pool.aclose()


async def pixels_shown(sessions: dict[ModelName, Any], find: Find, photo: Pixels) -> dict[str, int]:
    for session in sessions.values():
        session.pixels = 0
    await find(photo)
    return {name: session.pixels for name, session in sessions.items()}


def best(found: FoundFaces) -> Detection:
    return found.faces[0]


def part(photo: Pixels, box: tuple[float, ...]) -> Pixels:
    height, width = photo.shape[:2]
    x1, y1, x2, y2 = (round(v) for v in box)
    return photo[max(y1, 0) : min(y2, height), max(x1, 0) : min(x2, width)]


def iou(a: Box, b: Box) -> float:
    def area(box: Box) -> float:
        return max(box.x2 - box.x1, 0) * max(box.y2 - box.y1, 0)

    shared = area(Box(max(a.x1, b.x1), max(a.y1, b.y1), min(a.x2, b.x2), min(a.y2, b.y2)))
    return shared / (area(a) + area(b) - shared)


async def test_a_face_inside_an_upright_photo_is_that_of_one_pass(
    sessions: dict[ModelName, Any], photos: list[Pixels]
) -> None:
    async with finding(sessions) as find, finding(sessions, compatible=True) as single_pass:
        for photo in photos:
            found = await find(photo)
            assert found == await single_pass(photo)
            assert found.turned == 0


@pytest.mark.parametrize("turned", [90, 180, 270])
async def test_a_turned_photo_gives_the_faces_of_the_upright_one(
    sessions: dict[ModelName, Any], photos: list[Pixels], turned: int
) -> None:
    async with finding(sessions) as find:
        for photo in photos:
            upright, found = await find(photo), await find(np.rot90(photo, turned // 90))
            assert found.turned == turned
            height, width = photo.shape[:2]
            box = best(upright).box
            expected = {
                90: Box(box.y1, width - box.x2, box.y2, width - box.x1),
                180: Box(width - box.x2, height - box.y2, width - box.x1, height - box.y1),
                270: Box(height - box.y2, box.x1, height - box.y1, box.x2),
            }[turned]
            assert iou(best(found).box, expected) > 0.99
            left_eye, right_eye = best(found).landmarks[:2]
            across = np.subtract(right_eye, left_eye)
            direction = {90: (0, -1), 180: (-1, 0), 270: (0, 1)}[turned]
            assert float(across @ direction) > 0.9 * float(np.hypot(*across))


async def test_a_face_is_found_in_a_photo_that_ends_at_its_box(
    sessions: dict[ModelName, Any], photos: list[Pixels]
) -> None:
    async with finding(sessions) as find:
        for photo in photos:
            box = best(await find(photo)).box
            found = await find(part(photo, (box.x1, box.y1, box.x2, box.y2)))
            assert found.turned == 0
            assert best(found).confidence >= LEAST
            x, y = round(box.x1), round(box.y1)
            alone = Box(box.x1 - x, box.y1 - y, box.x2 - x, box.y2 - y)
            assert iou(best(found).box, alone) > 0.6


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("side", ["left", "right", "top"])
async def test_a_face_that_the_photo_cuts_off_keeps_its_whole_box(
    sessions: dict[ModelName, Any], photos: list[Pixels], side: str, share: float
) -> None:
    async with finding(sessions) as find:
        for photo in photos:
            height, width = photo.shape[:2]
            box = best(await find(photo)).box
            wide, high = box.x2 - box.x1, box.y2 - box.y1
            left = round(box.x1 + share * wide) if side == "left" else 0
            top = round(box.y1 + share * high) if side == "top" else 0
            right = round(box.x2 - share * wide) if side == "right" else width
            found = await find(photo[top:height, left:right])
            assert best(found).confidence >= LEAST
            moved = Box(box.x1 - left, box.y1 - top, box.x2 - left, box.y2 - top)
            assert iou(best(found).box, moved) > 0.7


async def test_the_compatible_finder_neither_rotates_nor_adds_a_border(
    sessions: dict[ModelName, Any], photos: list[Pixels]
) -> None:
    async with finding(sessions, compatible=True) as find:
        for photo in photos:
            assert (await find(np.rot90(photo, 2))).turned == 0
        shown = await pixels_shown(sessions, find, np.full((200, 200, 3), 90, np.uint8))
    async with finding(sessions) as find:
        more = await pixels_shown(sessions, find, np.full((200, 200, 3), 90, np.uint8))
    assert shown["pnet"] < more["pnet"]


@pytest.mark.parametrize("name", ["brick.png", "gravel.png", "coffee.png", "page.png"])
async def test_a_photo_without_faces_costs_half_as_much_again_at_most(
    sessions: dict[ModelName, Any], portraits: list[Path], name: str
) -> None:
    picture = cv2.imread(str(portraits[0].with_name(name)))
    assert picture is not None
    photo = np.ascontiguousarray(cv2.resize(picture, (640, 480))[:, :, ::-1], dtype=np.uint8)
    async with finding(sessions) as find, finding(sessions, compatible=True) as single_pass:
        assert (await find(photo)).turned == 0
        once = await pixels_shown(sessions, single_pass, photo)
        all_passes = await pixels_shown(sessions, find, photo)
    assert all_passes["pnet"] < 1.5 * once["pnet"]
    # A coarse pass judges few boxes of any photo: 48 in each of three orientations, 1024 with a
    # border.
    assert all_passes["rnet"] - once["rnet"] < 600 * 24**2
    assert all_passes["onet"] - once["onet"] < 60 * 48**2


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (12, 12), (19, 19), (20, 20), (33, 700)]
)
async def test_a_photo_of_any_shape_is_searched(
    sessions: dict[ModelName, Any], shape: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    async with finding(sessions) as find:
        assert (await find(pixels)).turned == 0


async def test_several_photos_at_once_do_not_disturb_each_other(
    sessions: dict[ModelName, Any], photos: list[Pixels]
) -> None:
    seen = [photo for photo in photos for _ in range(2)]
    seen = [np.rot90(photo, number % 4) for number, photo in enumerate(seen)]
    async with finding(sessions) as find:
        alone = [await find(photo) for photo in seen]
        assert await asyncio.gather(*map(find, seen)) == alone

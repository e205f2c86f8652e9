"""Photos that end within a face, show nothing else, or lie on their side or head."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.accuracy.hard_photos import (
    LOOK_ALIKES,
    SIDES,
    Pixels,
    beyond_limit,
    cut_side,
    cut_to,
    largest,
    look_alike_photos,
    orders_that_join,
    read,
)
from bench.accuracy.parity import iou, load_reference
from bench.common.harness import MODELS, default_settings, running_analyzer
from bench.common.photos import source
from service.analysis.analyzer import Analyzer
from service.batching import free_ticket
from service.domain.types import AnalyzedPhoto, Box
from service.runtime.manifest import load_manifest
from service.runtime.matching import match_rule
from service.telemetry import StageClock

# Hundreds of photos, each looked at from several sides.
pytestmark = [pytest.mark.long, pytest.mark.slow]

SAME_FACE_IOU = 0.3
# A head behind a camera, out of focus: it is taken for a face in the whole photo only.
NO_FACE = ("img40.jpg", 1)


@pytest.fixture(scope="module")
def boxes(faces_dir: Path) -> dict[str, list[Box]]:
    """The faces that facenet-pytorch finds."""
    return {name: [face.box for face in faces] for name, faces in load_reference(faces_dir).items()}


@pytest.fixture(scope="module")
def pixels(faces_dir: Path, boxes: dict[str, list[Box]]) -> dict[str, Pixels]:
    return {name: read(faces_dir / name) for name in boxes}


@pytest.fixture(scope="module")
def upright(pixels: dict[str, Pixels]) -> dict[str, AnalyzedPhoto]:
    return dict(zip(pixels, look(list(pixels.values())), strict=True))


def look(photos: Sequence[Pixels]) -> list[AnalyzedPhoto]:
    """What the service makes of photos, sent as bitmaps: coding others would take most time."""
    waiting = asyncio.Semaphore(6)

    async def one(analyzer: Analyzer, photo: Pixels) -> AnalyzedPhoto:
        async with waiting:
            encoded, data = cv2.imencode(".bmp", np.ascontiguousarray(photo[:, :, ::-1]))
            assert encoded
            read = source(data.tobytes())
            return await analyzer.analyze(read, StageClock(), free_ticket(), hashed=False)

    async def all_of_them() -> list[AnalyzedPhoto]:
        async with running_analyzer(default_settings()) as analyzer:
            return await asyncio.gather(*(one(analyzer, photo) for photo in photos))

    return asyncio.run(all_of_them())


def has(photo: AnalyzedPhoto, box: Box) -> bool:
    return any(iou(box, face.detection.box) >= SAME_FACE_IOU for face in photo.faces)


def turned_back(box: Box, turned: int, photo: Pixels) -> Box:
    """Where a box of an upright photo is once that was turned, counter-clockwise."""
    height, width = photo.shape[:2]
    return {
        90: Box(box.y1, width - box.x2, box.y2, width - box.x1),
        180: Box(width - box.x2, height - box.y2, width - box.x1, height - box.y1),
        270: Box(height - box.y2, box.x1, height - box.y1, box.x2),
    }[turned]


def test_no_upright_photo_is_turned_and_every_face_is_found(
    upright: dict[str, AnalyzedPhoto], boxes: dict[str, list[Box]]
) -> None:
    assert {photo.turned for photo in upright.values()} == {0}
    faces = [(name, box) for name, some in boxes.items() for box in some]
    assert len(faces) == 82
    assert [name for name, box in faces if not has(upright[name], box)] == []


def test_every_face_is_found_in_a_photo_that_lies_on_its_side_or_head(
    pixels: dict[str, Pixels], upright: dict[str, AnalyzedPhoto], boxes: dict[str, list[Box]]
) -> None:
    # All of them upside down; some on each side.
    cases = [(name, 180) for name in pixels]
    cases += [(name, turned) for turned in (90, 270) for name in list(pixels)[::6]]
    found = look([np.rot90(pixels[name], turned // 90) for name, turned in cases])
    assert [photo.turned for photo in found] == [turned for _, turned in cases]
    missing = [
        (name, turned)
        for (name, turned), photo in zip(cases, found, strict=True)
        for box in boxes[name]
        if not has(photo, turned_back(box, turned, pixels[name]))
    ]
    assert missing == []
    # The same face as if it had been sent upright, and so the same vector.
    cosines = [
        float(largest(upright[name]).embedding @ largest(photo).embedding)
        for (name, _), photo in zip(cases, found, strict=True)
    ]
    assert min(cosines) > 0.999


def test_every_face_is_found_in_a_photo_that_shows_nothing_else(
    pixels: dict[str, Pixels], boxes: dict[str, list[Box]]
) -> None:
    faces = [
        (name, box)
        for name, some in boxes.items()
        for number, box in enumerate(some)
        if (name, number) != NO_FACE
    ]
    found = look([cut_to(pixels[name], box) for name, box in faces])
    missing = []
    for (name, box), photo in zip(faces, found, strict=True):
        x, y = (max(0, int(side)) for side in (box.x1, box.y1))
        if not has(photo, Box(box.x1 - x, box.y1 - y, box.x2 - x, box.y2 - y)):
            missing.append((name, box))
    assert missing == []


def test_a_person_is_known_again_where_the_photo_cuts_off_a_fifth_of_the_face(
    pixels: dict[str, Pixels], upright: dict[str, AnalyzedPhoto]
) -> None:
    cases = [(name, side) for side in SIDES for name in list(pixels)[::4]]
    found = look(
        [
            cut_side(pixels[name], largest(upright[name]).detection.box, side, 0.2)
            for name, side in cases
        ]
    )
    assert all(photo.faces for photo in found)
    distances = [
        1 - float(largest(upright[name]).embedding @ largest(photo).embedding)
        for (name, _), photo in zip(cases, found, strict=True)
    ]
    assert np.median(distances) < 0.3


def test_look_alikes_stay_apart_in_every_size_and_light(faces_dir: Path) -> None:
    photos = look_alike_photos(faces_dir)
    found = look([each for some in photos.values() for each in some])
    assert all(photo.faces for photo in found)
    half = len(photos[LOOK_ALIKES[0]])
    one, other = ([largest(photo) for photo in some] for some in (found[:half], found[half:]))
    rule = match_rule(load_manifest(MODELS).models["embedder"].embeddings[0])
    assert beyond_limit(one, other, rule) > 0
    assert orders_that_join(one, other, rule) == 0

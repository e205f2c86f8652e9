"""A limit on the searched side: faces lost and time saved, on photos of 2 to 14 MP."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.accuracy.parity import iou, load_reference
from bench.common.harness import default_settings, describe, running_analyzer, sessions
from bench.common.measure import Samples
from bench.common.photos import faces_folder, source
from bench.common.result import Effort, Result
from service.analysis.analyzer import Analyzer
from service.batching import free_ticket
from service.domain.types import Box
from service.telemetry import StageClock

_MAX_ROUNDS = 3
# The first is no limit: the others are compared with it.
_LIMITS = (0, 2560, 2048, 1600, 1280, 1024)
_FEW_LIMITS = (0, 2048)
_MIN_MEGAPIXELS = 2.0
_SCENES = 4
_SCENE_SIZE = (4000, 3000)
_CELL = 500
_FACE_HEIGHTS = (20, 400)
# Face heights in pixels: below the first, up to the second, above.
_BINS = (40, 80)
_SAME_FACE_IOU = 0.4
_SEED = 12


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """One photo to search: a file's bytes and its size."""

    name: str
    data: bytes
    megapixels: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Search:
    """One photo's faces under one limit, and milliseconds a round: of detection, and of all."""

    boxes: Sequence[Box]
    detect_ms: Sequence[float]
    whole_ms: Sequence[float]


async def run(effort: Effort) -> Result:
    """Measure faces found and milliseconds a photo for every limit; 0 is no limit."""
    rounds = min(effort.rounds, _MAX_ROUNDS)
    limits = _FEW_LIMITS if effort.quick else _LIMITS
    photos = list(islice(_large_photos(), 1 if effort.quick else None))
    if not photos:
        raise SystemExit("no large photos: set FACES_DIR to a folder with photos of 2 MP or more")
    scenes = {
        "photos": photos,
        "crowds": _crowds(_heads(2 if effort.quick else None), 1 if effort.quick else _SCENES),
    }
    settings = default_settings()
    async with AsyncExitStack() as stack:
        analyzers = {
            limit: await stack.enter_async_context(
                running_analyzer(
                    dataclasses.replace(
                        settings, cascade=dataclasses.replace(settings.cascade, max_side=limit)
                    )
                )
            )
            for limit in limits
        }
        found = {
            kind: await _search_in_turn(analyzers, some, rounds) for kind, some in scenes.items()
        }
    return Result(
        unit="",
        rates={},
        compared={},
        details={
            "max_side": {
                "height_bins": _BINS,
                "limits": {
                    str(limit): {
                        kind: compare(searches[0], searches[limit])
                        for kind, searches in found.items()
                    }
                    for limit in limits
                },
            }
        },
        configuration={
            "rounds": rounds,
            "photos": [photo.name for photo in photos],
            **describe(settings, sessions(settings)),
        },
        notes=[
            (
                "Faces: of those found without a limit, by height. Times: one caller, means over "
                "the photos; all is from a JPEG file's bytes to embeddings."
            ),
            (
                f"Photos: the reference photos of {_MIN_MEGAPIXELS:g} MP or more, "
                f"{', '.join(f'{photo.megapixels:.1f}' for photo in photos)} MP. Crowds: "
                f"{len(scenes['crowds'])} of {_SCENE_SIZE[0]} x {_SCENE_SIZE[1]} px, with "
                f"reference faces {_FACE_HEIGHTS[0]} to {_FACE_HEIGHTS[1]} px high."
            ),
        ],
    )


def compare(unlimited: Sequence[Search], limited: Sequence[Search]) -> dict[str, Any]:
    """The faces found again, by height, and mean times over the photos."""
    expected, again = [0, 0, 0], [0, 0, 0]
    for wanted, search in zip(unlimited, limited, strict=True):
        for box in wanted.boxes:
            size = int(np.searchsorted(_BINS, box.y2 - box.y1))
            expected[size] += 1
            again[size] += any(iou(box, other) >= _SAME_FACE_IOU for other in search.boxes)
    return {
        "expected": expected,
        "found": again,
        "detect_ms": _means([search.detect_ms for search in limited]).document(),
        "whole_ms": _means([search.whole_ms for search in limited]).document(),
    }


async def _search_in_turn(
    analyzers: Mapping[int, Analyzer], scenes: Sequence[_Scene], rounds: int
) -> dict[int, list[Search]]:
    """Every photo under each limit, round by round."""
    found: dict[int, list[Search]] = {limit: [] for limit in analyzers}
    for scene in scenes:
        searches = {limit: Search([], [], []) for limit in analyzers}
        for _ in range(rounds):
            for limit, analyzer in analyzers.items():
                boxes, detect_ms, whole_ms = await _search(analyzer, scene.data)
                before = searches[limit]
                searches[limit] = Search(
                    boxes, [*before.detect_ms, detect_ms], [*before.whole_ms, whole_ms]
                )
        for limit, search in searches.items():
            found[limit].append(search)
        print(f"  {scene.name}: {len(searches[0].boxes)} faces", flush=True)
    return found


async def _search(analyzer: Analyzer, data: bytes) -> tuple[list[Box], float, float]:
    clock = StageClock()
    started = time.perf_counter()
    photo = await analyzer.analyze(source(data), clock, free_ticket())
    whole_ms = (time.perf_counter() - started) * 1e3
    boxes = [face.detection.box for face in photo.faces]
    return boxes, clock.seconds["detect"] * 1e3, whole_ms


def _means(values: Sequence[Sequence[float]]) -> Samples:
    """Over the photos, round by round."""
    return Samples(tuple(statistics.fmean(each) for each in zip(*values, strict=True)))


def _large_photos() -> Iterator[_Scene]:
    """The reference photos of two megapixels or more, as they are."""
    for path in sorted(faces_folder().glob("*.jpg")):
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        megapixels = image.shape[0] * image.shape[1] / 1e6 if image is not None else 0.0
        if megapixels >= _MIN_MEGAPIXELS:
            yield _Scene(path.name, data, megapixels)


def _crowds(heads: Sequence[NDArray[np.uint8]], number: int) -> list[_Scene]:
    """Scenes with real faces of many sizes, each in a cell of its own over a blurred photo."""
    random = np.random.default_rng(_SEED)
    width, height = _SCENE_SIZE
    scenes: list[_Scene] = []
    for backdrop in heads[:number]:
        spread = cv2.resize(backdrop, (width, height), interpolation=cv2.INTER_CUBIC)
        canvas = cv2.GaussianBlur(spread, (0, 0), 40)
        for top in range(0, height, _CELL):
            for left in range(0, width, _CELL):
                head = heads[int(random.integers(len(heads)))]
                face = float(np.exp(random.uniform(*np.log(_FACE_HEIGHTS))))
                # A head is cut at twice its face's size.
                side = min(_CELL, round(2 * face))
                small = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
                y, x = (int(random.integers(0, _CELL - side + 1)) for _ in range(2))
                canvas[top + y : top + y + side, left + x : left + x + side] = small
        encoded, jpeg = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])
        assert encoded
        name = f"crowd {len(scenes) + 1}"
        scenes.append(_Scene(name, jpeg.tobytes(), width * height / 1e6))
    return scenes


def _heads(photos: int | None) -> list[NDArray[np.uint8]]:
    """Squares around the faces of reference photos, twice their size.

    Returns:
        uint8 [h, w, 3] each, BGR.
    """
    heads = []
    for name, faces in islice(load_reference(faces_folder()).items(), photos):
        image = cv2.imread(str(faces_folder() / name))
        if image is None:
            raise SystemExit(f"{name} cannot be read")
        for face in faces:
            box = face.box
            side = 2 * max(box.x2 - box.x1, box.y2 - box.y1)
            left, top = (int((a + b - side) / 2) for a, b in ((box.x1, box.x2), (box.y1, box.y2)))
            right, bottom = left + int(side), top + int(side)
            padded = cv2.copyMakeBorder(
                image,
                max(0, -top),
                max(0, bottom - image.shape[0]),
                max(0, -left),
                max(0, right - image.shape[1]),
                cv2.BORDER_REPLICATE,
            )
            top, left = max(top, 0), max(left, 0)
            head = padded[top : top + int(side), left : left + int(side)]
            heads.append(np.asarray(head, dtype=np.uint8))
    return heads

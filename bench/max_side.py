"""What a limit on the searched side costs in faces and saves in time, on photos of 2 to 14 MP."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.accuracy import load_reference
from bench.harness import default_settings, running_analyzer
from bench.photos import faces_folder, source
from service.analysis.analyzer import Analyzer
from service.domain.types import Box
from service.telemetry import StageClock

LIMITS = (0, 2560, 2048, 1600, 1280, 1024)
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
    """One photo to search: a file's bytes, its size, and whether it was put together here."""

    name: str
    data: bytes
    megapixels: float
    composed: bool


async def run(rounds: int) -> dict[str, Any]:
    """Faces found and milliseconds a photo for every limit; 0 is no limit."""
    scenes = [*_large_photos(), *_crowds()]
    settings = default_settings()
    rows: dict[int, dict[str, Any]] = {}
    unlimited: list[list[Box]] = []
    for limit in LIMITS:
        cascade = dataclasses.replace(settings.cascade, max_side=limit)
        async with running_analyzer(dataclasses.replace(settings, cascade=cascade)) as analyzer:
            found = [await _search(analyzer, scene, rounds) for scene in scenes]
        boxes = [faces for faces, _, _ in found]
        if limit == 0:
            unlimited = boxes
        rows[limit] = {
            kind: _row(
                [
                    (expected, *result)
                    for scene, expected, result in zip(scenes, unlimited, found, strict=True)
                    if scene.composed is composed
                ]
            )
            for kind, composed in (("photos", False), ("crowds", True))
        }
        print(f"  max_side {limit}: {rows[limit]}", flush=True)
    return {
        "limits": {str(limit): row for limit, row in rows.items()},
        "photos": [
            f"{scene.name} {scene.megapixels:.1f} MP" for scene in scenes if not scene.composed
        ],
        "notes": f"medians of {rounds} rounds, one caller; faces are those found without a limit, "
        f"by height in pixels; the crowds are {_SCENES} scenes of "
        f"{_SCENE_SIZE[0]} x {_SCENE_SIZE[1]} pixels with reference faces at "
        f"{_FACE_HEIGHTS[0]} to {_FACE_HEIGHTS[1]} pixels",
    }


def render_table(found: dict[str, Any]) -> str:
    """The measurement as a Markdown table."""
    lower, upper = _BINS
    sizes = (f"under {lower} px", f"{lower} to {upper} px", f"over {upper} px")
    lines = [
        "| max_side | photos: faces | detect | whole path | crowds: "
        + " | ".join(sizes)
        + " | detect | whole path |",
        "| --- " * 9 + "|",
    ]
    for limit, row in found["limits"].items():
        photos, crowds = row["photos"], row["crowds"]
        faces = sum(photos["found"]), sum(photos["expected"])
        cells = [
            "off" if limit == "0" else limit,
            f"{faces[0]} of {faces[1]}",
            f"{photos['detect_ms']:.0f} ms",
            f"{photos['whole_ms']:.0f} ms",
            *(f"{a} of {b}" for a, b in zip(crowds["found"], crowds["expected"], strict=True)),
            f"{crowds['detect_ms']:.0f} ms",
            f"{crowds['whole_ms']:.0f} ms",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def _search(analyzer: Analyzer, scene: _Scene, rounds: int) -> tuple[list[Box], float, float]:
    """The faces of a photo, and median milliseconds for finding them and for everything."""
    detect, whole = [], []
    for _ in range(rounds):
        clock = StageClock()
        started = time.perf_counter()
        photo = await analyzer.analyze(source(scene.data), clock)
        whole.append((time.perf_counter() - started) * 1e3)
        detect.append(clock.seconds["detect"] * 1e3)
    boxes = [face.detection.box for face in photo.faces]
    return boxes, statistics.median(detect), statistics.median(whole)


def _row(results: Sequence[tuple[list[Box], list[Box], float, float]]) -> dict[str, Any]:
    expected, again = [0, 0, 0], [0, 0, 0]
    for wanted, boxes, _, _ in results:
        for box in wanted:
            size = int(np.searchsorted(_BINS, box.y2 - box.y1))
            expected[size] += 1
            again[size] += any(_iou(box, other) >= _SAME_FACE_IOU for other in boxes)
    return {
        "expected": expected,
        "found": again,
        "detect_ms": statistics.fmean(detect for _, _, detect, _ in results),
        "whole_ms": statistics.fmean(whole for _, _, _, whole in results),
    }


def _large_photos() -> list[_Scene]:
    """The reference photos of two megapixels or more, as they are."""
    scenes = []
    for path in sorted(faces_folder().glob("*.jpg")):
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        megapixels = image.shape[0] * image.shape[1] / 1e6 if image is not None else 0.0
        if megapixels >= _MIN_MEGAPIXELS:
            scenes.append(_Scene(path.name, data, megapixels, composed=False))
    if not scenes:
        raise SystemExit("no large photos: set FACES_DIR to a folder with photos of 2 MP or more")
    return scenes


def _crowds() -> list[_Scene]:
    """Scenes with real faces of many sizes, each in a cell of its own over a blurred photo."""
    random = np.random.default_rng(_SEED)
    heads = _heads()
    width, height = _SCENE_SIZE
    scenes = []
    for number in range(_SCENES):
        backdrop = cv2.resize(heads[number], (width, height), interpolation=cv2.INTER_CUBIC)
        canvas = cv2.GaussianBlur(backdrop, (0, 0), 40)
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
        name = f"crowd {number + 1}"
        scenes.append(_Scene(name, jpeg.tobytes(), width * height / 1e6, composed=True))
    return scenes


def _heads() -> list[NDArray[np.uint8]]:
    """Squares about the reference faces, twice their size: uint8 [h, w, 3], BGR."""
    heads = []
    for name, faces in load_reference(faces_folder()).items():
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


def _iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a.x2, b.x2) - max(a.x1, b.x1))
    height = max(0.0, min(a.y2, b.y2) - max(a.y1, b.y1))
    areas = ((c.x2 - c.x1) * (c.y2 - c.y1) for c in (a, b))
    return width * height / (sum(areas) - width * height)

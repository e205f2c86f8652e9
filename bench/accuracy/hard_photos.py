"""Harder versions of the shared photos: cut at an edge, cut to a face, upside down, rescaled.

Each photo's faces are known (`reference.json`), and for 300 pairs of photos whether their largest
faces are of one person (`pairs.csv`).
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.accuracy.joining import join_one_by_one
from bench.accuracy.parity import ReferenceFace, iou
from bench.accuracy.people import GOOD_QUALITY
from bench.common.photos import source
from service.analysis.analyzer import Analyzer
from service.batching import free_ticket
from service.domain.matching import MatchRule, doubt_of
from service.domain.types import AnalyzedPhoto, Box, EmbeddedFace, Embedding
from service.telemetry import StageClock

Pixels = NDArray[np.uint8]

SIDES = ("left", "right", "top", "bottom")
CUTS = (0.1, 0.2)
# Two photos that are not labelled as one person's, and came together under some rescalings.
LOOK_ALIKES = ("img1.jpg", "img43.jpg")
SCALES = (0.2, 0.25, 0.3, 0.35, 0.42, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.4)
BRIGHTNESS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 1.9)
ORDERS = 100
_SAME_FACE_IOU = 0.3
_AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class SharedPairs:
    """Distances of the labelled pairs, as the match rule measures them between two faces."""

    same_person: tuple[float, ...]
    strangers: tuple[float, ...]

    @property
    def margin(self) -> float:
        """Nearest stranger minus farthest friend: above 0 where all pairs are told apart."""
        return min(self.strangers) - max(self.same_person)


def read(path: Path) -> Pixels:
    """uint8 [height, width, 3] RGB."""
    pixels = cv2.imread(str(path))
    assert pixels is not None, path
    return np.ascontiguousarray(pixels[:, :, ::-1])


def cut_side(pixels: Pixels, box: Box, side: str, share: float) -> Pixels:
    """The photo, cut so that a share of the box is beyond the edge."""
    height, width = pixels.shape[:2]
    wide, high = box.x2 - box.x1, box.y2 - box.y1
    left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    match side:
        case "left":
            left = box.x1 + share * wide
        case "right":
            right = box.x2 - share * wide
        case "top":
            top = box.y1 + share * high
        case _:
            bottom = box.y2 - share * high
    return _part(pixels, left, top, right, bottom)


def cut_to(pixels: Pixels, box: Box) -> Pixels:
    """The photo, cut to a box."""
    return _part(pixels, box.x1, box.y1, box.x2, box.y2)


async def analyze(analyzer: Analyzer, photos: Sequence[Pixels]) -> list[AnalyzedPhoto]:
    """The service's analysis of photos, each sent as a PNG file."""
    waiting = asyncio.Semaphore(_AT_ONCE)

    async def one(pixels: Pixels) -> AnalyzedPhoto:
        async with waiting:
            _, data = await asyncio.to_thread(cv2.imencode, ".png", pixels[:, :, ::-1])
            return await analyzer.analyze(source(data.tobytes()), StageClock(), free_ticket())

    return list(await asyncio.gather(*map(one, photos)))


def shared_pairs(
    folder: Path, faces: Mapping[str, Embedding], rule: MatchRule, among: Mapping[str, Embedding]
) -> SharedPairs:
    """The labelled pairs: the first photo's face from `faces`, the second's from `among`."""
    distances: dict[str, list[float]] = {"Yes": [], "No": []}
    for row in _labelled_pairs(folder):
        if row["file_x"] in faces and row["file_y"] in among:
            pair = faces[row["file_x"]], among[row["file_y"]]
            distances[row["Decision"]].append(distance(rule, *pair))
    return SharedPairs(tuple(distances["Yes"]), tuple(distances["No"]))


def distance(rule: MatchRule, one: Embedding, other: Embedding) -> float:
    """The distance of two faces by the match rule."""
    found = rule.distances(one, other[np.newaxis].astype(np.float64), np.ones(1))
    return float(found[0])


def largest(photo: AnalyzedPhoto) -> EmbeddedFace:
    """A photo's largest face."""
    return max(photo.faces, key=lambda face: area(face.detection.box))


def area(box: Box) -> float:
    """Of a box, in square pixels."""
    return max(box.x2 - box.x1, 0) * max(box.y2 - box.y1, 0)


def largest_of(reference: Sequence[ReferenceFace]) -> ReferenceFace:
    """The largest reference face of a photo."""
    return max(reference, key=lambda face: area(face.box))


def found_again(photo: AnalyzedPhoto, boxes: Sequence[Box]) -> int:
    """The number of boxes that a face of the photo matches; each face counts once."""
    free = [face.detection.box for face in photo.faces]
    count = 0
    for box in boxes:
        best = max(free, key=lambda other: iou(box, other), default=None)
        if best is not None and iou(box, best) >= _SAME_FACE_IOU:
            free.remove(best)
            count += 1
    return count


def _some_names(folder: Path) -> set[str]:
    """The photos of one pair of each kind."""
    rows = {row["Decision"]: row for row in _labelled_pairs(folder)}
    return {row[key] for row in rows.values() for key in ("file_x", "file_y")}


def _labelled_pairs(folder: Path) -> list[dict[str, str]]:
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def look_alike_photos(folder: Path) -> dict[str, list[Pixels]]:
    """The look-alikes at all scales and brightnesses, by name."""
    return {
        name: [
            _brighter(_scaled(read(folder / name), scale), gain)
            for scale in SCALES
            for gain in BRIGHTNESS
        ]
        for name in LOOK_ALIKES
    }


def upside_down(box: Box, width: int, height: int) -> Box:
    """The box in the photo turned by 180 degrees."""
    return Box(width - box.x2, height - box.y2, width - box.x1, height - box.y1)


def _part(pixels: Pixels, left: float, top: float, right: float, bottom: float) -> Pixels:
    height, width = pixels.shape[:2]
    x1, y1 = max(int(left), 0), max(int(top), 0)
    x2, y2 = min(int(right), width), min(int(bottom), height)
    return np.ascontiguousarray(pixels[y1:y2, x1:x2])


def _scaled(pixels: Pixels, scale: float) -> Pixels:
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how), np.uint8)


def _brighter(pixels: Pixels, gain: float) -> Pixels:
    return np.asarray(np.clip(pixels * np.float32(gain), 0, 255), np.uint8)


@dataclass(frozen=True, slots=True)
class HardPhotos:
    """Results on the shared photos.

    pairs: unchanged photos. cut: one photo of each pair is cut through its face, by share.
    cut_to_box, upside_down: numbers of reference faces that are found. look_alikes: the smallest
    distance beyond the limit of a tenant of one person, over all sizes and brightnesses.
    look_alikes_joined: the number of `ORDERS` tenants, with some of these photos in any order, in
    which a cluster has both people.
    """

    pairs: SharedPairs
    cut: Mapping[float, SharedPairs]
    reference_faces: int
    cut_to_box: int
    upside_down: int
    look_alikes: float
    look_alikes_joined: int


async def measure(
    folder: Path,
    reference: Mapping[str, Sequence[ReferenceFace]],
    analyzer: Analyzer,
    rule: MatchRule,
    *,
    quick: bool = False,
) -> HardPhotos:
    """Everything above, for one space."""
    known = {name: faces for name, faces in reference.items() if faces}
    if quick:
        known = {name: known[name] for name in _some_names(folder)}
    pixels = {name: await asyncio.to_thread(read, folder / name) for name in known}
    plain = dict(zip(known, await analyze(analyzer, list(pixels.values())), strict=True))
    faces = {name: largest(photo).embedding for name, photo in plain.items() if photo.faces}
    cut: dict[float, SharedPairs] = {}
    for share in CUTS:
        same: list[float] = []
        strangers: list[float] = []
        for side in SIDES:
            boxes = {name: largest_of(known[name]).box for name in known}
            photos = [cut_side(pixels[name], boxes[name], side, share) for name in known]
            some = await analyze(analyzer, photos)
            seen = {
                name: largest(photo).embedding
                for name, photo in zip(known, some, strict=True)
                if photo.faces
            }
            found = shared_pairs(folder, faces, rule, seen)
            same += found.same_person
            strangers += found.strangers
        cut[share] = SharedPairs(tuple(same), tuple(strangers))
    boxes_of = [(name, face.box) for name, some in known.items() for face in some]
    alone = await analyze(analyzer, [cut_to(pixels[name], box) for name, box in boxes_of])
    turned = await analyze(
        analyzer, [np.ascontiguousarray(each[::-1, ::-1]) for each in pixels.values()]
    )
    upside = sum(
        found_again(
            photo, [upside_down(face.box, photo.width, photo.height) for face in known[name]]
        )
        for name, photo in zip(known, turned, strict=True)
    )
    one, other = [
        [largest(photo) for photo in await analyze(analyzer, some) if photo.faces]
        for some in look_alike_photos(folder).values()
    ]
    return HardPhotos(
        shared_pairs(folder, faces, rule, faces),
        cut,
        len(boxes_of),
        sum(bool(photo.faces) for photo in alone),
        upside,
        beyond_limit(one, other, rule),
        orders_that_join(one, other, rule),
    )


def beyond_limit(
    one: Sequence[EmbeddedFace], other: Sequence[EmbeddedFace], rule: MatchRule
) -> float:
    """The smallest distance beyond the limit, of faces of two people in a tenant of one person.

    Whichever of two came first, if others are matched against it: the other has a stricter limit
    where it is of low quality.
    """
    return min(
        distance(rule, new.embedding, old.embedding)
        - rule.limit.at(1, doubt_of(new.quality.score, GOOD_QUALITY))
        for firsts, seconds in ((one, other), (other, one))
        for old in firsts
        if old.quality.score >= GOOD_QUALITY
        for new in seconds
    )


def orders_that_join(
    one: Sequence[EmbeddedFace], other: Sequence[EmbeddedFace], rule: MatchRule
) -> int:
    """The number of `ORDERS` tenants of some of the faces in which a cluster has both people."""
    faces = [*one, *other]
    vectors = np.stack([face.embedding for face in faces])
    qualities = np.array([face.quality.score for face in faces])
    is_one = np.arange(len(faces)) < len(one)
    joined = 0
    for seed in range(ORDERS):
        random = np.random.default_rng(seed)
        some = random.permutation(len(faces))[: random.integers(2, len(faces), endpoint=True)]
        clusters = join_one_by_one(vectors, qualities, some, rule)[some]
        joined += not set(clusters[is_one[some]]).isdisjoint(clusters[~is_one[some]])
    return joined

"""Parity with facenet-pytorch: boxes and embeddings of its faces, and distances of pairs."""

from __future__ import annotations

import asyncio
import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common.harness import compatible_settings, running_analyzer
from service.batching import free_ticket
from service.domain.types import AnalyzedPhoto, Box, EmbeddedFace
from service.telemetry import StageClock

# Smallest probability of a reference face, and smallest IoU of the same box.
_MIN_PROBABILITY = 0.9
_SAME_FACE_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceFace:
    """One face that facenet-pytorch found: its box in pixels and its unit vector."""

    box: Box
    probability: float
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PhotoParity:
    """One photo against the reference.

    ious and cosines: one value for each reference face that was found again.
    """

    name: str
    expected: int
    found: int
    ious: tuple[float, ...]
    cosines: tuple[float, ...]

    @property
    def same_faces(self) -> bool:
        """Whether the faces are exactly the reference faces."""
        return self.expected == self.found == len(self.ious)


@dataclass(frozen=True, slots=True)
class PairDistances:
    """Cosine distances of the labelled pairs, largest face of each photo."""

    same_person: tuple[float, ...]
    strangers: tuple[float, ...]


def load_reference(folder: Path) -> dict[str, list[ReferenceFace]]:
    """The reference faces of every photo, those with probability 0.9 or more."""
    document = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    embeddings = np.load(folder / "reference_embeddings.npy")
    return {
        name: [
            ReferenceFace(Box(*face["box"]), face["probability"], embeddings[face["embedding"]])
            for face in photo["faces"]
            if face["probability"] >= _MIN_PROBABILITY
        ]
        for name, photo in document["images"].items()
    }


async def analyze_folder(folder: Path, names: Sequence[str]) -> dict[str, AnalyzedPhoto]:
    """Every named photo at full size, in compatible mode."""
    async with running_analyzer(compatible_settings()) as analyzer:
        photos = await asyncio.gather(
            *(
                analyzer.analyze(
                    partial(asyncio.to_thread, (folder / name).read_bytes),
                    StageClock(),
                    free_ticket(),
                )
                for name in names
            )
        )
    return dict(zip(names, photos, strict=True))


def compare(name: str, reference: Sequence[ReferenceFace], photo: AnalyzedPhoto) -> PhotoParity:
    """Pair each reference face with the face found at its place."""
    free = list(photo.faces)
    ious, cosines = [], []
    for face in reference:
        best = max(free, key=lambda other: iou(face.box, other.detection.box), default=None)
        if best is None or (shared := iou(face.box, best.detection.box)) < _SAME_FACE_IOU:
            continue
        free.remove(best)
        ious.append(shared)
        cosines.append(float(face.embedding @ best.embedding))
    return PhotoParity(name, len(reference), len(photo.faces), tuple(ious), tuple(cosines))


def pair_distances(folder: Path, photos: Mapping[str, AnalyzedPhoto]) -> PairDistances:
    """Distances of the pairs of pairs.csv whose photos are both given."""
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream) if photos.keys() >= {row["file_x"], row["file_y"]}
        ]
    distances: dict[str, list[float]] = {"Yes": [], "No": []}
    for row in rows:
        first, second = (_largest(photos[row[key]]) for key in ("file_x", "file_y"))
        distances[row["Decision"]].append(1 - float(first.embedding @ second.embedding))
    return PairDistances(tuple(distances["Yes"]), tuple(distances["No"]))


async def measure(folder: Path, reference: Mapping[str, Sequence[ReferenceFace]]) -> dict[str, Any]:
    """Measure parity and pair accuracy in compatible mode."""
    photos = await analyze_folder(folder, list(reference))
    rows = [compare(name, faces, photos[name]) for name, faces in reference.items()]
    return {
        "summary": summarize(rows),
        "photos": [_row(row) for row in rows],
        "pairs": _pairs_document(pair_distances(folder, photos)),
    }


def summarize(rows: Sequence[PhotoParity]) -> dict[str, float]:
    """The summary of parity over all photos."""
    ious = [iou for row in rows for iou in row.ious]
    cosines = [cosine for row in rows for cosine in row.cosines]
    return {
        "photos": len(rows),
        "photos_with_the_same_faces": sum(row.same_faces for row in rows),
        "reference_faces": sum(row.expected for row in rows),
        "faces_found_again": len(ious),
        "mean_iou": statistics.fmean(ious),
        "min_iou": min(ious),
        "min_cosine": min(cosines),
        "share_with_cosine_0.99": sum(c >= 0.99 for c in cosines) / sum(r.expected for r in rows),
    }


def _pairs_document(pairs: PairDistances) -> dict[str, Any]:
    limits = (0.4, 0.5, 0.6)
    return {
        "same_person": {"pairs": len(pairs.same_person), "max": max(pairs.same_person)},
        "strangers": {"pairs": len(pairs.strangers), "min": min(pairs.strangers)},
        "at_max_distance": {
            str(limit): {
                "same_person_joined": sum(d <= limit for d in pairs.same_person),
                "strangers_joined": sum(d <= limit for d in pairs.strangers),
            }
            for limit in limits
        },
    }


def render_table(document: Mapping[str, Any]) -> str:
    """The parity table and its summary as Markdown."""
    lines = [
        "# Parity with facenet-pytorch",
        "",
        "Written by `python -m bench accuracy`: faces with probability 0.9 or more, photos at full",
        "size, compatible mode; the smallest IoU and cosine of each photo.",
        "",
        "| photo | faces expected | found | min IoU | min cosine |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in document["photos"]:
        iou, cosine = (row[key] if row["expected"] else "" for key in ("min_iou", "min_cosine"))
        lines.append(f"| {row['photo']} | {row['expected']} | {row['found']} | {iou} | {cosine} |")
    lines += ["", "| over all photos | |", "| --- | --- |"]
    lines += [f"| {key} | {value:.7g} |" for key, value in document["summary"].items()]
    lines += ["", "Labelled pairs, cosine distances:", "", "```json"]
    return "\n".join([*lines, json.dumps(document["pairs"], indent=2), "```", ""])


def _row(row: PhotoParity) -> dict[str, Any]:
    return {
        "photo": row.name,
        "expected": row.expected,
        "found": row.found,
        "min_iou": round(min(row.ious), 6) if row.ious else None,
        "min_cosine": round(min(row.cosines), 6) if row.cosines else None,
    }


def _largest(photo: AnalyzedPhoto) -> EmbeddedFace:
    return max(photo.faces, key=lambda face: _area(face.detection.box))


def _area(box: Box) -> float:
    return max(box.x2 - box.x1, 0) * max(box.y2 - box.y1, 0)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    shared = _area(Box(max(a.x1, b.x1), max(a.y1, b.y1), min(a.x2, b.x2), min(a.y2, b.y2)))
    return shared / (_area(a) + _area(b) - shared)

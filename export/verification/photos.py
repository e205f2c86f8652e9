"""Real photographs with known faces: those of a labelled folder, else two portraits."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.types import Box, FacePlace

_CHECKOUT = Path(__file__).parents[2]
_FACES_DIR = "FACES_DIR"
_MIN_PROBABILITY = 0.9

# Photographs by NASA and by the US Navy, in the public domain: package, file inside it, face.
_PORTRAITS: tuple[tuple[str, str, FacePlace], ...] = (
    (
        "skimage",
        "data/astronaut.png",
        FacePlace(
            Box(178, 62, 274, 188),
            ((205.0, 101.7), (246.8, 103.7), (224.7, 129.0), (201.7, 139.2), (245.3, 141.9)),
        ),
    ),
    (
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        FacePlace(
            Box(170, 128, 366, 332),
            ((221.7, 192.2), (309.8, 186.1), (269.4, 239.2), (232.7, 279.6), (306.6, 275.9)),
        ),
    ),
)


@dataclass(frozen=True)
class Photo:
    """A picture file and its faces, in its pixels; at least one.

    A face has no landmarks if the reference has none.
    """

    path: Path
    faces: tuple[FacePlace, ...]

    def read(self) -> NDArray[np.uint8] | None:
        """uint8 [h, w, 3] RGB, or None when the file is no picture."""
        picture = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if picture is None:
            return None
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@dataclass(frozen=True)
class LabelledPair:
    """Two photos by file name, and whether their largest faces are one person's."""

    first: str
    second: str
    same_person: bool


@dataclass(frozen=True)
class Album:
    """Photographs at hand; `labelled` is False for the packaged portraits and for none at all."""

    photos: tuple[Photo, ...] = ()
    pairs: tuple[LabelledPair, ...] = ()
    labelled: bool = False

    def opened(self) -> Iterator[tuple[Photo, NDArray[np.uint8]]]:
        """Each readable photo with its pixels, uint8 [h, w, 3] RGB; one at a time in memory."""
        for photo in self.photos:
            pixels = photo.read()
            if pixels is not None:
                yield photo, pixels


def find() -> Album:
    """Photos of FACES_DIR or of the folder shared beside the checkout, else packaged portraits.

    A folder needs a `reference.json` with boxes; landmarks, and `pairs.csv` (file_x, file_y,
    Decision) with pairs, are optional.
    """
    named = os.environ.get(_FACES_DIR)
    folder = Path(named) if named else _CHECKOUT.parent / "shared" / "faces"
    photos = _labelled_photos(folder)
    if photos:
        return Album(photos, _pairs(folder), labelled=True)
    return Album(_packaged_portraits())


def _labelled_photos(folder: Path) -> tuple[Photo, ...]:
    try:
        images = json.loads((folder / "reference.json").read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError):
        return ()
    photos = []
    for name, facts in images.items():
        faces = tuple(
            FacePlace(Box(*face["box"]), tuple((x, y) for x, y in face.get("landmarks", ())))
            for face in facts["faces"]
            if face["probability"] >= _MIN_PROBABILITY
        )
        if faces and (folder / name).is_file():
            photos.append(Photo(folder / name, faces))
    return tuple(photos)


def _pairs(folder: Path) -> tuple[LabelledPair, ...]:
    path = folder / "pairs.csv"
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple(
            LabelledPair(row["file_x"], row["file_y"], row["Decision"] == "Yes")
            for row in csv.DictReader(stream)
        )


def _packaged_portraits() -> tuple[Photo, ...]:
    photos = []
    for package, file, face in _PORTRAITS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / file
            if path.is_file():
                photos.append(Photo(path, (face,)))
    return tuple(photos)

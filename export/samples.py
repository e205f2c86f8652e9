"""The pictures a verification run feeds to both sides: random pixels and, where found, faces."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from export.signature import SIGNATURES
from service.runtime.manifest import ModelName

Pixels = NDArray[np.uint8] | NDArray[np.float32]
Box = tuple[float, float, float, float]

_CHECKOUT = Path(__file__).parent.parent
_FACES_DIR = "FACES_DIR"
_MAX_FACES = 48
_MIN_PROBABILITY = 0.9
_SEED = 20180408

# Odd, even, just large enough and far from square: P-Net's pool rounds up.
_RANDOM_SIZES = ((12, 12), (13, 17), (24, 31), (97, 128), (151, 66))
_PHOTO_LONG_SIDES = (385, 256, 193, 127)
_BATCH_SIZES = (1, 2, 3, 8)

# Photographs by NASA and by the US Navy, in the public domain: package, file inside it, face box.
_PORTRAITS: tuple[tuple[str, str, Box], ...] = (
    ("skimage", "data/astronaut.png", (178, 62, 274, 188)),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (170, 128, 366, 332)),
)


@dataclass(frozen=True)
class Samples:
    """Verification inputs.

    faces: uint8 [h, w, 3] RGB each, cut at their boxes. photos: uint8 [h, w, 3] RGB each.
    description: one phrase for the manifest, without local paths.
    """

    faces: tuple[Pixels, ...]
    photos: tuple[Pixels, ...]
    description: str

    def batches(self, model: ModelName) -> Iterator[Pixels]:
        """[n, h, w, 3] RGB batches of several sizes for one model, of its input's dtype.

        Random pixels of a float32 input are no whole numbers.
        """
        dtype = SIGNATURES[model].image.dtype
        random = np.random.default_rng(_SEED)

        def noise(*shape: int) -> Pixels:
            return random.uniform(0, 255, shape).astype(dtype)

        if model == "pnet":
            for (height, width), count in zip(_RANDOM_SIZES, (1, 2, 3, 1, 2), strict=True):
                yield noise(count, height, width, 3)
            for place, photo in enumerate(self.photos):
                long_side = _PHOTO_LONG_SIDES[place % len(_PHOTO_LONG_SIDES)]
                yield _shrink(photo, long_side)[np.newaxis].astype(dtype)
            return
        side = SIGNATURES[model].image.shape[1]
        assert isinstance(side, int)
        for count in _BATCH_SIZES:
            yield noise(count, side, side, 3)
        crops = [_resize(face, side, side) for face in self.faces]
        step = max(_BATCH_SIZES)
        for start in range(0, len(crops), step):
            yield np.stack(crops[start : start + step]).astype(dtype)


def gather() -> Samples:
    """Samples from FACES_DIR, the folder shared beside the checkout, or installed packages."""
    named = os.environ.get(_FACES_DIR)
    folders = [Path(named)] if named else [_CHECKOUT.parent / "shared" / "faces"]
    for folder in folders:
        found = _labelled_photos(folder)
        if found:
            return _samples(found, "random pixels and {faces} real faces in {photos} photographs")
    found = _packaged_portraits()
    if found:
        return _samples(
            found,
            "random pixels and {photos} public-domain portraits ({names}) "
            "from scikit-image and matplotlib",
        )
    return Samples((), (), "random pixels only; no photograph was at hand")


def _samples(found: dict[str, tuple[Pixels, list[Box]]], description: str) -> Samples:
    faces = [_cut(photo, box) for photo, boxes in found.values() for box in boxes]
    text = description.format(faces=len(faces), photos=len(found), names=", ".join(found))
    return Samples(tuple(faces), tuple(photo for photo, _ in found.values()), text)


def _labelled_photos(folder: Path) -> dict[str, tuple[Pixels, list[Box]]]:
    """Photos of a folder whose reference.json gives boxes, up to a number of faces in all."""
    try:
        images = json.loads((folder / "reference.json").read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError):
        return {}
    found: dict[str, tuple[Pixels, list[Box]]] = {}
    left = _MAX_FACES
    for name, facts in images.items():
        boxes = [tuple(f["box"]) for f in facts["faces"] if f["probability"] >= _MIN_PROBABILITY]
        photo = _read(folder / name) if boxes and left > 0 else None
        if photo is not None:
            found[name] = photo, boxes[:left]
            left -= len(boxes[:left])
    return found


def _packaged_portraits() -> dict[str, tuple[Pixels, list[Box]]]:
    found: dict[str, tuple[Pixels, list[Box]]] = {}
    for package, file, box in _PORTRAITS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / file
            photo = _read(path)
            if photo is not None:
                found[path.name] = photo, [box]
    return found


def _read(path: Path) -> Pixels | None:
    if not path.is_file():
        return None
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        return None
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _cut(photo: Pixels, box: Box) -> Pixels:
    height, width = photo.shape[:2]
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(width, max(left + 1, int(box[2]))), min(height, max(top + 1, int(box[3])))
    return photo[top:bottom, left:right].copy()


def _shrink(photo: Pixels, long_side: int) -> Pixels:
    height, width = photo.shape[:2]
    scale = long_side / max(height, width)
    return _resize(photo, max(12, round(width * scale)), max(12, round(height * scale)))


def _resize(picture: Pixels, width: int, height: int) -> Pixels:
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)

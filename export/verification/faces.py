"""Crops and pairs of faces for calibration and for measuring variants."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from export.verification.photos import Album
from service.domain.types import Box, FacePlace
from service.runtime.manifest import FaceCrop
from service.vision.crop import cut_face

_SEED = 20180408
# Smooth pictures for a machine without photographs: patches of colour with noise.
_STAND_INS = 16
_PATCHES = (3, 5, 8, 12)
_GRAIN = 4.0


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Crops as the service cuts them, and pairs of them.

    crops: uint8 [n, size, size, 3] RGB.
    faces: number of crops that show a face: all, or none.
    labelled_faces: number of crops from a labelled folder: all, or none.
    pairs: two rows of `crops`, and whether both show one person.
    description: one phrase for the manifest, without local paths.
    """

    crops: NDArray[np.uint8]
    faces: int
    labelled_faces: int
    pairs: tuple[tuple[int, int, bool], ...]
    description: str


def gather(album: Album, crop: FaceCrop) -> FaceSet:
    """The crop of every face of the album; random colour patches if it has none.

    A pair is the largest faces of its two photos; pairs with a missing photo are left out.
    """
    crops: list[NDArray[np.uint8]] = []
    largest: dict[str, int] = {}
    names: list[str] = []
    for photo, pixels in album.opened():
        names.append(photo.path.name)
        areas: dict[int, float] = {}
        for face in photo.faces:
            found = _cut(pixels, face, crop)
            if found is not None:
                areas[len(crops)] = _area(face.box)
                crops.append(found)
        if areas:
            largest[photo.path.name] = max(areas, key=areas.__getitem__)
    if not crops:
        text = f"{_STAND_INS} pictures of random colour patches; no photograph was at hand"
        return FaceSet(_stand_ins(crop.size), 0, 0, (), text)
    if not album.labelled:
        text = f"{len(crops)} public-domain portraits ({', '.join(names)})"
        return FaceSet(np.stack(crops), len(crops), 0, (), text)
    pairs = tuple(
        (largest[pair.first], largest[pair.second], pair.same_person)
        for pair in album.pairs
        if pair.first in largest and pair.second in largest
    )
    text = f"{len(crops)} real faces in {len(names)} photographs"
    return FaceSet(np.stack(crops), len(crops), len(crops), pairs, text)


def _cut(pixels: NDArray[np.uint8], face: FacePlace, crop: FaceCrop) -> NDArray[np.uint8] | None:
    """The crop of a face as the service cuts it; None where it cannot be cut that way."""
    if crop.kind == "landmarks" and not face.landmarks:
        return None
    return cut_face(pixels, face, crop)


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)


def _stand_ins(side: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(_SEED)
    pictures = []
    for place in range(_STAND_INS):
        patches = _PATCHES[place % len(_PATCHES)]
        colours = random.uniform(0, 255, (patches, patches, 3)).astype(np.float32)
        smooth = cv2.resize(colours, (side, side), interpolation=cv2.INTER_CUBIC)
        pictures.append(smooth + random.normal(0, _GRAIN, smooth.shape))
    return np.clip(np.stack(pictures), 0, 255).astype(np.uint8)

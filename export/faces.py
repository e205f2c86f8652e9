"""The faces on which FaceNet is calibrated and its variants are measured: crops and pairs."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from export.photos import Album
from export.signature import SIGNATURES
from service.domain.types import Box
from service.vision.crop import crop_face

_SEED = 20180408
# Smooth pictures for a machine without any photograph: patches of colour with grain on them.
_STAND_INS = 16
_PATCHES = (3, 5, 8, 12)
_GRAIN = 4.0


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Crops as the service cuts them, and pairs of them.

    crops: uint8 [n, 160, 160, 3] RGB.
    faces: how many of the crops show a face: all, or none.
    labelled_faces: how many of them come from a labelled folder: all, or none.
    pairs: rows of `crops`, and whether both are one person's.
    description: one phrase for the manifest, without local paths.
    """

    crops: NDArray[np.uint8]
    faces: int
    labelled_faces: int
    pairs: tuple[tuple[int, int, bool], ...]
    description: str


def gather(album: Album) -> FaceSet:
    """Every face of the album; stand-ins of random colour patches when it is empty.

    A pair joins the largest faces of its two photos; pairs of photos not at hand are left out.
    """
    side = SIGNATURES["facenet"].image.shape[1]
    assert isinstance(side, int)
    crops: list[NDArray[np.uint8]] = []
    largest: dict[str, int] = {}
    names: list[str] = []
    for photo, pixels in album.opened():
        names.append(photo.path.name)
        areas: dict[int, float] = {}
        for box in photo.boxes:
            crop = crop_face(pixels, box, side)
            if crop is not None:
                areas[len(crops)] = _area(box)
                crops.append(crop)
        if areas:
            largest[photo.path.name] = max(areas, key=areas.__getitem__)
    if not crops:
        text = f"{_STAND_INS} pictures of random colour patches; no photograph was at hand"
        return FaceSet(_stand_ins(side), 0, 0, (), text)
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

"""Inputs of a verification run: random pixels and, if there are photographs, faces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from export.graphs.signature import Signature
from export.verification.photos import Album
from service.domain.types import Box

Pixels = NDArray[np.uint8] | NDArray[np.float32]

_MAX_FACES = 48
_SEED = 20180408

# Odd, even, just large enough and far from square: P-Net's pool rounds up.
_RANDOM_SIZES = ((12, 12), (13, 17), (24, 31), (97, 128), (151, 66))
_PHOTO_LONG_SIDES = (385, 256, 193, 127)
_BATCH_SIZES = (1, 2, 3, 8)


@dataclass(frozen=True)
class Samples:
    """Verification inputs.

    faces: uint8 [h, w, 3] RGB each, cut at their boxes. photos: uint8 [h, w, 3] RGB each.
    description: one phrase for the manifest, without local paths.
    """

    faces: tuple[Pixels, ...]
    photos: tuple[Pixels, ...]
    description: str

    def batches(self, model: Signature) -> Iterator[Pixels]:
        """RGB batches of several sizes for one model, in its input's dtype and layout.

        Random pixels of a float32 input are not whole numbers.
        """
        for images in self._batches(model):
            if model.image.layout == "NCHW":
                yield np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
            else:
                yield images

    def _batches(self, model: Signature) -> Iterator[Pixels]:
        """[n, h, w, 3] whatever the layout."""
        dtype = model.image.dtype
        random = np.random.default_rng(_SEED)

        def noise(*shape: int) -> Pixels:
            return random.uniform(0, 255, shape).astype(dtype)

        if not isinstance(side := model.image.shape[2], int):
            for (height, width), count in zip(_RANDOM_SIZES, (1, 2, 3, 1, 2), strict=True):
                yield noise(count, height, width, 3)
            for place, photo in enumerate(self.photos):
                long_side = _PHOTO_LONG_SIDES[place % len(_PHOTO_LONG_SIDES)]
                yield _shrink(photo, long_side)[np.newaxis].astype(dtype)
            return
        for count in _BATCH_SIZES:
            yield noise(count, side, side, 3)
        crops = [_resize(face, side, side) for face in self.faces]
        step = max(_BATCH_SIZES)
        for start in range(0, len(crops), step):
            yield np.stack(crops[start : start + step]).astype(dtype)


def gather(album: Album) -> Samples:
    """Samples from an album's first photos, up to a number of faces in all."""
    faces: list[Pixels] = []
    pictures: list[Pixels] = []
    names: list[str] = []
    for photo, pixels in album.opened():
        left = _MAX_FACES - len(faces)
        if left <= 0:
            break
        faces += [_cut(pixels, face.box) for face in photo.faces[:left]]
        pictures.append(pixels)
        names.append(photo.path.name)
    if not faces:
        description = "random pixels only; no photograph was at hand"
    elif album.labelled:
        description = f"random pixels and {len(faces)} real faces in {len(pictures)} photographs"
    else:
        description = (
            f"random pixels and {len(faces)} public-domain portraits ({', '.join(names)}) "
            "from scikit-image and matplotlib"
        )
    return Samples(tuple(faces), tuple(pictures), description)


def _cut(photo: Pixels, box: Box) -> Pixels:
    height, width = photo.shape[:2]
    left, top = max(0, int(box.x1)), max(0, int(box.y1))
    right, bottom = min(width, max(left + 1, int(box.x2))), min(height, max(top + 1, int(box.y2)))
    return photo[top:bottom, left:right].copy()


def _shrink(photo: Pixels, long_side: int) -> Pixels:
    height, width = photo.shape[:2]
    scale = long_side / max(height, width)
    return _resize(photo, max(12, round(width * scale)), max(12, round(height * scale)))


def _resize(picture: Pixels, width: int, height: int) -> Pixels:
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)

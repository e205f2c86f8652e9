"""The photos that benches run on: FACES_DIR, else ../shared/faces, else packaged portraits."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.types import PhotoSource

LONG_SIDE = 1024
"""Of the photos that benches scale down, in pixels."""

_CHECKOUT = Path(__file__).resolve().parents[2]
_PORTRAITS = (
    ("skimage", "data/astronaut.png"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One photo: RGB pixels, uint8 [height, width, 3], and the same as a JPEG file's bytes."""

    name: str
    pixels: NDArray[np.uint8]
    jpeg: bytes


def source(data: bytes) -> PhotoSource:
    """The bytes as the analyzer reads them."""

    async def read() -> bytes:
        return data

    return read


def faces_folder() -> Path:
    """The folder of labelled photos; it need not exist."""
    return Path(os.environ.get("FACES_DIR", _CHECKOUT.parent / "shared" / "faces"))


def people_folder() -> Path:
    """The folder of photos of people, by LFW_DIR or beside the checkout; it need not exist."""
    return Path(os.environ.get("LFW_DIR", _CHECKOUT.parent / "shared" / "lfw"))


def photo_paths(folder: Path) -> dict[str, list[Path]]:
    """The photos of each person, people and photos in the order of their names."""
    people = sorted(each for each in folder.iterdir() if each.is_dir())
    return {each.name: sorted(each.glob("*.jpg")) for each in people}


def load(long_side: int, limit: int) -> list[Photo]:
    """Up to `limit` photos, scaled down so that the longer side has `long_side` pixels.

    Raises:
        SystemExit: there are none.
    """
    paths = _paths()
    if not paths:
        raise SystemExit("no photos: set FACES_DIR to a folder with JPEG files")
    # Taken evenly over the folder, so that any limit sees small and large photos.
    step = max(1, len(paths) // limit)
    return [_load(path, long_side) for path in paths[::step][:limit]]


def never_seen(photos: Sequence[NDArray[np.uint8]], number: int) -> list[NDArray[np.uint8]]:
    """The photos, each of 400 px or more a side, cut to sizes that no other `number` gives.

    Photos of one size differ too. Some of the smaller pyramid levels come again, as they do among
    photos that were never cut.
    """
    cut = []
    for index, pixels in enumerate(photos):
        step = number * len(photos) + index + 1
        # The two steps come back to the same pair after 85 x 127 photos.
        rows, columns = 2 * step % 254, 3 * step % 255
        height, width = pixels.shape[:2]
        cut.append(np.ascontiguousarray(pixels[: height - rows, : width - columns]))
    return cut


def face_crops(size: int, number: int) -> list[NDArray[np.uint8]]:
    """Central squares of photos, uint8 [size, size, 3] RGB: to a network one face is as another."""
    found = []
    for photo in load(LONG_SIDE, 24):
        side = min(photo.pixels.shape[:2])
        top, left = ((n - side) // 2 for n in photo.pixels.shape[:2])
        square = photo.pixels[top : top + side, left : left + side]
        resized = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
        found.append(np.asarray(resized, dtype=np.uint8))
    return [found[i % len(found)] for i in range(number)]


def crop_files(number: int, size: int = 160) -> list[bytes]:
    """`face_crops` as JPEG files."""
    files = []
    for pixels in face_crops(size, number):
        encoded, jpeg = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        assert encoded
        files.append(jpeg.tobytes())
    return files


def _paths() -> list[Path]:
    if found := sorted(faces_folder().glob("*.jpg")):
        return found
    packaged = []
    for package, path in _PORTRAITS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            packaged.append(Path(spec.origin).parent / path)
    return packaged


def _load(path: Path, long_side: int) -> Photo:
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path.name} cannot be read")
    scale = long_side / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not encoded:
        raise SystemExit(f"{path.name} cannot be encoded")
    pixels = np.ascontiguousarray(image[:, :, ::-1])
    return Photo(path.name, np.asarray(pixels, dtype=np.uint8), jpeg.tobytes())

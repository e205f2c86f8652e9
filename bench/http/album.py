"""A folder as people have them: many different photos, broken ones, links and other files."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.common.photos import LONG_SIDE, load

_SOURCES = 24
_A_FOLDER = 200
_ONE_IN = 100


@dataclass(frozen=True, slots=True)
class Album:
    """A folder of photos.

    photos: the SHA-256 of each good one, in hexadecimal. broken: names of files that no service
    takes. others: number of files and links that are no photos of their own.
    """

    folder: Path
    photos: frozenset[str]
    broken: frozenset[str]
    others: int

    def read(self) -> list[bytes]:
        """The good photos, one after the other."""
        paths = sorted(self.folder.glob("*/*.jpg"))
        return [path.read_bytes() for path in paths if path.stem.isdecimal()]


def make_album(folder: Path, number: int, seed: int) -> Album:
    """Write `number` photos, cut at random from the bench's and saved at random qualities.

    For every hundred there are a broken file, an empty one, a copy, a link, a hidden file and a
    text. No two seeds give the same photo.
    """
    rng = random.Random(seed)  # noqa: S311
    sources = load(LONG_SIDE, _SOURCES)
    digests, broken = set(), set()
    others = 0
    for count in range(number):
        place = folder / f"{count // _A_FOLDER:03}"
        place.mkdir(parents=True, exist_ok=True)
        data = _photo(sources[count % len(sources)].pixels, rng)
        path = place / f"{count:05}.jpg"
        path.write_bytes(data)
        digests.add(hashlib.sha256(data).hexdigest())
        if count % _ONE_IN == 0:
            half, empty = place / f"{count:05}-half.jpg", place / f"{count:05}-empty.jpg"
            half.write_bytes(data[: len(data) // 2])
            empty.touch()
            broken |= {half.name, empty.name}
            (place / f"{count:05}-copy.jpg").write_bytes(data)
            (place / f"{count:05}-link.jpg").symlink_to(path)
            (place / f".{count:05}.jpg").write_bytes(data)
            (place / f"{count:05}.txt").write_text("no photo", encoding="utf-8")
            others += 4
    return Album(folder, frozenset(digests), frozenset(broken), others)


def _photo(whole: NDArray[np.uint8], rng: random.Random) -> bytes:
    """A cut of a photo that leaves most of it, as JPEG."""
    height, width = whole.shape[:2]
    top, left = rng.randrange(height // 10), rng.randrange(width // 10)
    bottom, right = height - rng.randrange(height // 10), width - rng.randrange(width // 10)
    options = [cv2.IMWRITE_JPEG_QUALITY, rng.randrange(70, 96)]
    cut = np.ascontiguousarray(whole[top:bottom, left:right, ::-1])
    encoded, jpeg = cv2.imencode(".jpg", cut, options)
    if not encoded:
        raise RuntimeError("a photo cannot be encoded")
    return bytes(jpeg.tobytes())

"""The perceptual hash is ImageHash's, bit by bit, whatever the shape of a photo."""

from __future__ import annotations

from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.vision.phash import perceptual_hash

Pixels = NDArray[np.uint8]
_SMALLEST, _LARGEST = 64, 400


def wanted(pixels: Pixels) -> str:
    return str(imagehash.phash(Image.fromarray(pixels)))


def found(pixels: Pixels) -> str:
    pixels = pixels.copy()
    pixels.flags.writeable = False
    return perceptual_hash(pixels)


def reduced(pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """What the hash is computed from."""
    seen: list[Pixels] = []

    def phash(picture: Image.Image) -> str:
        seen.append(np.asarray(picture))
        return ""

    with monkeypatch.context() as patched:
        patched.setattr(imagehash, "phash", phash)
        found(pixels)
    return seen[0]


def noise(random: np.random.Generator, height: int, width: int) -> Pixels:
    return random.integers(0, 256, (height, width, 3), np.uint8)


def shapes(random: np.random.Generator, number: int) -> list[tuple[int, int]]:
    """Heights and widths, none so high that Pillow reduces the columns first."""
    widths = random.integers(_SMALLEST, _LARGEST, number)
    return [(int(random.integers(_SMALLEST, 2 * w - _SMALLEST + 1)), int(w)) for w in widths]


def test_the_reduction_is_that_of_pillow_in_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(20)
    edges = [(64, 64), (64, 4001), (65, 97), (320, 192), (4001, 2033), (96, 128)]
    for height, width in [*edges, *shapes(random, 150)]:
        pixels = noise(random, height, width)
        grey = Image.fromarray(pixels).convert("L")
        small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(reduced(pixels, monkeypatch), small)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 90), (63, 64), (64, 63), (65, 64), (400, 90), (2000, 30)]
)
def test_other_shapes_are_left_to_pillow(height: int, width: int) -> None:
    pixels = noise(np.random.default_rng(height), height, width)
    assert found(pixels) == wanted(pixels)


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_flat_picture_and_one_with_an_edge(level: int) -> None:
    pixels = np.full((90, 120, 3), level, np.uint8)
    assert found(pixels) == wanted(pixels)
    pixels[:, 61:] = 255 - level
    assert found(pixels) == wanted(pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "YCbCr"])
def test_an_image_of_any_mode(mode: str) -> None:
    random = np.random.default_rng(len(mode))
    picture = Image.fromarray(noise(random, 130, 170)).convert(mode)
    assert perceptual_hash(picture) == str(imagehash.phash(picture))


@pytest.mark.parametrize("turned", [False, True])
def test_the_reference_photos(faces_dir: Path, turned: bool) -> None:
    paths = sorted(faces_dir.glob("*.jpg"))
    for path in paths[turned::3]:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
        photo = np.ascontiguousarray(np.rot90(pixels) if turned else pixels, dtype=np.uint8)
        assert found(photo) == wanted(photo), path.name
    assert len(paths) > 60


@pytest.mark.slow
def test_every_photo_at_hand(faces_dir: Path) -> None:
    paths = sorted([*faces_dir.glob("*.jpg"), *(faces_dir.parent / "lfw").rglob("*.jpg")])
    for path in paths:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
        photo = np.asarray(pixels, dtype=np.uint8)
        assert found(photo) == wanted(photo), path.name
    assert len(paths) > 60

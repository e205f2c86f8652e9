"""Thumbnails and crops: upright, never enlarged, at a small scale of the decoder, and silent."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage.metrics import structural_similarity

from service.domain.errors import InputError
from service.domain.types import Box
from service.vision import pictures
from service.vision.decode import decode
from service.vision.formats.base import DecodeLimits
from service.vision.pictures import Picture, read_picture_header, render
from tests.support.odd_photos import exif_of, save

LIMITS = DecodeLimits()
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (40, 40, 210), (255, 255, 255)


def quarters(width: int, height: int) -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (2, 2))
    image.putdata([RED, GREEN, BLUE, WHITE])
    return image.resize((width, height), Image.Resampling.NEAREST)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    image.load()
    return image


def thumbnail(data: bytes, size: int) -> Image.Image:
    return opened(render(data, Picture(size), LIMITS))


def assert_quarters(image: Image.Image) -> None:
    wide, high = image.size
    places = [(wide // 4, high // 4), (3 * wide // 4, high // 4)]
    places += [(x, 3 * high // 4) for x, _ in places]
    for place, wanted in zip(places, (RED, GREEN, BLUE, WHITE), strict=True):
        assert np.abs(np.subtract(image.getpixel(place), wanted)).max() < 12


@pytest.mark.parametrize(
    ("width", "height", "wanted"),
    [(400, 300, (128, 96)), (300, 400, (96, 128)), (100, 60, (100, 60)), (900, 2, (128, 1))],
)
def test_the_longest_side_is_that_of_the_thumbnail_and_never_more_than_the_photo_has(
    width: int, height: int, wanted: tuple[int, int]
) -> None:
    assert thumbnail(save(Image.new("RGB", (width, height)), "PNG"), 128).size == wanted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_thumbnail_is_upright(orientation: int, form: str) -> None:
    upright = quarters(320, 200)
    lying = next(
        each
        for turn in (None, *Image.Transpose)
        for each in [upright if turn is None else upright.transpose(turn)]
        if ImageOps.exif_transpose(_marked(each, orientation)).tobytes() == upright.tobytes()
    )
    found = thumbnail(save(lying, form, exif=exif_of(orientation)), 64)
    assert found.size == (64, 40)
    assert_quarters(found)


def _marked(image: Image.Image, orientation: int) -> Image.Image:
    marked = image.copy()
    marked.getexif()[0x0112] = orientation
    return marked


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16", "CMYK", "1"])
def test_every_kind_of_pixels_becomes_rgb(mode: str) -> None:
    form = "JPEG" if mode == "CMYK" else "PNG"
    source = Image.new("RGB", (300, 200), (128, 128, 128))
    source = source.convert("L").convert("I;16") if mode == "I;16" else source.convert(mode)
    assert thumbnail(save(source, form), 100).mode == "RGB"


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    assert min(thumbnail(save(image, "PNG"), 64).getpixel((30, 15))) > 250


def test_pictures_say_nothing_that_the_photo_says_about_itself() -> None:
    exif = exif_of(1)
    exif[0x010F] = "SECRET CAMERA"
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (1.0, 2.0, 3.0)})
    data = save(
        quarters(400, 300),
        "JPEG",
        exif=exif,
        comment=b"SECRET COMMENT",
        xmp=b"<x:xmpmeta>SECRET XMP</x:xmpmeta>",
        icc_profile=b"SECRET PROFILE".ljust(200, b"\0"),
    )
    assert data.count(b"SECRET") == 4
    for picture in (Picture(128), Picture(128, Box(10, 10, 60, 60), 1.5)):
        found = render(data, picture, LIMITS)
        assert b"SECRET" not in found
        image = opened(found)
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize("size", [128, 256, 512, 1024])
def test_a_thumbnail_at_the_scale_of_the_decoder_is_that_of_the_whole_photo(
    size: int, portraits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Image.open(portraits[1]).convert("RGB").resize((2400, 2800), Image.Resampling.LANCZOS)
    data = save(photo, "JPEG", quality=92)
    found = np.asarray(thumbnail(data, size))
    monkeypatch.setattr(pictures, "_DETAIL", 100.0)
    whole = np.asarray(thumbnail(data, size))
    assert found.shape == whole.shape
    assert structural_similarity(found, whole, channel_axis=2) > 0.98


def test_decoding_for_a_picture_takes_the_memory_and_time_of_its_scale() -> None:
    data = save(Image.new("RGB", (4000, 3000)), "JPEG")
    whole = read_picture_header(data, Picture(4000), LIMITS)
    small = read_picture_header(data, Picture(256), LIMITS)
    assert (whole.shrink, small.shrink) == (1, 8)
    assert small.decoding_bytes == whole.decoding_bytes // 64
    assert small.work_us < whole.work_us / 2
    face = Picture(256, Box(1000, 1000, 1200, 1250), 1.4)
    assert read_picture_header(data, face, LIMITS).shrink == 1
    assert read_picture_header(data, replace(face, size=64), LIMITS).shrink == 2


def test_a_photo_beyond_the_limit_of_pixels_gives_a_picture_of_what_is_decoded() -> None:
    limits = DecodeLimits(max_pixels=10_000_000, max_decoded_pixels=20_000)
    data = save(quarters(1600, 800), "JPEG")
    assert opened(render(data, Picture(1024), limits)).size == (200, 100)
    crop = opened(render(data, Picture(1024, Box(0, 0, 800, 400)), limits))
    assert crop.size == (100, 50)


@pytest.mark.parametrize(
    ("box", "margin", "size", "wanted"),
    [
        (Box(100, 100, 200, 150), 1.0, 1000, (100, 50)),
        (Box(100, 100, 200, 150), 1.0, 50, (50, 25)),
        (Box(100, 100, 200, 150), 2.0, 1000, (200, 100)),
        (Box(-50, -50, 50, 50), 1.0, 1000, (50, 50)),
        (Box(300, 200, 500, 400), 4.0, 1000, (400, 300)),
        (Box(380, 280, 480, 380), 1.0, 1000, (20, 20)),
        (Box(500, 400, 600, 500), 1.0, 1000, (1, 1)),
        (Box(-9, 10, -3, 20), 1.0, 1000, (1, 10)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_crop_has_its_margin_and_ends_at_the_edges(
    box: Box, margin: float, size: int, wanted: tuple[int, int], form: str
) -> None:
    data = save(quarters(400, 300), form)
    assert opened(render(data, Picture(size, box, margin), LIMITS)).size == wanted


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_shows_the_pixels_of_its_box_at_any_scale(orientation: int) -> None:
    upright = quarters(1600, 1200)
    lying = upright if orientation == 1 else upright.transpose(Image.Transpose.ROTATE_90)
    data = save(lying, "JPEG", quality=95, exif=exif_of(orientation))
    for size in (40, 200, 1000):
        # The middle of the photo is the middle of the crop: all four colours meet there.
        assert_quarters(opened(render(data, Picture(size, Box(700, 500, 900, 700), 2.0), LIMITS)))
        red = opened(render(data, Picture(size, Box(10, 10, 700, 500)), LIMITS))
        assert np.abs(np.asarray(red, int) - RED).max() < 25


def test_a_crop_of_a_face_is_cut_where_the_box_says(portraits: list[Path]) -> None:
    data = portraits[1].read_bytes()
    pixels = decode(data, LIMITS, hashed=False).pixels
    box = Box(211.5, 120.25, 302.5, 230.75)
    found = np.asarray(opened(render(data, Picture(1024, box), LIMITS)), float)
    wanted = pixels[120:231, 211:303]
    assert found.shape == (110, 91, 3)
    assert np.abs(found - wanted[: found.shape[0], : found.shape[1]]).mean() < 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_photo_that_ends_early_is_an_input_error(form: str) -> None:
    data = save(quarters(300, 200), form)
    for end in (0, 10, len(data) // 4):
        for picture in (Picture(128), Picture(64, Box(0, 0, 9, 9))):
            with pytest.raises(InputError):
                render(data[:end], picture, LIMITS)

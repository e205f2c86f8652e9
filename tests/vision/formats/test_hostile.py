"""Small files that would keep a decoder busy for minutes, and odd ones that are photos."""

from __future__ import annotations

import pytest

from bench.common.costly_photos import COSTLY, mutated, seeds
from service.domain.errors import CorruptImageError, ImageTooComplexError, InputError
from service.vision.decode import decode, read_header
from service.vision.formats import base, jpeg
from service.vision.formats.base import MAX_PARTS, MAX_WORK_US, DecodeLimits
from tests.support.images import (
    PNG_SIGNATURE,
    SIDE,
    bmp_of_runs,
    encode,
    gif_with,
    jpeg_of_scans,
    jpeg_with,
    png_chunk,
    png_with,
    segment,
    tiff,
)

LIMITS = DecodeLimits()


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_file_is_refused_before_it_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = COSTLY[kind]()
    assert len(data) <= 25 << 20
    for form in ("jpeg", "png", "webp", "bmp", "tiff", "gif"):
        monkeypatch.setattr(f"service.vision.formats.{form}.Image", None)
    with pytest.raises(ImageTooComplexError):
        decode(data, LIMITS)


PLAIN = {
    "as many scans as may be": lambda: jpeg_of_scans(LIMITS.max_jpeg_scans),
    "a profile that looks like scans": lambda: jpeg_with(segment(0xE2, b"\xff\xda" * 2000)),
    "a film behind a jpeg": lambda: encode("JPEG") + b"\xff\xda" * 100_000,
    "segments that hold a large profile": lambda: jpeg_with(segment(0xE2, bytes(65_000)) * 255),
    "bytes that fill in a jpeg": lambda: jpeg_with(b"\xff" * 1_000_000),
    "pieces of exif data": lambda: jpeg_with(segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08") * 5000),
    "texts of a png": lambda: png_with(png_chunk(b"tEXt", b"a\0b") * 5000),
    "small chunks of pixels": lambda: png_with(png_chunk(b"IDAT", b"") * 20_000),
    "a strip for each row": lambda: tiff(20_000, strips=20_000),
    "a table of 16-bit samples": lambda: tiff(SIDE, (301, 3, 3 << 16)),
    "an opaque entry": lambda: tiff(SIDE, (700, 1, 1_000_000)),
    "ratios of a tiff": lambda: tiff(SIDE, (282, 5, 300_000)),
    "runs of a bmp": lambda: bmp_of_runs(1000, 400),
    "comments of a gif": lambda: gif_with(5000),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_photo_with_many_parts_is_decoded(kind: str) -> None:
    data = PLAIN[kind]()
    header = read_header(data, LIMITS)
    assert decode(data, LIMITS).pixels.shape == (header.height, header.width, 3)
    assert header.work_us < MAX_WORK_US


def test_the_number_of_scans_is_a_limit_of_the_operator() -> None:
    data = jpeg_of_scans(20)
    assert decode(data, DecodeLimits(max_jpeg_scans=20)).pixels.shape == (SIDE, SIDE, 3)
    with pytest.raises(ImageTooComplexError):
        decode(data, DecodeLimits(max_jpeg_scans=19))


@pytest.mark.parametrize(
    "extra", [segment(0xFE, b""), b"\xff\x01", b"\xff\xd8"], ids=["comments", "tem", "starts"]
)
def test_the_parts_of_a_jpeg_are_looked_at_up_to_a_limit(
    extra: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    markers = jpeg._markers

    def count(data: bytes) -> object:
        nonlocal seen
        for each in markers(data):
            seen += 1
            yield each

    monkeypatch.setattr(jpeg, "_markers", count)
    with pytest.raises(ImageTooComplexError):
        read_header(jpeg_with(extra * 1_000_000), LIMITS)
    assert seen <= MAX_PARTS + 2


@pytest.mark.parametrize("kind", seeds())
def test_a_mutated_file_costs_no_more_than_the_budget_or_is_refused(kind: str) -> None:
    """The predicted work; `python -m bench.inprocess.costly_photos` compares it with time."""
    predicted = []
    for data in mutated(seeds()[kind], 60, seed=7):
        try:
            predicted.append(read_header(data, LIMITS).work_us)
            decode(data, LIMITS)
        except InputError:
            continue
    assert max(predicted, default=0.0) <= MAX_WORK_US


def test_a_big_tiff_that_two_decoders_read_as_two_files_is_refused() -> None:
    with pytest.raises(CorruptImageError):
        read_header(b"MM\0+" + bytes(1000), LIMITS)


def test_a_very_long_side_is_refused() -> None:
    """The perceptual hash of 32 million pixels in a row takes 1.5 GB."""
    for width, height in ((base.MAX_SIDE, 1), (1, base.MAX_SIDE)):
        assert read_header(png_with(b"", width, height), LIMITS)
    for width, height in ((base.MAX_SIDE + 1, 1), (1, base.MAX_SIDE + 1)):
        with pytest.raises(InputError, match=str(base.MAX_SIDE)):
            read_header(png_with(b"", width, height), LIMITS)


def test_a_png_is_never_said_to_be_no_png() -> None:
    for data in (PNG_SIGNATURE, PNG_SIGNATURE + bytes(100), png_with(b"")[:40]):
        with pytest.raises(CorruptImageError, match="PNG"):
            read_header(data, LIMITS)

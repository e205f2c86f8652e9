"""Camera raw files: the full-size preview is the photo; a small one never is."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from service.domain.errors import UnsupportedImageError
from service.vision.decode import decode, read_header
from service.vision.formats import camera_raw
from service.vision.formats.base import DecodeLimits
from tests.support.odd_photos import (
    ORIENTATION,
    exif_of,
    raf_file,
    raw_samples,
    save,
    strip,
    tiff_file,
)

ENOUGH = DecodeLimits(1_000_000, 1_000_000)


def jpeg(width: int, height: int, **options: object) -> bytes:
    return save(Image.new("RGB", (width, height), "orange"), "JPEG", **options)


def raw_file(*previews: bytes) -> bytes:
    """A sensor of 200 x 120 samples with these previews, lying on its side."""
    inside = [{254: [1], 513: each, 514: [len(each)]} for each in previews]
    sensor = {**raw_samples(200, 120), **strip(bytes(99))}
    return tiff_file({254: [1], ORIENTATION: [6], 50706: [1, 4], 330: [sensor, *inside]})


def test_the_largest_preview_is_the_photo() -> None:
    data = raw_file(jpeg(60, 36), jpeg(200, 120), jpeg(100, 60))
    photo = decode(data, ENOUGH)
    assert photo.pixels.shape == (200, 120, 3)
    assert photo.format == "raw"
    header = read_header(data, ENOUGH)
    assert (header.width, header.height) == (200, 120)


def test_a_preview_of_half_the_size_is_taken_and_a_smaller_one_refused() -> None:
    assert decode(raw_file(jpeg(100, 60)), ENOUGH).pixels.shape == (100, 60, 3)
    for small in (jpeg(99, 60), jpeg(100, 59), jpeg(200, 20)):
        with pytest.raises(UnsupportedImageError, match="raw file without a full-size preview"):
            decode(raw_file(small), ENOUGH)


def test_a_preview_beside_a_size_that_exif_or_a_table_tells_is_measured_by_it() -> None:
    for side, is_full in ((200, True), (60, False)):
        preview = jpeg(side, side * 3 // 5)
        exif = {40962: [200], 40963: [120]}
        first = {256: [side], 257: [side * 3 // 5], 259: [6], **strip(preview), 34665: [exif]}
        for data in (tiff_file(first, mark=b"CR\2\0"), raf_file(preview, 200, 120)):
            if is_full:
                assert decode(data, ENOUGH).pixels.shape == (120, 200, 3)
                continue
            with pytest.raises(UnsupportedImageError, match="raw file without a full-size preview"):
                decode(data, ENOUGH)


def test_the_raw_file_alone_says_how_its_preview_is_turned() -> None:
    data = raw_file(jpeg(200, 120, exif=exif_of(8)))
    assert decode(data, ENOUGH).pixels.shape == (200, 120, 3)
    upright = tiff_file(
        {256: [200], 257: [120], 50706: [1], 513: jpeg(200, 120, exif=exif_of(6)), 514: [9999]}
    )
    assert decode(upright, ENOUGH).pixels.shape == (120, 200, 3)


@pytest.mark.parametrize(
    "data",
    [
        raw_file(),
        raw_file(b"\xff\xd8\xff\xe0garbage"),
        raw_file(jpeg(200, 120)[:40]),
        b"FUJIFILMCCD-RAW ",
        b"FUJIFILMCCD-RAW ".ljust(400, b"\xff"),
        b"IIRO" + raw_file()[4:],
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    ],
    ids=["none", "garbage", "cut off", "empty raf", "raf", "orf", "cr3"],
)
def test_a_raw_file_without_a_preview_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError, match="raw file without a full-size preview"):
        decode(data, ENOUGH)


def looping() -> bytes:
    """A directory that is its own successor and child."""
    entry = struct.pack("<HHLL", 330, 4, 1, 8) + struct.pack("<HHLL", 50706, 1, 4, 1)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entry + struct.pack("<L", 8)


def test_directories_are_read_once_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = camera_raw._read_directory

    def count(data: bytes, order: str, start: int) -> tuple[camera_raw._Directory, int]:
        read.append(start)
        return original(data, order, start)

    monkeypatch.setattr(camera_raw, "_read_directory", count)
    assert camera_raw.recognizes(looping())
    assert read == [8]
    read.clear()
    assert camera_raw.recognizes(tiff_file({50706: [1], 330: [{254: [1]} for _ in range(300)]}))
    assert len(read) <= 64
    for data in (looping(), tiff_file({50706: [1], 330: [{254: [1]}] * 300})):
        with pytest.raises(UnsupportedImageError):
            decode(data, ENOUGH)


def test_a_tiff_file_of_pages_is_its_first_page() -> None:
    first, second = Image.new("RGB", (30, 20)), Image.new("RGB", (90, 80))
    data = save(first, "TIFF", save_all=True, append_images=[second])
    assert not camera_raw.recognizes(data)
    assert decode(data, ENOUGH).pixels.shape == (20, 30, 3)

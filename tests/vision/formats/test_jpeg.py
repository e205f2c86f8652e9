"""JPEG: scales, scans, orientation, and how often a file is decoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from service.domain.errors import (
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    UnsupportedImageError,
)
from service.vision.decode import decode, read_header
from service.vision.formats.base import DecodeLimits, PhotoHeader
from service.vision.formats.jpeg import only_pixels
from tests.support.images import jpeg_with, segment

XMP = b"http://ns.adobe.com/xap/1.0/\0"


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("pixels", "shrink"), [(200 * 301, 1), (200 * 301 - 1, 2), (100 * 150, 4), (50 * 75, 8)]
)
def test_a_large_photo_is_decoded_at_the_largest_scale_that_fits(
    mode: str, pixels: int, shrink: int
) -> None:
    whole = picture(200, 301)
    data = jpeg(whole.convert(mode))
    photo = decode(data, DecodeLimits(max_decoded_pixels=pixels))
    size = (-(-200 // shrink), -(-301 // shrink))
    assert photo.shrink == shrink
    assert (photo.width, photo.height) == (200, 301)
    assert photo.pixels.shape == (size[1], size[0], 3)
    wanted = np.asarray(whole.convert(mode).convert("RGB").reduce(shrink), np.int16)
    assert np.abs(photo.pixels - wanted).mean() < 4


def test_a_turned_photo_at_a_reduced_scale_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = decode(
        jpeg(picture(200, 300), exif=exif), DecodeLimits(max_decoded_pixels=200 * 300 - 1)
    )
    assert (photo.width, photo.height) == (300, 200)
    assert photo.pixels.shape == (100, 150, 3)


def test_the_coefficients_of_a_progressive_file_have_to_fit() -> None:
    """They take two bytes a sample, in whole blocks."""
    data = jpeg(picture(200, 250), progressive=True, subsampling=0)
    needed = read_header(data, DecodeLimits(max_decoded_pixels=49_999)).decoding_bytes
    assert needed == 2 * 3 * 200 * 256 + 3 * 100 * 125
    enough = -(-needed // 16)
    assert decode(data, DecodeLimits(max_decoded_pixels=enough)).shrink == 2
    with pytest.raises(ImageTooLargeError, match=r"images\.max_decoded_pixels") as caught:
        decode(data, DecodeLimits(max_decoded_pixels=enough - 1))
    assert 0 < caught.value.max_pixels < 200 * 250


@pytest.mark.parametrize(("marker", "scanned"), [(0xC0, 3), (0xC0, 1), (0xC2, 3)])
def test_coefficients_are_kept_where_a_scan_is_not_the_whole_picture(
    marker: int, scanned: int
) -> None:
    def header(side: int) -> PhotoHeader:
        parts = b"".join(struct.pack("BBB", number, 0x11, 0) for number in range(3))
        frame = segment(marker, struct.pack(">BHHB", 8, side, side, 3) + parts)
        places = b"".join(bytes((number, 0)) for number in range(scanned))
        scan = segment(0xDA, bytes((scanned,)) + places + b"\0\0\0")
        return read_header(b"\xff\xd8" + frame + scan + b"\xff\xd9", DecodeLimits())

    kept = marker == 0xC2 or scanned < 3
    coefficients = 2 * 3 * 8000 * 8000
    wanted = coefficients + 3 * 4000 * 4000 if kept else 4000 * 4000 * 16
    assert header(8000).decoding_bytes == wanted
    if kept:
        with pytest.raises(ImageTooLargeError):
            header(12_000)
    else:
        assert header(12_000).shrink == 4


def test_a_photo_of_more_pixels_than_any_scale_allows_is_refused() -> None:
    limits = DecodeLimits(max_decoded_pixels=100)
    with pytest.raises(ImageTooLargeError, match=r"200 x 300 pixels; at most 6400"):
        read_header(jpeg(picture(200, 300)), limits)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_another_format_is_not_reduced(form: str) -> None:
    stream = io.BytesIO()
    picture(20, 30).save(stream, form)
    with pytest.raises(ImageTooLargeError, match=r"at most 599 .*images\.max_decoded_pixels"):
        decode(stream.getvalue(), DecodeLimits(max_decoded_pixels=599))


@pytest.mark.parametrize(
    "xmp",
    [b'<rdf:Description tiff:Orientation="6"/>', b"<tiff:Orientation>8</tiff:Orientation>"],
)
def test_xmp_turns_no_photo(xmp: bytes) -> None:
    data = jpeg(picture(20, 30))
    data = data[:2] + segment(0xE1, XMP + b"<x:xmpmeta>" + xmp + b"</x:xmpmeta>") + data[2:]
    assert decode(data, DecodeLimits()).pixels.shape == (30, 20, 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_xmp_turns_no_photo_of_another_format(form: str) -> None:
    image = picture(20, 30)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stream = io.BytesIO()
    if form == "TIFF":
        image.save(stream, form, tiffinfo={700: xmp})
    elif form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image.save(stream, form, pnginfo=info)
    else:
        image.save(stream, form, xmp=xmp)
    assert decode(stream.getvalue(), DecodeLimits()).pixels.shape == (30, 20, 3)


def test_pillow_gets_no_fill_bytes_and_no_other_segments() -> None:
    plain = jpeg(picture(64, 40).convert("CMYK"))
    extra = b"\xff" * 5000 + segment(0xE1, bytes(5000)) + segment(0xFE, b"") * 5000
    assert only_pixels(plain[:2] + extra + plain[2:]) == only_pixels(plain)
    assert len(only_pixels(plain)) <= len(plain)


SIDE_DATA: dict[str, bytes] = {
    "a profile without parts": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile of junk": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)),
    "an index of further pictures that is junk": segment(0xE2, b"MPF\0junk"),
    "exif data that ends early": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
    "an unknown segment of 64 KiB": segment(0xED, bytes(65_533)),
    "a comment of no length": b"\xff\xfe\0\0",
    "a jfif segment that ends early": segment(0xE0, b"JF"),
}


@pytest.mark.parametrize("kind", SIDE_DATA)
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_side_data_does_not_change_the_pixels(kind: str, mode: str, progressive: bool) -> None:
    plain = jpeg(picture(64, 40).convert(mode), progressive=progressive)
    wanted = decode(plain, DecodeLimits()).pixels
    found = decode(plain[:2] + SIDE_DATA[kind] + plain[2:], DecodeLimits()).pixels
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("factors", [0x14, 0x31, 0x41], ids=hex)
def test_a_jpeg_of_unusual_sampling_factors_gives_the_pixels_that_pillow_gives(
    factors: int,
) -> None:
    data = bytearray(_noise())
    data[data.index(b"\xff\xc0") + 11] = factors
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(bytes(data), DecodeLimits()).pixels, wanted)


def _noise() -> bytes:
    rng = np.random.default_rng(3)
    return jpeg(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)))


FAILING: dict[str, Callable[[], bytes]] = {
    "half a file": lambda: _noise()[: len(_noise()) // 2],
    "no end": lambda: _noise()[:-2],
    "no scan": lambda: _noise()[: _noise().index(b"\xff\xda")] + b"\xff\xd9",
    "zeros behind half a file": lambda: _noise()[: len(_noise()) // 2] + bytes(5000),
    "no tables": lambda: _noise().replace(b"\xff\xdb", b"\xff\xed"),
    "two frames": lambda: _noise().replace(b"\xff\xda", _noise()[158:177] + b"\xff\xda", 1),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_file_that_fails_is_decoded_once_at_most(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0

    def count(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            nonlocal decoded
            decoded += 1
            return call(*args, **options)

        return counted

    monkeypatch.setattr(simplejpeg, "decode_jpeg", count(simplejpeg.decode_jpeg))
    monkeypatch.setattr(ImageFile.ImageFile, "load", count(ImageFile.ImageFile.load))
    with pytest.raises(CorruptImageError):
        decode(FAILING[kind](), DecodeLimits())
    assert decoded <= 1


@pytest.mark.parametrize(("precision", "components"), [(12, 3), (8, 2)])
def test_a_jpeg_that_no_decoder_reads_is_said_to_be_one(precision: int, components: int) -> None:
    parts = b"".join(struct.pack("BBB", number, 0x11, 0) for number in range(components))
    frame = segment(0xC1, struct.pack(">BHHB", precision, 8, 8, components) + parts)
    scan = segment(0xDA, b"\1\0\0\0\x3f\0")
    with pytest.raises(UnsupportedImageError, match="JPEG"):
        decode(b"\xff\xd8" + frame + scan + b"\xff\xd9", DecodeLimits())


def test_a_second_frame_does_not_hide_a_large_one() -> None:
    large = segment(0xC0, struct.pack(">BHHB", 8, 60_000, 60_000, 1) + b"\1\x11\0")
    plain = jpeg_with(b"")
    with pytest.raises(InputError):
        decode(plain[:2] + large + plain[2:], DecodeLimits())
    scan = plain.index(b"\xff\xda")
    with pytest.raises(InputError):
        decode(plain[:scan] + large + plain[scan:], DecodeLimits())

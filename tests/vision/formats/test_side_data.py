"""PNG, WebP, TIFF, GIF: what the pixels do not need cannot spoil them, nor stand for them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from service.domain.errors import CorruptImageError, ImageTooComplexError, UnsupportedImageError
from service.vision.decode import decode, read_header
from service.vision.formats import png as png_module
from service.vision.formats.base import DecodeLimits
from tests.support.images import PNG_SIGNATURE, png_chunk

LIMITS = DecodeLimits()


def picture(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(2)
    return Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).convert(mode)


def save(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def unchecked(kind: bytes, body: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    return struct.pack(">L", len(body)) + kind + body + b"nope"


EXIF_6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
CHUNKS = {
    "pHYs unchecked": unchecked(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    "tEXt unchecked": unchecked(b"tEXt", b"Comment\0hello"),
    "private chunk unchecked": unchecked(b"prVt", b"hello"),
    "eXIf unchecked": unchecked(b"eXIf", EXIF_6),
    "eXIf of junk": png_chunk(b"eXIf", b"junk"),
    "tRNS unchecked": unchecked(b"tRNS", bytes(6)),
    "tRNS of 1 byte": png_chunk(b"tRNS", b"a"),
    "PLTE of 1 byte": png_chunk(b"PLTE", b"a"),
    "PLTE unchecked": unchecked(b"PLTE", bytes(9)),
    "iCCP that does not inflate": png_chunk(b"iCCP", b"p\0\0junk"),
    "iCCP of 4 MB": png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(4_000_000))),
    "zTXt of 4 MB": png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(4_000_000))),
    "iTXt of 2 MB": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"a" * 2_000_000),
    "zTXt without a NUL": png_chunk(b"zTXt", b"abc"),
    "tIME of 3 bytes": png_chunk(b"tIME", b"abc"),
    "gAMA of 2 bytes": png_chunk(b"gAMA", b"ab"),
    "cHRM of 5 bytes": png_chunk(b"cHRM", b"abcde"),
    "sRGB of nothing": png_chunk(b"sRGB", b""),
    "acTL of no frames": png_chunk(b"acTL", bytes(8)),
    "acTL of 2 bytes": png_chunk(b"acTL", b"ab"),
    "fcTL of a frame elsewhere": png_chunk(b"fcTL", struct.pack(">9L", 0, 9, 9, 9, 9, 0, 0, 0, 0)),
    "fdAT out of order": png_chunk(b"fdAT", b"\0\0\0\7junk"),
}


@pytest.mark.parametrize("kind", CHUNKS)
@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
def test_a_chunk_that_is_not_used_does_not_change_the_pixels(kind: str, behind: bool) -> None:
    data = save(picture(), "PNG")
    place = len(data) - 12 if behind else len(PNG_SIGNATURE) + 25
    found = decode(data[:place] + CHUNKS[kind] + data[place:], LIMITS)
    np.testing.assert_array_equal(found.pixels, np.asarray(picture()))


@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
def test_exif_data_of_a_png_turns_it_wherever_it_stands(behind: bool) -> None:
    data = save(picture(), "PNG")
    place = len(data) - 12 if behind else len(PNG_SIGNATURE) + 25
    found = decode(data[:place] + png_chunk(b"eXIf", EXIF_6) + data[place:], LIMITS)
    np.testing.assert_array_equal(found.pixels, np.rot90(np.asarray(picture()), -1))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_exif_data_in_a_text_of_imagemagick_turns_a_png(kind: bytes) -> None:
    text = b"\nexif\n%8d\n%s\n" % (len(EXIF_6), EXIF_6.hex().encode())
    body = text if kind == b"tEXt" else b"\0" + zlib.compress(text)
    extra = png_chunk(kind, b"Raw profile type exif\0" + body)
    data = save(picture(), "PNG")
    found = decode(data[:-12] + extra + data[-12:], LIMITS)
    np.testing.assert_array_equal(found.pixels, np.rot90(np.asarray(picture()), -1))
    cut = png_chunk(kind, b"Raw profile type exif\0" + body[:9])
    found = decode(data[:-12] + cut + data[-12:], LIMITS)
    np.testing.assert_array_equal(found.pixels, np.asarray(picture()))


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_damaged_chunk_that_is_used_is_a_damaged_png(kind: bytes) -> None:
    data = bytearray(save(picture("P"), "PNG"))
    data[data.index(kind) + 4] ^= 1
    with pytest.raises(CorruptImageError, match="PNG"):
        decode(bytes(data), LIMITS)


def test_pixels_in_more_bytes_than_an_encoder_writes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(png_module, "Image", None)
    head = struct.pack(">LLBBBBB", 8, 8, 8, 0, 0, 0, 0)
    # Empty stored blocks of deflate.
    pixels = b"\x78\x01" + b"\0\0\0\xff\xff" * 20_000 + zlib.compress(bytes(72))[2:]
    parts = png_chunk(b"IHDR", head), png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")
    with pytest.raises(ImageTooComplexError):
        decode(PNG_SIGNATURE + b"".join(parts), LIMITS)


@pytest.mark.parametrize("kind", [b"EXIF", b"ICCP", b"XMP ", b"JUNK"])
@pytest.mark.parametrize("lossless", [False, True])
def test_a_chunk_of_a_webp_that_is_not_used_does_not_change_the_pixels(
    kind: bytes, lossless: bool
) -> None:
    plain = save(picture(), "WEBP", lossless=lossless)
    canvas = b"VP8X" + struct.pack("<L", 10) + b"\x2c\0\0\0" + b"\x1d\0\0\x13\0\0"
    junk = kind + struct.pack("<L", 6) + b"junk!!"
    for body in (canvas + junk + plain[12:], plain[12:] + junk, canvas + plain[12:] + junk[:9]):
        data = b"RIFF" + struct.pack("<L", 4 + len(body)) + b"WEBP" + body
        found = decode(data, LIMITS).pixels
        np.testing.assert_array_equal(found, decode(plain, LIMITS).pixels)


def test_extensions_of_a_gif_do_not_change_the_pixels() -> None:
    plain = save(picture().quantize(16), "GIF")
    place = plain.index(b",\0\0\0\0")
    for junk in (b"!\xff\x0bNETSCAPE2.0\x01\x07\0", b"!\xf9\x01\1\0", b"!\x01\x02ab\0", b"!\xfe\0"):
        found = decode(plain[:place] + junk + plain[place:], LIMITS).pixels
        np.testing.assert_array_equal(found, decode(plain, LIMITS).pixels)


def with_entries(tiff: bytes, *entries: tuple[int, int, int, bytes]) -> bytes:
    """A TIFF file with further entries in its first directory: tag, type, count and last bytes."""
    (start,) = struct.unpack_from("<L", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    old = tiff[start + 2 : start + 2 + 12 * count]
    rows = [old[place : place + 12] for place in range(0, len(old), 12)]
    rows += [struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries]
    rows.sort(key=lambda row: struct.unpack_from("<H", row))
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return tiff[:4] + struct.pack("<L", len(tiff)) + tiff[8:] + directory


ENTRIES = {
    "a ratio of nothing": (282, 5, 1, b"\xff\xff\xff\x7f"),
    "a unit that is none": (296, 3, 1, b"\xff\xff\0\0"),
    "a text beyond the end": (270, 2, 1 << 30, b"\xff\xff\xff\x7f"),
    "a profile beyond the end": (34675, 7, 1 << 30, b"\xff\xff\xff\x7f"),
    "exif data beyond the end": (34665, 4, 1, b"\xff\xff\xff\x7f"),
    "a type that does not exist": (33000, 99, 1, b"abcd"),
    "very many numbers": (33001, 4, 1 << 28, b"\x08\0\0\0"),
    "further pictures elsewhere": (330, 4, 1, b"\xff\xff\xff\x7f"),
}


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_an_entry_of_a_tiff_that_is_not_used_does_not_change_the_pixels(
    kind: str, compression: str | None
) -> None:
    data = with_entries(save(picture(), "TIFF", compression=compression), ENTRIES[kind])
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, np.asarray(picture()))


PREVIEWS = {
    "a reduced picture": (254, 4, 1, b"\1\0\0\0"),
    "a reduced page": (254, 4, 1, b"\3\0\0\0"),
    "a reduced picture of old": (255, 3, 1, b"\2\0\0\0"),
}
RAW = {
    "dng": with_entries(save(picture(), "TIFF"), (50706, 1, 4, b"\1\4\0\0")),
    "cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(64),
    "orf": b"IIRO\x08\0\0\0" + bytes(64),
    "rw2": b"IIU\0\x08\0\0\0" + bytes(64),
    "raf": b"FUJIFILMCCD-RAW 0201" + bytes(64),
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(64),
}


@pytest.mark.parametrize("kind", PREVIEWS)
def test_a_preview_is_not_taken_for_the_picture(kind: str) -> None:
    data = with_entries(save(picture(), "TIFF"), PREVIEWS[kind])
    with pytest.raises(UnsupportedImageError, match="only a preview"):
        read_header(data, LIMITS)


@pytest.mark.parametrize("kind", RAW)
def test_a_raw_file_of_a_camera_is_called_one(kind: str) -> None:
    with pytest.raises(UnsupportedImageError, match="camera's raw file"):
        read_header(RAW[kind], LIMITS)


@pytest.mark.parametrize("photometric", [32803, 34892])
def test_samples_of_a_sensor_are_a_raw_file(photometric: int) -> None:
    data = save(picture("L"), "TIFF")
    changed = data.replace(
        struct.pack("<HHLHH", 262, 3, 1, 1, 0), struct.pack("<HHLL", 262, 3, 1, photometric)
    )
    assert changed != data
    with pytest.raises(UnsupportedImageError, match="camera's raw file"):
        read_header(changed, LIMITS)


def test_a_big_tiff_is_read() -> None:
    data = save(picture(), "TIFF", big_tiff=True)
    assert data.startswith(b"II+\0")
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, np.asarray(picture()))


def test_a_page_of_a_tiff_is_a_picture() -> None:
    data = with_entries(save(picture(), "TIFF"), (254, 4, 1, b"\2\0\0\0"))
    assert decode(data, LIMITS).pixels.shape == (20, 30, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_lab_has_a_hash_as_it_has_pixels(compression: str | None) -> None:
    spaces = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    photo = picture().resize((300, 200))
    lab = ImageCms.applyTransform(photo, ImageCms.buildTransform(*spaces, "RGB", "LAB"))
    found = decode(save(lab, "TIFF", compression=compression), LIMITS)
    assert len(found.phash) == 16
    assert np.abs(found.pixels.astype(int) - np.asarray(photo)).mean() < 10

"""Small files that would keep a decoder busy for minutes, and odd ones that are photos."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from service.domain.errors import CorruptImageError, ImageTooLargeError
from service.vision import parts
from service.vision.decode import MAX_SIDE, decode, decode_pixels, read_header

ENOUGH = 10**9
SIDE = 64
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(form: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (SIDE, SIDE)).save(stream, form, **options)
    return stream.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def jpeg_with(extra: bytes) -> bytes:
    plain = encode("JPEG")
    return plain[:2] + extra + plain[2:]


def jpeg_of_scans(count: int) -> bytes:
    """A progressive file whose last scan, which refines, is repeated until there are so many."""
    plain = encode("JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:-2] + plain[last:-2] * (count - plain.count(b"\xff\xda")) + plain[-2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png_with(extra: bytes, width: int = SIDE, height: int = SIDE) -> bytes:
    rows = zlib.compress(bytes((width + 1) * height))
    head = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return PNG_SIGNATURE + body


def profiles(count: int) -> bytes:
    """Chunks of a kilobyte that hold a megabyte each."""
    return chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_000_000))) * count


def gif_with(blocks: int) -> bytes:
    plain = encode("GIF", "P")
    picture = plain.index(b",\0\0\0\0")
    return plain[:picture] + b"!\xfe\x01c\0" * blocks + plain[picture:]


def bmp_of_runs(width: int, height: int) -> bytes:
    """Every pixel is a run of its own."""
    rows = (b"\1\1" * width + b"\0\0") * height + b"\0\1"
    start = 14 + 40 + 1024
    head = struct.pack("<LHHL", start + len(rows), 0, 0, start)
    info = struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 256)
    return b"BM" + head + info + bytes(1024) + rows


def tiff(height: int, *more: tuple[int, int, int], strips: int = 1) -> bytes:
    """A grey picture, a pixel wide; more: tag, type and count of entries that share one place."""
    at = 8 + 2 + 12 * (9 + len(more)) + 4
    entries = [
        (256, 4, 1, 1),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (278, 4, 1, -(-height // strips)),
        (273, 4, strips, at),
        (279, 4, strips, at + 4 * strips if strips > 1 else height),
        *((*entry, at) for entry in more),
    ]
    rows = b"".join(struct.pack("<HHLL", *entry) for entry in sorted(entries))
    tables = struct.pack("<L", at) * strips + struct.pack("<L", 1) * strips if strips > 1 else b""
    room = max([0, *(8 * count for _, _, count in more)])
    head = struct.pack("<2sHLH", b"II", 42, 8, len(entries)) + rows + bytes(4)
    return head + tables + bytes(max(height, room))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "scans of a jpeg": lambda: jpeg_of_scans(1000),
    "scans between segments": lambda: (
        jpeg_of_scans(90)[:-2] + segment(0xFE, b"\xff\xda" * 9) * 2000 + b"\xff\xd9"
    ),
    "comments of a jpeg": lambda: jpeg_with(segment(0xFE, b"") * 200_000),
    "bytes that fill between the segments of a jpeg": lambda: jpeg_with(b"\xff" * 1_000_000),
    "pieces of exif data": lambda: jpeg_with(segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08") * 20_000),
    "texts of a png": lambda: png_with(chunk(b"tEXt", b"a\0b") * 100_000),
    "profiles of a png": lambda: png_with(profiles(300)),
    "comments of a gif": lambda: gif_with(200_000),
    "strips of a tiff": lambda: tiff(1000, strips=200_000),
    "rows of a tiff in strips": lambda: tiff(60_000, (700, 4, 250_000), strips=60_000),
    "ratios of a tiff": lambda: tiff(SIDE, (282, 5, 300_000)),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("look", [read_header, decode])
def test_a_file_of_very_many_parts_is_refused(
    kind: str, look: Callable[[bytes, int], object]
) -> None:
    with pytest.raises(CorruptImageError):
        look(HOSTILE[kind](), ENOUGH)


HOSTILE_PIXELS: dict[str, Callable[[], bytes]] = {
    "empty chunks": lambda: png_with(chunk(b"IDAT", b"") * 200_000),
    "runs of a bmp": lambda: bmp_of_runs(1000, 400),
}


@pytest.mark.parametrize("kind", HOSTILE_PIXELS)
def test_pixels_in_very_many_parts_are_refused(kind: str) -> None:
    with pytest.raises(CorruptImageError):
        decode(HOSTILE_PIXELS[kind](), ENOUGH)


def test_a_crop_of_very_many_scans_is_refused() -> None:
    assert decode_pixels(jpeg_of_scans(parts.MAX_SCANS), ENOUGH).shape == (SIDE, SIDE, 3)
    with pytest.raises(CorruptImageError):
        decode_pixels(jpeg_of_scans(parts.MAX_SCANS + 1), ENOUGH)


PLAIN: dict[str, Callable[[], bytes]] = {
    "as many scans as may be": lambda: jpeg_of_scans(parts.MAX_SCANS),
    "a profile that looks like scans": lambda: jpeg_with(segment(0xE2, b"\xff\xda" * 2000)),
    "a film behind a jpeg": lambda: encode("JPEG") + b"\xff\xda" * 100_000,
    "segments that hold a large profile": lambda: jpeg_with(segment(0xE2, bytes(65_000)) * 255),
    "texts of a png": lambda: png_with(chunk(b"tEXt", b"a\0b") * 200),
    "small chunks of pixels": lambda: png_with(chunk(b"IDAT", b"") * 20_000),
    "a strip for each row": lambda: tiff(20_000, strips=20_000),
    "a table of 16-bit samples": lambda: tiff(SIDE, (301, 3, 3 << 16)),
    "an opaque entry": lambda: tiff(SIDE, (700, 1, 1_000_000)),
    "some runs of a bmp": lambda: bmp_of_runs(300, 300),
    "comments of a gif": lambda: gif_with(1000),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_photo_with_many_parts_is_decoded(kind: str) -> None:
    data = PLAIN[kind]()
    header = read_header(data, ENOUGH)
    assert decode(data, ENOUGH).pixels.shape == (header.height, header.width, 3)


def test_a_big_tiff_that_two_decoders_read_as_two_files_is_refused() -> None:
    with pytest.raises(CorruptImageError):
        read_header(b"MM\0+" + bytes(1000), ENOUGH)


@pytest.mark.parametrize("turned", [False, True])
def test_a_very_long_side_is_refused(turned: bool) -> None:
    """The perceptual hash of 32 million pixels in a row takes 1.5 GB."""
    longest, longer = ((n, 1) if turned else (1, n) for n in (MAX_SIDE, MAX_SIDE + 1))
    assert read_header(png_with(b"", *longest), ENOUGH)
    for look in (read_header, decode):
        with pytest.raises(ImageTooLargeError):
            look(png_with(b"", *longer), ENOUGH)

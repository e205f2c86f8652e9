"""Files that cost a decoder far more than their pixels, made by hand or by mutation."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
from PIL import Image

from service.vision.formats.base import MAX_PARTS

LARGE = 5477
"""The side of a square of 30 million pixels."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def save(image: Image.Image, form: str, **options: object) -> bytes:
    """An image file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def in_front(jpeg: bytes, extra: bytes) -> bytes:
    """A JPEG file with something before its first segment."""
    return jpeg[:2] + extra + jpeg[2:]


def repeated(jpeg: bytes, count: int) -> bytes:
    """A progressive JPEG file with its last scan, which refines, repeated."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * count + jpeg[-2:]


@cache
def progressive(side: int) -> bytes:
    """A plain grey progressive JPEG file."""
    return save(Image.new("L", (side, side), 128), "JPEG", progressive=True)


def _grown(jpeg: bytes, side: int) -> bytes:
    """The same scans in a file that says that it has a square of this side."""
    frame = jpeg.index(b"\xff\xc2") + 5
    return jpeg[:frame] + struct.pack(">HH", side, side) + jpeg[frame + 4 :]


def png(side: int, pixels: bytes, extra: bytes = b"", depth: int = 8, color: int = 0) -> bytes:
    """A square PNG file; pixels: its chunks IDAT."""
    head = struct.pack(">LLBBBBB", side, side, depth, color, 0, 0, 0)
    parts = (png_chunk(b"IHDR", head), extra, pixels, png_chunk(b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(parts)


def _rows(side: int) -> bytes:
    return zlib.compress(bytes((side + 1) * side), 9)


@cache
def _empty_block() -> tuple[int, int]:
    """A deflate block of 90 bits with tables of its own and no symbol: its bits, and their number.

    RFC 1951. The lengths of its codes are two runs of zeros, and two codes of one bit.
    """
    bits = length = 0

    def put(value: int, count: int) -> None:
        nonlocal bits, length
        bits |= value << length
        length += count

    put(0b100, 3)  # not the last one, with tables
    put(0, 10)  # 257 codes of literals, one of distances
    put(14, 4)  # 18 lengths of the codes of lengths, of which 18 and 1 have one
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
        put(int(symbol in (18, 1)), 3)
    for run in (138, 118):
        put(1, 1)
        put(run - 11, 7)
    put(0, 3)  # the two codes, and the end of the block
    return bits, length


def empty_blocks(size: int) -> bytes:
    """The beginning of a zlib stream: empty blocks of about `size` bytes."""
    bits, length = _empty_block()
    eight = sum(bits << length * place for place in range(8)).to_bytes(length, "little")
    return b"\x78\x01" + eight * (size // length)


def strips(side: int, compression: int, part: bytes, count: int) -> bytes:
    """A grey TIFF of `side` x `side` whose strips are all the same bytes."""
    entries = [
        *((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, compression)),
        *((262, 3, 1, 1), (277, 3, 1, 1), (278, 4, 1, -(-side // count))),
    ]
    place = 8 + len(part) + len(part) % 2
    if count == 1:
        entries += [(273, 4, 1, 8), (279, 4, 1, len(part))]
    else:
        entries += [(273, 4, count, place), (279, 4, count, place + 4 * count)]
    tables = struct.pack("<L", 8) * count + struct.pack("<L", len(part)) * count
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHLL", *entry) for entry in sorted(entries)) + bytes(4)
    head = struct.pack("<2sHL", b"II", 42, place + len(tables))
    return head + part + bytes(len(part) % 2) + tables + directory


def _gif(blocks: int) -> bytes:
    plain = save(Image.new("P", (64, 64)), "GIF")
    picture = plain.index(b",\0\0\0\0")
    return plain[:picture] + b"!\xfe" + b"\1c" * blocks + b"\0" + plain[picture:]


class _Bits:
    """Bits of VP8L, the first one in the lowest place of the first byte."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, count: int) -> None:
        """Append a number, its lowest bit first."""
        self._bits.append(f"{value:0{count}b}"[::-1])

    def done(self) -> bytes:
        """The bytes."""
        bits = "".join(self._bits)
        return int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")


def webp_of_tables(side: int) -> bytes:
    """A lossless WebP of one colour in which each square of 4 x 4 pixels has tables of its own.

    RFC 9649, section 3: five codes of one symbol take 20 bits in the file, and 6 KB in memory.
    """
    bits, squares = _Bits(), (side // 4) ** 2
    bits.put(0x2F, 8)
    bits.put(side - 1, 14)
    bits.put(side - 1, 14)
    bits.put(0, 4)  # no transparency, version 0
    bits.put(0b100, 3)  # no transform, no cache of colours, more than one group of tables
    bits.put(0, 3 + 1)  # for squares of 4 x 4; no cache of colours in the picture of their numbers
    for symbols in (280, 256):  # of green and red, which are the numbers: codes of eight bits
        bits.put(0, 1)
        bits.put(12 - 4, 4)
        for length in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8):
            bits.put(int(length in (18, 8)), 3)
        bits.put(0, 1 + 256)  # all symbols; each of the first 256 has eight bits
        if symbols > 256:
            bits.put(1, 1)
            bits.put(symbols - 256 - 11, 7)
    for _ in range(3):
        bits.put(0b0001, 4)
    for number in range(squares):
        for part in (number & 0xFF, number >> 8):
            bits.put(int(f"{part:08b}"[::-1], 2), 8)
    for _ in range(5 * squares):
        bits.put(0b0001, 4)
    pixels = bits.done()
    pixels += bytes(len(pixels) % 2)
    body = b"WEBPVP8L" + struct.pack("<L", len(pixels)) + pixels
    return b"RIFF" + struct.pack("<L", len(body)) + body


COSTLY: Mapping[str, Callable[[], bytes]] = {
    "jpeg: a thousand scans": lambda: repeated(progressive(64), 1000),
    "jpeg: ninety scans of 30 MP": lambda: _grown(repeated(progressive(64), 90), LARGE),
    "jpeg: nine scans of 200 MP": lambda: _grown(repeated(progressive(64), 9), 14_100),
    "jpeg: empty comments": lambda: in_front(progressive(64), _segment(0xFE, b"") * 200_000),
    "jpeg: tables": lambda: in_front(progressive(64), _segment(0xDB, bytes(65)) * 200_000),
    "png: empty chunks of pixels": lambda: png(64, png_chunk(b"IDAT", b"") * 200_000),
    "png: texts": lambda: png(
        64, png_chunk(b"IDAT", _rows(64)), png_chunk(b"tEXt", b"a\0b") * 200_000
    ),
    "png: empty blocks": lambda: png(
        64, png_chunk(b"IDAT", empty_blocks(24 << 20) + _rows(64)[2:])
    ),
    "png: empty blocks of 30 MP": lambda: png(
        LARGE, png_chunk(b"IDAT", empty_blocks(24 << 20) + _rows(LARGE)[2:])
    ),
    "webp: chunks": lambda: save(Image.new("RGB", (64, 64)), "WEBP") + b"JUNK\0\0\0\0" * MAX_PARTS,
    "gif: comments": lambda: _gif(200_000),
    "gif: bytes between blocks": lambda: _gif(1).replace(b"!\xfe", bytes(200_000) + b"!\xfe"),
    "tiff: strips": lambda: strips(5000, 1, bytes(5000), 200_000),
    "tiff: strips that share empty blocks": lambda: strips(
        5400, 8, empty_blocks(1 << 20) + zlib.compress(bytes(5400 * 54))[2:], 100
    ),
    "tiff: empty blocks of 29 MP": lambda: strips(
        5400, 8, empty_blocks(24 << 20) + _rows(5400)[2:], 1
    ),
    "tiff: strips of ninety scans": lambda: strips(5400, 7, repeated(progressive(5400), 90), 1),
}
"""Files of at most 25 MiB that are refused, by what makes them costly."""


@cache
def seeds() -> Mapping[str, bytes]:
    """A small file of each kind, to be mutated."""
    rng = np.random.default_rng(5)
    picture = Image.fromarray(
        np.kron(rng.integers(0, 256, (8, 6, 3), np.uint8), np.ones((9, 9, 1), np.uint8))
    )
    grey = picture.convert("L")
    return {
        "jpeg": save(picture, "JPEG"),
        "jpeg progressive": save(picture, "JPEG", progressive=True),
        "jpeg restarts": save(picture, "JPEG", restart_marker_blocks=1),
        "jpeg cmyk": save(picture.convert("CMYK"), "JPEG"),
        "png": save(picture, "PNG"),
        "png palette": save(picture.quantize(16), "PNG", transparency=1),
        "webp": save(picture, "WEBP"),
        "webp lossless": save(picture.convert("RGBA"), "WEBP", lossless=True),
        "webp moving": save(picture, "WEBP", save_all=True, append_images=[picture.rotate(90)]),
        "avif": save(picture, "AVIF"),
        "bmp": save(picture, "BMP"),
        "tiff": save(picture, "TIFF"),
        "tiff lzw": save(picture, "TIFF", compression="tiff_lzw"),
        "tiff deflate": save(picture, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": save(picture, "TIFF", compression="jpeg"),
        "tiff fax": save(grey.convert("1"), "TIFF", compression="group4"),
        "gif": save(picture.quantize(16), "GIF"),
    }


def mutated(seed_file: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """Copies of a file with some bytes changed, parts repeated, or numbers of the header grown."""
    rng = random.Random(seed)  # noqa: S311
    for _ in range(count):
        data = bytearray(seed_file)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(min(len(data), rng.choice((64, 256, len(data)))))
            match rng.randrange(4):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    data[place : place + 2] = rng.choice((b"\xff\xff", b"\x14\0", b"\0\x14"))
                case 2:
                    part = data[place : place + rng.choice((4, 16, 200))]
                    data[place:place] = bytes(part) * rng.choice((1, 30, 1000))
                case _:
                    del data[place : place + rng.choice((1, 4, 100))]
            if not data:
                data = bytearray(seed_file)
        yield bytes(data)

"""Image files made by hand: with any parts, in any number."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

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


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png_with(extra: bytes, width: int = SIDE, height: int = SIDE) -> bytes:
    rows = zlib.compress(bytes((width + 1) * height))
    head = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return PNG_SIGNATURE + body


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

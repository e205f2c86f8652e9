"""HEIC and AVIF files box by box: as phones write them, and as no encoder would."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pillow_heif
from PIL import Image

from service.vision.formats.isobmff import read_container

# EXIF orientation, and the properties with the same effect: quarter turns to the left, then a
# mirror that exchanges top and bottom (0) or left and right (1).
TURNS: dict[int, tuple[tuple[bytes, bytes], ...]] = {
    1: (),
    2: ((b"imir", b"\1"),),
    3: ((b"irot", b"\2"),),
    4: ((b"imir", b"\0"),),
    5: ((b"irot", b"\1"), (b"imir", b"\0")),
    6: ((b"irot", b"\3"),),
    7: ((b"irot", b"\3"), (b"imir", b"\0")),
    8: ((b"irot", b"\1"),),
}
# A reader that does not know one of these has to leave the item alone.
_ESSENTIAL = {b"hvcC", b"av1C", b"irot", b"imir", b"clap"}


@dataclass(frozen=True)
class FileItem:
    """An item to write: its kind, its properties and its data."""

    kind: bytes
    properties: tuple[tuple[bytes, bytes], ...] = ()
    payload: bytes = b""

    def with_properties(self, *more: tuple[bytes, bytes]) -> FileItem:
        return replace(self, properties=(*self.properties, *more))

    def sized(self, width: int, height: int) -> FileItem:
        """The same data, announced with another size."""
        kept = (each for each in self.properties if each[0] != b"ispe")
        return replace(self, properties=(extent(width, height), *kept))


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def extent(width: int, height: int) -> tuple[bytes, bytes]:
    return b"ispe", struct.pack(">III", 0, width, height)


def encode_heif(image: Image.Image, form: str, **options: object) -> bytes:
    """A HEIC or AVIF file as its encoder writes it, at the encoder's highest speed."""
    stream = io.BytesIO()
    if form == "HEIC":
        fast = {"preset": "ultrafast"}
        pillow_heif.from_pillow(image).save(stream, enc_params=fast, **options)
    else:
        image.save(stream, form, speed=10, **options)
    return stream.getvalue()


def coded(image: Image.Image, form: str, **options: object) -> FileItem:
    """The image as a coded item of HEIC or AVIF."""
    container = read_container(encode_heif(image, form, **options))
    assert container.primary is not None
    item = container.items[container.primary]
    wanted = (b"hvcC", b"av1C", b"colr", b"ispe")
    properties = tuple((kind, body) for kind, body in item.properties if kind in wanted)
    return FileItem(item.kind, properties, container.payload(item))


def grid_of(rows: int, columns: int, width: int, height: int) -> FileItem:
    """The item that puts others together to a picture."""
    body = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    return FileItem(b"grid", (extent(width, height),), body)


def tiles_of(image: Image.Image, side: int, form: str, **options: object) -> list[FileItem]:
    """The image cut into coded squares, row by row; what is missing at the edges is black."""
    return [
        coded(image.crop((left, top, left + side, top + side)), form, **options)
        for top in range(0, image.height, side)
        for left in range(0, image.width, side)
    ]


def write_heif(
    items: Sequence[FileItem],
    references: Iterable[tuple[bytes, int, Sequence[int]]] = (),
    primary: int = 1,
) -> bytes:
    """A file of these items, numbered from 1.

    Args:
        references: kind, and the numbers of the item that refers and of those it refers to.
    """
    brand = b"avif" if any(each.kind == b"av01" for each in items) else b"heic"
    properties = list(dict.fromkeys(one for each in items for one in each.properties))
    associations = b"".join(
        struct.pack(">HB", number, len(each.properties))
        + b"".join(
            struct.pack(">H", properties.index(one) + 1 | (one[0] in _ESSENTIAL) << 15)
            for one in each.properties
        )
        for number, each in enumerate(items, 1)
    )
    kinds = (
        box(b"infe", struct.pack(">IHH", 2 << 24, number, 0), each.kind, b"\0")
        for number, each in enumerate(items, 1)
    )
    links = (
        box(kind, struct.pack(f">HH{len(to)}H", source, len(to), *to))
        for kind, source, to in references
    )
    head = box(b"ftyp", brand, bytes(4), b"mif1", brand)

    def meta(place: int) -> bytes:
        places = []
        for number, each in enumerate(items, 1):
            places.append(struct.pack(">HHHII", number, 0, 1, place, len(each.payload)))
            place += len(each.payload)
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", primary)),
            box(b"iloc", bytes(4), struct.pack(">HH", 0x4400, len(items)), *places),
            box(b"iinf", struct.pack(">IH", 0, len(items)), *kinds),
            box(b"iref", bytes(4), *links),
            box(
                b"iprp",
                box(b"ipco", *(box(kind, body) for kind, body in properties)),
                box(b"ipma", struct.pack(">II", 1, len(items)), associations),
            ),
        )

    links = tuple(links)
    kinds = tuple(kinds)
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *(each.payload for each in items))


def write_grid(image: Image.Image, side: int, form: str, **options: object) -> bytes:
    """The image in tiles, as phones write it."""
    tiles = tiles_of(image, side, form, **options)
    columns = -(-image.width // side)
    grid = grid_of(len(tiles) // columns, columns, image.width, image.height)
    return write_heif([grid, *tiles], [(b"dimg", 1, range(2, 2 + len(tiles)))])

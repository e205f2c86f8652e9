"""HEIC and AVIF photos: the primary picture of the container, decoded one coded tile at a time.

A decoder gets each tile in a file of its own that is written here. So it sees none of the file's
other items (depth and gain maps, thumbnails, further pictures), whose parsers and cycles are where
its vulnerabilities were, and decoding takes the memory of the picture and of one tile.
"""

from __future__ import annotations

import importlib.util
import io
import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image

from service.domain.errors import (
    CorruptImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from service.vision.formats.base import (
    LARGEST_SHRINK,
    MAX_SIDE,
    OTHER_BYTES,
    PIXEL_WORK_US,
    PLAIN_BYTES,
    DecodeLimits,
    PhotoFormat,
    PhotoHeader,
    Raster,
    check_size,
    corrupt,
    reduction,
)
from service.vision.formats.bitstreams import av1_picture, hevc_picture
from service.vision.formats.exif import TURNS, UPRIGHT
from service.vision.formats.isobmff import Container, Item, read_container

# What ISO/IEC 23008-12 and the AVIF specification call the files of still pictures and sequences.
_BRANDS: Final = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"avif", b"avis", b"mif1", b"mif2", b"msf1"),
}
_HEVC, _AV1, _GRID = b"hvc1", b"av01", b"grid"
# A picture that is another one, unchanged, or the description of how a display brightens it.
_SAME_PICTURE = {b"iden", b"tmap"}
_MAX_STEPS: Final = 4
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
# Parameter sets and colours take some hundred bytes.
_MAX_CONFIG_BYTES: Final = 1 << 14
# ISO/IEC 14496-15, 8.3.3.1.
_LENGTH_BYTES_PLACE: Final = 21
_IROT = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}
_IMIR = {0: Image.Transpose.FLIP_TOP_BOTTOM, 1: Image.Transpose.FLIP_LEFT_RIGHT}

_EXIF: Final = b"Exif"
_DESCRIBES: Final = b"cdsc"
_MAX_EXIF_BYTES: Final = 1 << 20
_BAND_ROWS: Final = 512
# Bytes that a decoder takes for a pixel of a tile. Pillow copies the pixels of an AVIF file twice.
_TILE_BYTES: Final = {_HEVC: 8, _AV1: 16}
_DEEP_TILE_BYTES: Final = {_HEVC: 16, _AV1: 24}
_PICTURE_BYTES: Final = 4
# More than other photos may take: 48 megapixels of a phone take 1.6 s, and photos of 6 to 200
# megapixels took at most a tenth more than predicted.
_MAX_WORK_US: Final = 2_000_000
# Microseconds of a core, measured with photos of 0.03 to 6 bits a pixel: for each tile, pixel,
# pixel of more than 8 bits and coded byte. See `MAX_WORK_US`.
_WORK_US: Final = {_HEVC: (220.0, 0.016, 0.045, 0.07), _AV1: (120.0, 0.01, 0.02, 0.08)}
_SAMPLE = Image.frombytes("L", (3, 2), bytes(range(6)))

# Workers decode side by side: one tile gets one thread.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
if _HAS_HEVC := importlib.util.find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1


@dataclass(frozen=True, slots=True)
class _Tile:
    """A coded picture, with what its decoder needs to know.

    config: the codec's configuration; color: the `nclx` description of its samples, or empty.
    """

    kind: bytes
    config: bytes
    color: bytes
    width: int
    height: int
    item: Item

    @property
    def is_deep(self) -> bool:
        """Whether a sample has more than 8 bits: ISO/IEC 14496-15, 8.3.3.1; AV1-ISOBMFF, 2.3.3."""
        if self.kind == _HEVC:
            return self.config[17:18] > b"\xf8"
        return bool(self.config[2:3] and self.config[2] & 0x40)


@dataclass(frozen=True, slots=True)
class _Picture:
    """Tiles in rows, `columns` in each; what reaches beyond width and height is cut off."""

    width: int
    height: int
    columns: int
    tiles: tuple[_Tile, ...]

    @property
    def coded_size(self) -> tuple[int, int]:
        """Width and height of all the tiles."""
        first = self.tiles[0]
        return first.width * self.columns, first.height * (len(self.tiles) // self.columns)


@dataclass(frozen=True, slots=True)
class HeifPhoto:
    """The primary picture of a file, not decoded.

    format: "heic" or "avif".
    width, height: in pixels, before it is turned upright.
    orientation: as of EXIF, 1 to 8. EXIF data of these files does not turn them.
    largest_shrink: the largest one that `decode` takes.
    work_us: processor time that decoding takes, in microseconds.
    exif: EXIF data; empty where there is none.
    """

    format: str
    width: int
    height: int
    orientation: int
    largest_shrink: int
    work_us: float
    exif: bytes
    _crop: tuple[int, int, int, int]
    _container: Container
    _picture: _Picture
    _alpha: _Picture | None
    _is_premultiplied: bool

    @property
    def is_plain(self) -> bool:
        """Whether it has neither transparency nor samples of more than 8 bits."""
        return self._alpha is None and not self._picture.tiles[0].is_deep

    @property
    def tile_bytes(self) -> int:
        """The most memory that decoding a tile takes."""
        tile = self._picture.tiles[0]
        each = (_DEEP_TILE_BYTES if tile.is_deep else _TILE_BYTES)[tile.kind]
        return tile.width * tile.height * each

    def decode(self, shrink: int = 1) -> Raster:
        """The picture as stored, not turned; RGBA or RGBa where it has transparency.

        Args:
            shrink: the sides of the squares of pixels whose mean is one pixel; a power of two.

        Raises:
            CorruptImageError: a tile is damaged, or not as large as the file says.
        """
        color = _decode_picture(self._container, self._picture, 3, shrink)
        left, top = self._crop[0] // shrink, self._crop[1] // shrink
        right, bottom = left - (-self.width // shrink), top - (-self.height // shrink)
        if self._alpha is None:
            return np.ascontiguousarray(color[top:bottom, left:right])
        image = Image.fromarray(color)
        alpha = _decode_picture(self._container, self._alpha, 1, shrink)
        image.putalpha(Image.fromarray(alpha[:, :, 0]).resize(image.size))
        if self._is_premultiplied:
            image = Image.frombytes("RGBa", image.size, image.tobytes())
        return image.crop((left, top, right, bottom))


def recognizes(data: bytes) -> bool:
    """Whether the first bytes are those of a HEIC or AVIF file."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : min(int.from_bytes(data[:4]), 256)]
    return any(brands[place : place + 4] in _BRANDS for place in range(0, len(brands), 4))


def open_heif(data: bytes) -> HeifPhoto:
    """Read the boxes of a HEIC or AVIF file; no pixel is decoded.

    Raises:
        UnsupportedImageError: the primary picture is none that is decoded here.
        CorruptImageError: the boxes contradict one another.
        ImageTooComplexError: there are more than a photo has.
    """
    container = read_container(data)
    if container.primary is None:
        raise UnsupportedImageError("The HEIF file has no primary picture.")
    item, turns = _resolve(container, container.primary)
    picture = _picture_of(container, item)
    if picture.tiles[0].kind == _HEVC and not _HAS_HEVC:
        raise UnsupportedImageError("HEIC images are not supported by this installation.")
    width, height = picture.coded_size
    alpha = _alpha_of(container, item)
    if alpha and (alpha.coded_size[0] > width or alpha.coded_size[1] > height):
        raise corrupt("transparency larger than the picture")
    crop = _crop(item, picture)
    return HeifPhoto(
        format="heic" if picture.tiles[0].kind == _HEVC else "avif",
        width=crop[2] - crop[0],
        height=crop[3] - crop[1],
        orientation=_orientation(turns),
        largest_shrink=_largest_shrink(picture, alpha),
        work_us=_work_us(picture) + (0 if alpha is None else _work_us(alpha)),
        exif=_exif_of(container, container.primary),
        _crop=crop,
        _container=container,
        _picture=picture,
        _alpha=alpha,
        _is_premultiplied=b"prem" in item.references,
    )


def read_header(data: bytes, limits: DecodeLimits) -> PhotoHeader:
    """Read and check a header.

    Raises:
        CorruptImageError, ImageTooComplexError, ImageTooLargeError, UnsupportedImageError
    """
    photo = open_heif(data)
    width, height = photo.width, photo.height
    check_size(width, height, limits, reducible=True)
    if photo.tile_bytes > limits.max_decoded_bytes:
        name = "images.max_decoded_pixels"
        fits = int(width * height * limits.max_decoded_bytes / photo.tile_bytes)
        raise ImageTooLargeError(width, height, fits, MAX_SIDE, name)
    shrink = reduction(width, height, limits, photo.largest_shrink)
    decoded = -(-width // shrink) * -(-height // shrink)
    work = photo.work_us + decoded * PIXEL_WORK_US
    if work > _MAX_WORK_US:
        raise ImageTooComplexError
    # A tile beside the picture that is put together, and later the picture in work.
    memory = max(
        photo.tile_bytes + decoded * _PICTURE_BYTES,
        decoded * (PLAIN_BYTES if photo.is_plain else OTHER_BYTES),
    )
    return PhotoHeader(
        photo.format, width, height, shrink, photo.orientation, memory, work, photo.exif
    )


def decode(data: bytes, header: PhotoHeader) -> Raster:
    """Decode at the scale of the header."""
    return open_heif(data).decode(header.shrink)


def _resolve(container: Container, number: int) -> tuple[Item, tuple[Image.Transpose, ...]]:
    """The item that a picture is in the end, and the turns on the way, the innermost first."""
    turns: tuple[Image.Transpose, ...] = ()
    for _ in range(_MAX_STEPS):
        item = container.item(number)
        turns = _turns(item) + turns
        if item.kind not in _SAME_PICTURE:
            return item, turns
        sources = item.references.get(b"dimg")
        if not sources:
            break
        number = sources[0]
    raise corrupt("pictures that are one another")


def _exif_of(container: Container, primary: int) -> bytes:
    """The EXIF data of the primary picture: ISO/IEC 23008-12, A.2.1."""
    items = [each for each in container.items.values() if each.kind == _EXIF]
    items.sort(key=lambda each: primary not in each.references.get(_DESCRIBES, ()))
    if not items or sum(size for _, size in items[0].extents) > _MAX_EXIF_BYTES:
        return b""
    try:
        payload = container.payload(items[0])
    except CorruptImageError:  # the picture does not need it
        return b""
    return payload[4 + int.from_bytes(payload[:4]) :]


def _turns(item: Item) -> tuple[Image.Transpose, ...]:
    found = []
    for kind, body in item.properties:
        value = body[0] if body else 0
        if kind == b"irot" and value & 3:
            found.append(_IROT[value & 3])
        elif kind == b"imir":
            found.append(_IMIR[value & 1])
    return tuple(found)


def _size(item: Item) -> tuple[int, int]:
    body = item.find(b"ispe")
    if body is None or len(body) != 12:
        raise corrupt("a picture without a size")
    width, height = struct.unpack_from(">II", body, 4)
    if min(width, height) < 1:
        raise CorruptImageError("The image has no pixels.")
    return width, height


def _largest_shrink(picture: _Picture, alpha: _Picture | None) -> int:
    """A square of pixels never lies in two tiles."""
    tiles = [each.tiles[0] for each in (picture, alpha) if each and len(each.tiles) > 1]
    sides = [side for tile in tiles for side in (tile.width, tile.height)]
    return math.gcd(LARGEST_SHRINK, *sides)


def _work_us(picture: _Picture) -> float:
    """Predicted processor time of decoding, in microseconds."""
    first = picture.tiles[0]
    tile_us, plain_us, deep_us, byte_us = _WORK_US[first.kind]
    width, height = picture.coded_size
    coded = sum(size for each in picture.tiles for _, size in each.item.extents)
    pixels_us = width * height * (deep_us if first.is_deep else plain_us)
    return len(picture.tiles) * tile_us + pixels_us + coded * byte_us


def _crop(item: Item, picture: _Picture) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is shown: ISO/IEC 14496-12, 12.1.4.

    Encoders that code an even number of rows and columns cut off the last ones by it.
    """
    whole = (0, 0, picture.width, picture.height)
    body = item.find(b"clap")
    if body is None or len(body) != 32:
        return whole
    values = struct.unpack(">IIIIiIiI", body)
    if 0 in values[1::2]:
        return whole
    wide, high, across, down = (a / b for a, b in zip(values[::2], values[1::2], strict=True))
    left, top = round(across + (whole[2] - wide) / 2), round(down + (whole[3] - high) / 2)
    right, bottom = left + round(wide), top + round(high)
    if 0 <= left < right <= whole[2] and 0 <= top < bottom <= whole[3]:
        return left, top, right, bottom
    return whole


def _orientation(turns: tuple[Image.Transpose, ...]) -> int:
    """The orientation of EXIF that has the same effect as these turns."""
    turned = _SAMPLE
    for turn in turns:
        turned = turned.transpose(turn)
    for orientation, turn in TURNS.items():
        if _SAMPLE.transpose(turn) == turned:
            return orientation
    return UPRIGHT


def _color(item: Item) -> bytes:
    """The `nclx` description of an item's samples, without its kind; empty without one."""
    for kind, body in item.properties:
        if kind == b"colr" and body[:4] == b"nclx":
            return body[4:11]
    return b""


def _tile_of(item: Item, whole: Item) -> _Tile:
    width, height = _size(item)
    config = item.find(b"hvcC" if item.kind == _HEVC else b"av1C")
    if config is None or len(config) > _MAX_CONFIG_BYTES:
        raise corrupt("a picture without a configuration")
    return _Tile(item.kind, config, _color(item) or _color(whole), width, height, item)


def _picture_of(container: Container, item: Item) -> _Picture:
    """How a picture is made of tiles.

    Raises:
        UnsupportedImageError: it is made in another way.
        CorruptImageError: its tiles do not fit.
    """
    if item.kind in (_HEVC, _AV1):
        tile = _tile_of(item, item)
        return _Picture(tile.width, tile.height, 1, (tile,))
    if item.kind != _GRID:
        raise UnsupportedImageError("The HEIF file's primary picture is neither HEIC nor AVIF.")
    rows, columns, width, height = _grid(container.payload(item))
    sources = item.references.get(b"dimg", [])
    if len(sources) != rows * columns:
        raise corrupt("not the tiles of the grid")
    known = {number: container.item(number) for number in sources}
    made = {
        number: _tile_of(each, item) for number, each in known.items() if each.kind in (_HEVC, _AV1)
    }
    if (
        len(made) != len(known)
        or len({(each.kind, each.width, each.height) for each in made.values()}) != 1
    ):
        raise UnsupportedImageError("The HEIF file's tiles are of several kinds.")
    picture = _Picture(width, height, columns, tuple(made[number] for number in sources))
    first = picture.tiles[0]
    wide, high = picture.coded_size
    # No tile lies beyond the picture, and the picture is covered.
    if not (wide - first.width < width <= wide and high - first.height < height <= high):
        raise corrupt("the tiles do not fit")
    if (width, height) != _size(item):
        raise corrupt("the grid has another size")
    if sum(size for each in picture.tiles for _, size in each.item.extents) > len(container.data):
        raise corrupt("a grid of more bytes than the file")
    return picture


def _grid(body: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, width and height of a grid: ISO/IEC 23008-12, 6.6.2.3."""
    try:
        _, _, rows, columns, *size = struct.unpack(
            ">BBBBII" if body[1:2] and body[1] & 1 else ">BBBBHH", body
        )
    except struct.error:
        raise corrupt("a damaged grid") from None
    return rows + 1, columns + 1, size[0], size[1]


def _alpha_of(container: Container, item: Item) -> _Picture | None:
    """The transparency of a picture, if it has some."""
    for each in container.items.values():
        kind = each.find(b"auxC")
        if kind is None or kind[4:].split(b"\0")[0] not in _ALPHA:
            continue
        if any(container.items.get(n) is item for n in each.references.get(b"auxl", ())):
            return _picture_of(container, each)
    return None


def _decode_picture(
    container: Container, picture: _Picture, channels: int, shrink: int
) -> NDArray[np.uint8]:
    """The pixels of a picture, uint8 [height, width, channels]."""
    height, width = -(-picture.height // shrink), -(-picture.width // shrink)
    found = np.empty((height, width, channels), np.uint8)
    for place, tile in enumerate(picture.tiles):
        row, column = divmod(place, picture.columns)
        top, left = row * tile.height, column * tile.width
        pixels = _decode_tile(tile, container.payload(tile.item))
        pixels = pixels[: picture.height - top, : picture.width - left]
        if shrink > 1:
            pixels = _reduced(pixels, shrink)
        area = found[top // shrink :, left // shrink :][: pixels.shape[0], : pixels.shape[1]]
        area[:] = pixels[:, :, :channels]
    return found


def _reduced(pixels: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    """The means of squares, band by band: Pillow takes four bytes for a pixel of three."""
    bands = (pixels[top : top + _BAND_ROWS] for top in range(0, len(pixels), _BAND_ROWS))
    grey = pixels.shape[2] == 1
    reduced = [
        np.asarray(Image.fromarray(band[:, :, 0] if grey else band).reduce(shrink))
        for band in bands
    ]
    found = np.concatenate(reduced)
    return found[:, :, np.newaxis] if grey else found


def _decode_tile(tile: _Tile, payload: bytes) -> NDArray[np.uint8]:
    """uint8 [height, width, 1 or 3]; a grey tile has one channel."""
    decode = _decode_hevc if tile.kind == _HEVC else _decode_av1
    pixels = decode(tile, payload)
    if pixels.shape[:2] != (tile.height, tile.width):
        raise corrupt("a tile of another size")
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _decode_hevc(tile: _Tile, payload: bytes) -> NDArray[np.uint8]:
    if len(tile.config) <= _LENGTH_BYTES_PLACE:
        raise corrupt("a damaged configuration")
    length_bytes = (tile.config[_LENGTH_BYTES_PLACE] & 3) + 1
    file = _write_file(tile, hevc_picture(payload, length_bytes))
    image = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)[0]
    if image.mode.startswith("I;16"):  # grey samples of more than 8 bits stay so
        samples = (np.frombuffer(image.data, np.uint16) >> 8).astype(np.uint8)
    else:
        samples = np.frombuffer(image.data, np.uint8)
    width, height = image.size
    return samples.reshape(height, width, -1)


def _decode_av1(tile: _Tile, payload: bytes) -> NDArray[np.uint8]:
    file = _write_file(tile, av1_picture(payload, tile.width, tile.height))
    with Image.open(io.BytesIO(file), formats=("AVIF",)) as image:
        return np.asarray(image.convert("RGB"))


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _write_file(tile: _Tile, payload: bytes) -> bytes:
    """A file with this tile alone, as a picture: ISO/IEC 23008-12, 6.2 and 6.5."""
    is_hevc = tile.kind == _HEVC
    properties = [
        _box(b"ispe", struct.pack(">III", 0, tile.width, tile.height)),
        _box(b"hvcC" if is_hevc else b"av1C", tile.config),
    ]
    if tile.color:
        properties.append(_box(b"colr", b"nclx", tile.color))
    # A reader has to know the second one, the configuration.
    places = bytes((1, 2 | 0x80, 3)[: len(properties)])
    brand = b"heic" if is_hevc else b"avif"
    head = _box(b"ftyp", brand, bytes(4), b"mif1", brand)

    def meta(start: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), struct.pack(">H", 1)),
            _box(
                b"iloc", bytes(4), struct.pack(">HHHHHII", 0x4400, 1, 1, 0, 1, start, len(payload))
            ),
            _box(
                b"iinf",
                struct.pack(">IH", 0, 1),
                _box(b"infe", struct.pack(">IHH", 2 << 24, 1, 0), tile.kind, b"\0"),
            ),
            _box(
                b"iprp",
                _box(b"ipco", *properties),
                _box(b"ipma", struct.pack(">IIHB", 0, 1, 1, len(places)), places),
            ),
        )

    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", payload)


HEIF = PhotoFormat("heif", "HEIC or AVIF", recognizes, read_header, decode)

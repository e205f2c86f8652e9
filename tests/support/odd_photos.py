"""One photo as every kind of file that cameras, phones, scanners and programs make of it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.support.heif_files import (
    TURNS,
    FileItem,
    coded,
    encode_heif,
    extent,
    tiles_of,
    write_grid,
    write_heif,
)

Pixels = NDArray[np.uint8]
ORIENTATION = 0x0112
EXACT, NEARLY, LOSSY, COARSE = 0.0, 0.6, 3.5, 12.0

# EXIF 2.32, table 6: from the upright picture to rows and columns as stored.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@dataclass(frozen=True, eq=False)
class OddPhoto:
    """A file.

    expected: its upright pixels, uint8 [height, width, 3]. tolerance: the largest mean difference
    of a sample from them. shows_faces: whether they are good enough to know a face by.
    """

    name: str
    data: bytes
    expected: Pixels
    tolerance: float
    shows_faces: bool = True


def odd_photos(portrait: Image.Image) -> list[OddPhoto]:
    """All files of an RGB photo; their names differ."""
    found = [
        *_turned(portrait),
        *_jpegs(portrait),
        *_pngs(portrait),
        *_webps(portrait),
        *_tiffs(portrait),
        *_bmps_and_gifs(portrait),
        *_heifs(portrait),
        *_raws(portrait),
        *_with_side_data(portrait),
        *_small(portrait),
    ]
    assert len({each.name for each in found}) == len(found)
    return found


def save(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def over_white(image: Image.Image) -> Pixels:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return rgb(white)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def _turned(portrait: Image.Image) -> Iterator[OddPhoto]:
    upright = rgb(portrait)
    forms: dict[str, tuple[float, dict[str, object]]] = {
        "JPEG": (LOSSY, {"quality": 92}),
        "PNG": (EXACT, {"compress_level": 1}),
        "WEBP": (LOSSY, {"quality": 92, "method": 1}),
        "TIFF": (EXACT, {}),
        "AVIF": (LOSSY, {"quality": 90, "speed": 10, "max_threads": 1}),
    }
    for orientation, (form, (tolerance, options)) in product(STORED, forms.items()):
        stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
        data = save(stored, form, exif=exif_of(orientation), **options)
        yield OddPhoto(f"{form} of orientation {orientation}", data, upright, tolerance)
    for orientation, turns in TURNS.items():
        stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
        item = coded(stored, "HEIC", quality=90).with_properties(*turns)
        # Phones write the same orientation as EXIF, too: it does not count.
        exif = FileItem(b"Exif", (), struct.pack(">L", 6) + exif_of(orientation).tobytes())
        data = write_heif([item, exif], [(b"cdsc", 2, [1])])
        yield OddPhoto(f"HEIC of orientation {orientation}", data, upright, LOSSY)


def _jpegs(portrait: Image.Image) -> Iterator[OddPhoto]:
    pixels, grey = rgb(portrait), portrait.convert("L")
    kinds: dict[str, dict[str, object]] = {
        "4:4:4": {"subsampling": 0},
        "4:2:2": {"subsampling": 1},
        "4:2:0": {"subsampling": 2},
        "progressive": {"progressive": True},
        "of RGB samples": {"keep_rgb": True},
        "with restart markers": {"restart_marker_blocks": 3},
        "of a second generation": {"quality": 75, "optimize": True},
    }
    for name, options in kinds.items():
        data = save(portrait, "JPEG", **{"quality": 92, **options})
        yield OddPhoto(f"JPEG {name}", data, pixels, LOSSY)
    yield OddPhoto("grey JPEG", save(grey, "JPEG", quality=92), rgb(grey), LOSSY)
    # Adobe's programs and Pillow store the inverted samples.
    cmyk = save(portrait.convert("CMYK"), "JPEG", quality=92)
    yield OddPhoto("CMYK JPEG", cmyk, pixels, LOSSY)
    yield OddPhoto("YCCK JPEG", ycck_jpeg(portrait), pixels, LOSSY)
    data = save(portrait, "JPEG", quality=92)
    yield OddPhoto("JPEG with bytes behind it", data + bytes(5000), pixels, LOSSY)
    second = portrait.resize((40, 40))
    data = save(portrait, "MPO", quality=92, save_all=True, append_images=[second])
    yield OddPhoto("JPEG with a second picture", data, pixels, LOSSY)


def ycck_jpeg(portrait: Image.Image) -> bytes:
    """The samples of a CMYK photo in luma and chroma, as Adobe's programs write them."""
    inverted = Image.eval(portrait, lambda sample: 255 - sample).convert("YCbCr")
    # Pillow inverts what it writes.
    bands = [Image.eval(band, lambda sample: 255 - sample) for band in inverted.split()]
    image = Image.merge("CMYK", [*bands, Image.new("L", portrait.size, 0)])
    data = bytearray(save(image, "JPEG", quality=95, subsampling=0))
    data[data.index(b"\xff\xee") + 15] = 2
    return bytes(data)


def _pngs(portrait: Image.Image) -> Iterator[OddPhoto]:
    pixels, grey = rgb(portrait), portrait.convert("L")
    faded = portrait.copy()
    faded.putalpha(Image.linear_gradient("L").resize(portrait.size))
    palette = portrait.quantize(200)
    yield OddPhoto("PNG", save(portrait, "PNG"), pixels, EXACT)
    yield OddPhoto("grey PNG", save(grey, "PNG"), rgb(grey), EXACT)
    yield OddPhoto("PNG with alpha", save(faded, "PNG"), over_white(faded), NEARLY, False)
    data = save(faded.convert("LA"), "PNG")
    yield OddPhoto("grey PNG with alpha", data, over_white(faded.convert("LA")), NEARLY, False)
    yield OddPhoto("palette PNG", save(palette, "PNG"), rgb(palette), EXACT)
    palette16 = portrait.quantize(16)
    yield OddPhoto("PNG of 4 bits", save(palette16, "PNG"), rgb(palette16), EXACT, False)
    colour = portrait.getpixel((0, 0))
    data = save(portrait, "PNG", transparency=colour)
    seen = pixels.copy()
    seen[(pixels == colour).all(axis=2)] = 255
    yield OddPhoto("PNG with a transparent colour", data, seen, EXACT)
    cut = palette.copy()
    cut.info["transparency"] = bytes(range(200))
    data = save(cut, "PNG")
    seen = over_white(Image.open(io.BytesIO(data)))
    yield OddPhoto("palette PNG with alpha", data, seen, NEARLY, False)
    bits = grey.convert("1")
    yield OddPhoto("black and white PNG", save(bits, "PNG"), rgb(bits), EXACT, False)
    deep = np.asarray(portrait).astype(np.uint16) * 257
    data = cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes()
    yield OddPhoto("PNG of 16 bits", data, pixels, EXACT)
    data = cv2.imencode(".png", deep[:, :, 0])[1].tobytes()
    yield OddPhoto("grey PNG of 16 bits", data, np.dstack([pixels[:, :, 0]] * 3), EXACT)
    yield OddPhoto("interlaced PNG", interlaced_png(pixels), pixels, EXACT)
    others = [portrait.rotate(90 * turn) for turn in (1, 2)]
    data = save(portrait, "PNG", save_all=True, append_images=others)
    yield OddPhoto("animated PNG", data, pixels, EXACT)


def interlaced_png(pixels: Pixels) -> bytes:
    """An RGB photo in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    rows = [
        b"\0" + row.tobytes()
        for left, top, across, down in (*passes, (0, 1, 1, 2))
        for row in pixels[top::down, left::across]
    ]
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, body)
        for kind, body in (
            (b"IHDR", head),
            (b"IDAT", zlib.compress(b"".join(rows))),
            (b"IEND", b""),
        )
    )


def png_chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    found = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", found)


def _webps(portrait: Image.Image) -> Iterator[OddPhoto]:
    pixels = rgb(portrait)
    faded = portrait.copy()
    faded.putalpha(Image.linear_gradient("L").resize(portrait.size))
    yield OddPhoto("WebP", save(portrait, "WEBP", quality=90), pixels, LOSSY)
    yield OddPhoto("lossless WebP", save(portrait, "WEBP", lossless=True), pixels, EXACT)
    data = save(faded, "WEBP", quality=90)
    yield OddPhoto("WebP with alpha", data, over_white(faded), LOSSY, False)
    others = [portrait.rotate(90)]
    data = save(portrait, "WEBP", quality=90, save_all=True, append_images=others)
    yield OddPhoto("animated WebP", data, pixels, LOSSY)


def _tiffs(portrait: Image.Image) -> Iterator[OddPhoto]:
    pixels, grey = rgb(portrait), portrait.convert("L")
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
        data = save(portrait, "TIFF", compression=compression)
        yield OddPhoto(f"TIFF {compression}", data, pixels, EXACT)
    data = save(portrait, "TIFF", compression="jpeg", quality=92)
    yield OddPhoto("TIFF with JPEG inside", data, pixels, LOSSY)
    for mode in ("L", "P", "CMYK", "RGBA", "1"):
        image = grey.convert("1") if mode == "1" else portrait.convert(mode)
        data = save(image, "TIFF", compression="tiff_lzw")
        yield OddPhoto(f"TIFF {mode}", data, rgb(image), NEARLY, mode not in ("1", "P"))
    pages = [portrait.rotate(90), portrait.resize((30, 30))]
    data = save(portrait, "TIFF", save_all=True, append_images=pages)
    yield OddPhoto("TIFF of three pages", data, pixels, EXACT)
    deep = pixels.astype(np.uint16) * 257
    kinds: dict[str, tuple[np.ndarray, dict[str, object], dict[str, object]]] = {
        "of 16 bits": (deep, {}, {}),
        "big-endian": (pixels, {"byteorder": ">"}, {}),
        "big-endian of 16 bits": (deep, {"byteorder": ">"}, {}),
        "BigTIFF": (pixels, {"bigtiff": True}, {}),
        "in tiles": (pixels, {}, {"tile": (64, 64)}),
        "in planes": (pixels.transpose(2, 0, 1), {}, {"planarconfig": "separate"}),
        "with a predictor": (pixels, {}, {"compression": "zlib", "predictor": True}),
    }
    for name, (samples, file, page) in kinds.items():
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream, **file) as writer:
            writer.write(samples, photometric="rgb", metadata=None, **page)
        yield OddPhoto(f"TIFF {name}", stream.getvalue(), pixels, EXACT)


def _bmps_and_gifs(portrait: Image.Image) -> Iterator[OddPhoto]:
    pixels, palette = rgb(portrait), portrait.quantize(200)
    for mode in ("RGB", "L", "1"):
        image = portrait.convert(mode)
        yield OddPhoto(f"BMP {mode}", save(image, "BMP"), rgb(image), EXACT, mode != "1")
    yield OddPhoto("BMP of a palette", save(palette, "BMP"), rgb(palette), EXACT)
    yield OddPhoto("BMP from top to bottom", top_down_bmp(pixels), pixels, EXACT)
    yield OddPhoto("GIF", save(palette, "GIF", interlace=0), rgb(palette), EXACT)
    yield OddPhoto("interlaced GIF", save(palette, "GIF", interlace=1), rgb(palette), EXACT)
    others = [palette.rotate(90), palette.rotate(180)]
    data = save(palette, "GIF", save_all=True, append_images=others)
    yield OddPhoto("animated GIF", data, rgb(palette), EXACT)


def top_down_bmp(pixels: Pixels) -> bytes:
    """An RGB photo with its first row in front, which a negative height says."""
    height, width = pixels.shape[:2]
    padding = bytes(-3 * width % 4)
    rows = b"".join(row[:, ::-1].tobytes() + padding for row in pixels)
    info = struct.pack("<LllHHLLllLL", 40, width, -height, 1, 24, 0, len(rows), 0, 0, 0, 0)
    return struct.pack("<2sLHHL", b"BM", 54 + len(rows), 0, 0, 54) + info + rows


def _heifs(portrait: Image.Image) -> Iterator[OddPhoto]:
    pixels, grey = rgb(portrait), portrait.convert("L")
    faded = portrait.copy()
    faded.putalpha(Image.linear_gradient("L").resize(portrait.size))
    for form in ("HEIC", "AVIF"):
        for chroma in ("4:4:4", "4:2:0"):
            data = encode_heif(portrait, form, subsampling=chroma, quality=90)
            yield OddPhoto(f"{form} {chroma}", data, pixels, LOSSY)
        yield OddPhoto(f"grey {form}", encode_heif(grey, form, quality=90), rgb(grey), LOSSY)
        data = encode_heif(faded, form, quality=90)
        yield OddPhoto(f"{form} with alpha", data, over_white(faded), LOSSY, False)
        data = write_grid(portrait, 128, form, quality=90)
        yield OddPhoto(f"{form} in tiles", data, pixels, LOSSY)
        yield OddPhoto(f"{form} of a phone", like_a_phone(portrait, form), pixels, LOSSY)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    data = encode_heif(deep, "HEIC", quality=90)
    yield OddPhoto("grey HEIC of 10 bits", data, rgb(grey), LOSSY)
    others = [portrait.rotate(90), portrait.rotate(180)]
    data = encode_heif(portrait, "AVIF", quality=90, save_all=True, append_images=others)
    yield OddPhoto("animated AVIF", data, pixels, LOSSY)


def like_a_phone(portrait: Image.Image, form: str) -> bytes:
    """Tiles, turned, with thumbnail, depth and gain map, and a second, larger picture."""
    lying = portrait.transpose(Image.Transpose.ROTATE_90)
    tiles = tiles_of(lying, 128, form)
    columns = -(-lying.width // 128)
    small = coded(portrait.resize((40, 48)), form)
    map_kind = b"auxC", bytes(4) + b"urn:com:apple:photo:2020:aux:hdrgainmap\0"
    depth_kind = b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0"
    grid = struct.pack(">BBBBHH", 0, 0, len(tiles) // columns - 1, columns - 1, *lying.size)
    items = [
        *tiles,
        FileItem(b"grid", (extent(*lying.size), *TURNS[6]), grid),
        small,
        small.with_properties(map_kind),
        small.with_properties(depth_kind),
        coded(portrait.rotate(180).resize((400, 400)), form),
        FileItem(b"tmap", (extent(*lying.size),), bytes(62)),
    ]
    first = len(tiles) + 1
    references = [
        (b"dimg", first, range(1, first)),
        (b"thmb", first + 1, [first]),
        (b"auxl", first + 2, [first]),
        (b"auxl", first + 3, [first]),
        (b"dimg", first + 5, [first, first + 2]),
    ]
    return write_heif(items, references, primary=first)


def _raws(portrait: Image.Image) -> Iterator[OddPhoto]:
    upright = rgb(portrait)
    lying = Image.fromarray(np.ascontiguousarray(STORED[6](upright)))
    preview = save(lying, "JPEG", quality=92)
    # The preview's own orientation does not count, nor its own thumbnail.
    other = save(lying, "JPEG", quality=92, exif=exif_of(3))
    small = save(lying.resize((60, 40)), "JPEG")
    sensor = {**raw_samples(*lying.size), **strip(bytes(100))}
    thumbnail = {ORIENTATION: [6], 254: [1], 50706: [1, 4], 513: small, 514: [len(small)]}
    for name, full in (("", preview), (" with EXIF", other)):
        inside = {254: [1], 259: [7], 262: [6], **strip(full)}
        data = tiff_file({**thumbnail, 330: [sensor, inside]})
        yield OddPhoto(f"DNG{name}", data, upright, LOSSY)
    first = {ORIENTATION: [6], 256: [lying.width], 257: [lying.height], 259: [6], **strip(preview)}
    data = tiff_file(first, mark=b"CR\2\0")
    yield OddPhoto("CR2", data, upright, LOSSY)
    data = tiff_file({ORIENTATION: [6], 2: [lying.width], 3: [lying.height], 46: preview}, b"IIU\0")
    yield OddPhoto("RW2", data, upright, LOSSY)
    turned = save(lying, "JPEG", quality=92, exif=exif_of(6))
    yield OddPhoto("RAF", raf_file(turned, *lying.size), upright, LOSSY)
    samples = {
        256: [lying.width],
        257: [lying.height],
        258: [8, 8, 8],
        259: [1],
        262: [2],
        254: [0],
        277: [3],
        278: [lying.height],
        **strip(lying.tobytes()),
    }
    data = tiff_file({**thumbnail, 330: [samples]})
    yield OddPhoto("TIFF behind its preview", data, upright, EXACT)


def raf_file(jpeg: bytes, width: int, height: int) -> bytes:
    """A Fujifilm raw file of that size, without the sensor's samples."""
    table = struct.pack(">LHHHHHH", 2, 0x111, 0, 0x100, 4, height, width)
    places = struct.pack(">LLLL", 160, len(jpeg), 100, len(table))
    return (b"FUJIFILMCCD-RAW ".ljust(84, b"0") + places + table).ljust(160, b"\0") + jpeg


def strip(data: bytes) -> dict[int, object]:
    return {273: data, 279: [len(data)]}


def raw_samples(width: int, height: int) -> dict[int, object]:
    """The directory of a sensor's samples, without them."""
    return {254: [0], 256: [width], 257: [height], 259: [1], 262: [32803]}


def tiff_file(first: dict[int, object], magic: bytes = b"II*\0", mark: bytes = b"") -> bytes:
    """A little-endian TIFF file.

    Args:
        first: the first directory, by tag: numbers, or bytes that are stored apart, or further
            directories.
        mark: what follows the header.
    """
    file = bytearray(magic + bytes(4) + mark)

    def put(data: bytes) -> int:
        file.extend(bytes(len(file) % 2))
        file.extend(data)
        return len(file) - len(data)

    def write(directory: dict[int, object]) -> int:
        entries = []
        for tag, value in sorted(directory.items()):
            if tag == 46:
                entries.append(struct.pack("<HHLL", tag, 7, len(value), put(value)))
                continue
            if isinstance(value, bytes):
                value = [put(value)]
            numbers = [write(one) if isinstance(one, dict) else one for one in value]
            body = struct.pack(f"<{len(numbers)}L", *numbers)
            place = body if len(body) == 4 else struct.pack("<L", put(body))
            entries.append(struct.pack("<HHL", tag, 4, len(numbers)) + place)
        return put(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))

    struct.pack_into("<L", file, 4, write(first))
    return bytes(file)


def _with_side_data(portrait: Image.Image) -> Iterator[OddPhoto]:
    """Metadata that is damaged, too long or says something else: none of it spoils the photo."""
    pixels = rgb(portrait)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exifs = {
        "garbage": b"Exif\0\0garbage",
        "endless EXIF": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        "EXIF beyond its end": b"Exif\0\0MM\0*\xff\xff\xff\xff\0\0",
        "EXIF of a looping directory": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08",
    }
    for form, tolerance in (("JPEG", LOSSY), ("PNG", EXACT), ("WEBP", LOSSY)):
        options = {"quality": 92} if tolerance else {}
        for name, exif in exifs.items():
            data = save(portrait, form, exif=exif, **options)
            yield OddPhoto(f"{form} with {name}", data, pixels, tolerance)
        for name, icc in (
            ("a profile", profile),
            ("a damaged profile", profile[:200] + b"\xff" * 90),
        ):
            data = save(portrait, form, icc_profile=icc, **options)
            yield OddPhoto(f"{form} with {name}", data, pixels, tolerance)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
    data = save(portrait, "JPEG", quality=92, xmp=xmp)
    yield OddPhoto("JPEG that XMP turns", data, pixels, LOSSY)
    plain = save(portrait, "PNG")
    chunks = {
        "a text of a wrong checksum": png_chunk(b"tEXt", b"Comment\0hello", 7),
        "a long text": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))),
        "an unknown chunk": png_chunk(b"abCd", bytes(10_000)),
        "a time of a wrong length": png_chunk(b"tIME", b"\0"),
        "a damaged profile of its own": png_chunk(b"iCCP", b"x\0\0garbage"),
    }
    for name, chunk in chunks.items():
        data = plain[:33] + chunk + plain[33:]
        yield OddPhoto(f"PNG with {name}", data, pixels, EXACT)


def _small(portrait: Image.Image) -> Iterator[OddPhoto]:
    """Sides that are no multiple of a block, and the smallest ones."""
    forms: dict[str, tuple[float, dict[str, object]]] = {
        "JPEG": (COARSE, {"quality": 95}),
        "PNG": (EXACT, {}),
        "WEBP": (COARSE, {"quality": 95}),
        "BMP": (EXACT, {}),
        "TIFF": (EXACT, {}),
        "AVIF": (COARSE, {"quality": 95}),
        "HEIC": (COARSE, {"quality": 95}),
    }
    for (form, (tolerance, options)), size in product(
        forms.items(), ((1, 1), (1, 40), (40, 1), (3, 2), (17, 15), (65, 63))
    ):
        image = portrait.resize(size)
        data = (encode_heif if form in ("HEIC", "AVIF") else save)(image, form, **options)
        yield OddPhoto(f"{form} of {size[0]} x {size[1]}", data, rgb(image), tolerance, False)

"""HEIC and AVIF: what is decoded of a file, and what is refused before its cost is paid."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from service.domain.errors import (
    CorruptImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from service.vision.decode import decode, read_header
from service.vision.formats import heif, isobmff
from service.vision.formats.base import DecodeLimits
from service.vision.formats.exif import TURNS as EXIF_TURNS
from tests.support.heif_files import (
    TURNS,
    FileItem,
    box,
    coded,
    extent,
    grid_of,
    tiles_of,
    write_grid,
    write_heif,
)

ENOUGH = DecodeLimits(1_000_000, 1_000_000)
LARGE = DecodeLimits(10**9, 10**9)
FORMS = ("HEIC", "AVIF")
HEAD = box(b"ftyp", b"heic", bytes(4), b"mif1", b"heic")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A picture without symmetry, of 96 x 64 pixels."""
    noise = np.random.default_rng(5).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(np.kron(noise, np.ones((16, 16, 1), np.uint8)))


@pytest.fixture(scope="module")
def items(photo: Image.Image) -> dict[str, FileItem]:
    return {form: coded(photo, form) for form in FORMS}


def clap(width: int, height: int, across: int, down: int) -> bytes:
    """The part of that size whose middle is so far from the middle of the picture."""
    return struct.pack(">IIIIiIiI", width, 1, height, 1, across, 1, down, 1)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "_decode_tile", lambda *_: pytest.fail("a tile was decoded"))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", FORMS)
def test_a_turned_photo_is_as_its_reference_decoder_shows_it(
    items: dict[str, FileItem], form: str, orientation: int
) -> None:
    data = write_heif([items[form].with_properties(*TURNS[orientation])])
    if form == "HEIC":
        shown = np.asarray(pillow_heif.open_heif(data)[0].to_pillow())
    else:
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif().get(0x0112, 1) == orientation
            turn = EXIF_TURNS.get(orientation)
            shown = np.asarray(image if turn is None else image.transpose(turn))
    np.testing.assert_array_equal(decode(data, ENOUGH).pixels, shown)


def test_tiles_give_the_pixels_that_libheif_gives(photo: Image.Image) -> None:
    data = write_grid(photo.resize((300, 200)), 64, "HEIC", quality=80)
    shown = pillow_heif.open_heif(data)[0].to_pillow()
    np.testing.assert_array_equal(decode(data, ENOUGH).pixels, np.asarray(shown))


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("crop", [(), ((b"clap", clap(301, 199, 3, 5)),)], ids=["whole", "cut"])
def test_a_reduced_photo_has_the_means_of_its_pixels(
    photo: Image.Image, form: str, shrink: int, crop: tuple[tuple[bytes, bytes], ...]
) -> None:
    tiles = tiles_of(photo.resize((311, 211)), 64, form)
    grid = grid_of(4, 5, 311, 211).with_properties(*crop)
    opened = heif.open_heif(write_heif([grid, *tiles], [(b"dimg", 1, range(2, 22))]))
    assert opened.largest_shrink == 8
    whole, reduced = Image.fromarray(opened.decode()), opened.decode(shrink)
    assert whole.size == (opened.width, opened.height)
    assert reduced.shape == (-(-opened.height // shrink), -(-opened.width // shrink), 3)
    means = np.asarray(whole.reduce(shrink)).astype(int)
    # A cut photo begins within a square.
    assert np.abs(reduced - means).mean() < (16 if crop else 0.1)


def test_tiles_that_squares_of_pixels_do_not_fit_are_decoded_whole(photo: Image.Image) -> None:
    tiles = tiles_of(photo.resize((200, 100)), 100, "AVIF")
    data = write_heif([grid_of(1, 2, 200, 100), *tiles], [(b"dimg", 1, [2, 3])])
    assert heif.open_heif(data).largest_shrink == 4


@pytest.mark.parametrize("form", FORMS)
def test_the_limit_of_pixels_is_checked_before_decoding(
    items: dict[str, FileItem], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_decoding(monkeypatch)
    data = write_heif([items[form]])
    with pytest.raises(ImageTooLargeError) as caught:
        decode(data, DecodeLimits(96 * 64 - 1, 96 * 64))
    assert (caught.value.width, caught.value.height) == (96, 64)
    header = read_header(data, DecodeLimits(96 * 64, 96 * 64))
    assert (header.width, header.height, header.shrink) == (96, 64, 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_large_photo_is_decoded_at_a_reduced_scale(photo: Image.Image, form: str) -> None:
    data = write_grid(photo.resize((320, 200)), 64, form)
    limits = DecodeLimits(64_000, 5_000)
    header = read_header(data, limits)
    assert (header.width, header.height, header.shrink) == (320, 200, 4)
    decoded = decode(data, limits)
    assert (decoded.width, decoded.height, decoded.shrink) == (320, 200, 4)
    assert decoded.pixels.shape == (50, 80, 3)
    with pytest.raises(ImageTooLargeError):
        decode(data, DecodeLimits(64_000, 999))


def test_a_tile_takes_no_more_memory_than_a_photo(
    items: dict[str, FileItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the part of it that is shown."""
    forbid_decoding(monkeypatch)
    tile = items["HEIC"].sized(16_000, 16_000)
    data = write_heif([grid_of(1, 1, 9, 9), tile], [(b"dimg", 1, [2])])
    with pytest.raises(ImageTooLargeError):
        decode(data, DecodeLimits())


def test_a_photo_of_too_much_work_is_refused_undecoded(
    items: dict[str, FileItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_decoding(monkeypatch)
    item = items["HEIC"].sized(512, 512)
    grid = grid_of(30, 40, 20_480, 15_360)
    data = write_heif([grid, *[item] * 1200], [(b"dimg", 1, range(2, 1202))])
    with pytest.raises(ImageTooComplexError):
        decode(data, DecodeLimits(max_pixels=10**9))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(16, 16), (95, 64), (160, 64), (4000, 4000)])
def test_a_tile_of_another_size_than_announced_is_corrupt(
    items: dict[str, FileItem], form: str, size: tuple[int, int]
) -> None:
    with pytest.raises(CorruptImageError):
        decode(write_heif([items[form].sized(*size)]), LARGE)


@pytest.mark.parametrize("form", FORMS)
def test_an_item_with_many_pictures_is_refused_undecoded(
    items: dict[str, FileItem], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = {"HEIC": "pillow_heif", "AVIF": "Image"}[form]
    monkeypatch.delattr(heif, decoder)
    item = items[form]
    with pytest.raises(CorruptImageError):
        decode(write_heif([replace(item, payload=item.payload * 9)]), ENOUGH)


def test_a_picture_that_refers_to_others_is_refused(items: dict[str, FileItem]) -> None:
    item = items["HEIC"]
    head = item.payload[4]
    for kind in (1, 21):  # a picture of a film, and one that it can be entered at
        changed = item.payload[:4] + bytes((head & 0x81 | kind << 1,)) + item.payload[5:]
        with pytest.raises(CorruptImageError):
            decode(write_heif([replace(item, payload=changed)]), ENOUGH)


def test_one_small_item_does_not_fill_a_grid(
    items: dict[str, FileItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_decoding(monkeypatch)
    grid = grid_of(100, 100, 9600, 6400)
    data = write_heif([grid, items["HEIC"]], [(b"dimg", 1, [2] * 10_000)])
    with pytest.raises(CorruptImageError):
        decode(data, LARGE)


@pytest.mark.parametrize(
    "size",
    [(2, 2, 97, 65), (1, 2, 96, 64), (1, 2, 193, 64), (1, 1, 97, 64), (256, 256, 9600, 9600)],
)
def test_a_grid_that_its_tiles_do_not_fit_is_corrupt(
    items: dict[str, FileItem], size: tuple[int, int, int, int]
) -> None:
    tiles = [items["HEIC"]] * min(size[0] * size[1], 4)
    data = write_heif([grid_of(*size), *tiles], [(b"dimg", 1, range(2, 2 + len(tiles)))])
    if size == (2, 2, 97, 65):
        assert decode(data, ENOUGH).pixels.shape == (65, 97, 3)
        return
    with pytest.raises(CorruptImageError):
        decode(data, LARGE)


def test_pictures_that_refer_to_one_another_are_not_followed(items: dict[str, FileItem]) -> None:
    same = FileItem(b"iden", (extent(96, 64),))
    with pytest.raises(CorruptImageError):
        decode(write_heif([same, same], [(b"dimg", 1, [2]), (b"dimg", 2, [1])]), ENOUGH)
    grid = grid_of(1, 1, 96, 64)
    with pytest.raises(UnsupportedImageError):
        decode(write_heif([grid], [(b"dimg", 1, [1])]), ENOUGH)
    # The transparency of a picture is described by the picture itself.
    alpha = b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
    data = write_heif([items["HEIC"].with_properties(alpha)], [(b"auxl", 1, [1])])
    assert decode(data, ENOUGH).pixels.shape == (64, 96, 3)


def test_other_items_are_never_read(items: dict[str, FileItem]) -> None:
    broken = FileItem(b"hvc1", ((b"hvcC", b""), (b"ispe", b"")), b"garbage")
    others = [broken, FileItem(b"unci", ((b"uncC", b"\xff" * 40),)), FileItem(b"Exif")]
    references = [(b"thmb", 2, [1]), (b"auxl", 3, [1]), (b"cdsc", 4, [1])]
    data = write_heif([items["HEIC"], *others], references)
    plain = decode(write_heif([items["HEIC"]]), ENOUGH)
    np.testing.assert_array_equal(decode(data, ENOUGH).pixels, plain.pixels)


def many_extents() -> bytes:
    """Items with as many parts as a number of two bytes can say, of no bytes each."""
    entries = struct.pack(">HHH", 1, 0, 0xFFFF) * 5000
    return box(b"iloc", bytes(4), struct.pack(">HH", 0, 5000), entries)


@pytest.mark.parametrize(
    "inside",
    [
        many_extents(),
        box(
            b"iinf",
            struct.pack(">IH", 0, 9),
            box(b"infe", struct.pack(">IHH", 2 << 24, 1, 0)) * 90_000,
        ),
        box(b"iprp", *[box(b"ipco", box(b"free") * 9)] * 20_000),
        box(b"iref", bytes(4), struct.pack(">I4sHH", 14, b"dimg", 1, 0xFFFF), bytes(2)),
        box(b"iprp", box(b"ipma", struct.pack(">II", 0, 0xFFFFFFFF))),
    ],
    ids=["extents", "items", "properties", "references", "associations"],
)
def test_counts_decide_nothing(inside: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    number = isobmff._Cursor.take

    def count(cursor: isobmff._Cursor, size: int) -> bytes:
        nonlocal read
        read += 1
        return number(cursor, size)

    monkeypatch.setattr(isobmff._Cursor, "take", count)
    meta = box(b"meta", bytes(4), box(b"pitm", bytes(4), b"\0\1"), inside)
    with pytest.raises((CorruptImageError, ImageTooComplexError)):
        decode(HEAD + meta, ENOUGH)
    assert read <= isobmff.MAX_NUMBERS + 1


def test_data_beyond_the_file_is_corrupt(items: dict[str, FileItem]) -> None:
    data = write_heif([items["HEIC"]])
    with pytest.raises(CorruptImageError):
        decode(data[:-1], ENOUGH)


def test_without_its_decoder_heic_is_refused_by_its_header(
    items: dict[str, FileItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "_HAS_HEVC", False)
    with pytest.raises(UnsupportedImageError, match="HEIC"):
        read_header(write_heif([items["HEIC"]]), ENOUGH)
    assert decode(write_heif([items["AVIF"]]), ENOUGH).format == "avif"


@pytest.mark.parametrize(
    "data",
    [HEAD, HEAD + box(b"meta", bytes(4)), HEAD + box(b"mdat", bytes(99)) + box(b"moov")],
    ids=["nothing", "empty", "film"],
)
def test_a_file_without_a_primary_picture_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError):
        decode(data, ENOUGH)

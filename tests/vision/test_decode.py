"""Decoding: which bytes become which pixels, and which are refused, and when."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from bench.common.costly_photos import webp_of_tables
from service.domain.errors import (
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    UnsupportedImageError,
)
from service.vision.decode import FORMATS as KNOWN
from service.vision.decode import decode, read_header
from service.vision.formats.base import DecodeLimits
from tests.support.heif_files import encode_heif, write_grid
from tests.support.odd_photos import STORED

# The tests' filter (every warning is an error) goes before the one that the module sets.
MODULE_FILTER = r"ignore::UserWarning:PIL\."
pytestmark = pytest.mark.filterwarnings(MODULE_FILTER)

Pixels = NDArray[np.uint8]
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]
LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {},
}  # fmt: skip
ORIENTATION = 0x0112


def up_to(pixels: int) -> DecodeLimits:
    return DecodeLimits(pixels, pixels)


ENOUGH = up_to(1_000_000)


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def blocks(rows: int, columns: int) -> Pixels:
    """A picture that survives lossy compression nearly unchanged."""
    return np.kron(noise(rows, columns), np.ones((16, 16, 1), np.uint8))


def save(image: Image.Image | Pixels, form: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, color_type: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def exif_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def reference_phash(data: bytes) -> str:
    return str(imagehash.phash(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_is_named_in_lower_case(form: str) -> None:
    assert decode(save(noise(9, 14), form), ENOUGH).format == form.lower()


@pytest.mark.parametrize("form", LOSSLESS)
def test_a_lossless_file_gives_back_its_pixels(form: str) -> None:
    pixels = noise(9, 14)
    decoded = decode(save(pixels, form, **LOSSLESS[form]), ENOUGH).pixels
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_lossy_file_gives_back_nearly_its_pixels(form: str) -> None:
    pixels = np.full((32, 48, 3), (200, 120, 40), np.uint8)
    decoded = decode(save(pixels, form, quality=95), ENOUGH).pixels
    np.testing.assert_allclose(decoded.astype(int), pixels, atol=4)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_gives_the_pixels_that_pillow_gives(
    mode: str, subsampling: int, progressive: bool
) -> None:
    picture = Image.fromarray(noise(37, 53)).convert(mode)
    data = save(picture, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
    wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data, ENOUGH).pixels, wanted)


def test_a_jpeg_with_stray_bytes_is_read() -> None:
    picture = save(noise(40, 60), "JPEG")
    # Stray bytes before the end: libjpeg-turbo warns.
    end = picture.rindex(b"\xff\xd9")
    odd = picture[:end] + b"\x00" * 7 + picture[end:]
    wanted = np.asarray(Image.open(io.BytesIO(odd)).convert("RGB"))
    np.testing.assert_array_equal(decode(odd, ENOUGH).pixels, wanted)


def test_damaged_data_of_a_scan_gives_the_pixels_that_pillow_gives() -> None:
    picture = bytearray(save(noise(400, 600), "JPEG"))
    picture[len(picture) // 2 : len(picture) // 2 + 40] = noise(1, 40)[0, :, 0].tobytes()
    wanted = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    np.testing.assert_array_equal(decode(bytes(picture), ENOUGH).pixels, wanted)


@pytest.mark.parametrize("form", FORMATS)
def test_pixels_are_contiguous_bytes_that_outlive_the_file(form: str) -> None:
    pixels = decode(save(noise(9, 14), form), ENOUGH).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == (9, 14, 3)
    assert pixels.flags.c_contiguous


def test_a_jpeg_with_a_second_picture_is_a_jpeg() -> None:
    first, second = (Image.fromarray(blocks(2, 3)), Image.fromarray(noise(20, 20)))
    data = save(first, "MPO", save_all=True, append_images=[second])
    photo = decode(data, ENOUGH)
    assert photo.format == "jpeg"
    assert photo.pixels.shape == (32, 48, 3)


def test_grey_becomes_three_equal_channels() -> None:
    grey = noise(6, 8)[:, :, 0]
    decoded = decode(save(Image.fromarray(grey), "PNG"), ENOUGH).pixels
    np.testing.assert_array_equal(decoded, np.dstack([grey] * 3))


def test_black_and_white_becomes_black_and_white() -> None:
    bits = noise(6, 8)[:, :, 0] > 127
    decoded = decode(save(Image.fromarray(bits), "PNG"), ENOUGH).pixels
    np.testing.assert_array_equal(decoded, np.dstack([bits * np.uint8(255)] * 3))


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    samples = np.array([[0x0000, 0x00FF, 0x0100, 0x1234], [0x7FFF, 0x8000, 0xFEFF, 0xFFFF]])
    encoded = cv2.imencode(".png", samples.astype(np.uint16))[1].tobytes()
    decoded = decode(encoded, ENOUGH).pixels
    np.testing.assert_array_equal(decoded, np.dstack([samples >> 8] * 3))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bit_samples_of_a_tiff_keep_their_high_byte(dtype: type) -> None:
    samples = np.array([[0, 255, 256], [0x7FFF, 0x8000, 0xFFFF]], dtype)
    decoded = decode(save(Image.fromarray(samples), "TIFF"), ENOUGH).pixels
    np.testing.assert_array_equal(decoded, np.dstack([samples >> 8] * 3))


def test_samples_beyond_sixteen_bits_are_clipped() -> None:
    samples = np.array([[-5, 70_000, 1 << 30]], np.int32)
    decoded = decode(save(Image.fromarray(samples), "TIFF"), ENOUGH).pixels
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 255, 255])


def test_sixteen_bit_colour_keeps_its_high_byte() -> None:
    samples = np.random.default_rng(3).integers(0, 1 << 16, (5, 7, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    decoded = decode(png(7, 5, 16, 2, rows), ENOUGH).pixels
    np.testing.assert_array_equal(decoded, samples >> 8)


def test_a_palette_becomes_its_colours() -> None:
    image = Image.fromarray(noise(6, 8)).quantize(16)
    decoded = decode(save(image, "PNG"), ENOUGH).pixels
    np.testing.assert_array_equal(decoded, np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode(save(image, "JPEG", quality=95), ENOUGH).pixels
    np.testing.assert_allclose(decoded.astype(int), np.full((16, 16, 3), (255, 0, 0)), atol=4)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_over_white(form: str) -> None:
    pixels = np.zeros((4, 3, 4), np.uint8)
    pixels[:, :] = (200, 100, 0, 255)
    pixels[0] = (200, 100, 0, 0)
    pixels[1] = (200, 100, 0, 128)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    decoded = decode(save(pixels, form, **options), ENOUGH).pixels
    np.testing.assert_array_equal(decoded[0], np.full((3, 3), 255))
    half = [round(255 + (value - 255) * 128 / 255) for value in (200, 100, 0)]
    np.testing.assert_allclose(decoded[1].astype(int), [half] * 3, atol=1)
    np.testing.assert_array_equal(decoded[2:], np.full((2, 3, 3), (200, 100, 0)))


def test_transparent_grey_is_laid_over_white() -> None:
    image = Image.merge("LA", [Image.new("L", (4, 4), 40), Image.new("L", (4, 4), 0)])
    image.putpixel((1, 2), (40, 255))
    decoded = decode(save(image, "PNG"), ENOUGH).pixels
    expected = np.full((4, 4, 3), 255)
    expected[2, 1] = 40
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(("form", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00"), ("GIF", 1)])
def test_a_transparent_palette_entry_is_laid_over_white(
    form: str, transparency: int | bytes
) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 90, 0, 0])
    image.putpixel((3, 1), 1)
    decoded = decode(save(image, form, transparency=transparency), ENOUGH).pixels
    expected = np.full((2, 4, 3), (10, 20, 30))
    expected[1, 3] = 255
    np.testing.assert_array_equal(decoded, expected)


def test_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.new("RGB", (4, 2), (10, 20, 30))
    image.putpixel((0, 0), (90, 0, 0))
    decoded = decode(save(image, "PNG", transparency=(90, 0, 0)), ENOUGH).pixels
    expected = np.full((2, 4, 3), (10, 20, 30))
    expected[0, 0] = 255
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_a_sequence_is_decoded(form: str) -> None:
    first, second = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    options = {"lossless": True} if form == "WEBP" else {}
    data = save(first, form, save_all=True, append_images=[second], **options)
    decoded = decode(data, ENOUGH).pixels
    np.testing.assert_array_equal(decoded, np.full((6, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_gives_the_same_upright_pixels(orientation: int, form: str) -> None:
    upright = noise(6, 10)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    data = save(stored, form, exif=exif_orientation(orientation), **LOSSLESS[form])
    np.testing.assert_array_equal(decode(data, ENOUGH).pixels, upright)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_of_a_jpeg_gives_the_same_upright_pixels(orientation: int) -> None:
    upright = blocks(2, 3)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    data = save(stored, "JPEG", exif=exif_orientation(orientation), quality=95, subsampling=0)
    np.testing.assert_allclose(decode(data, ENOUGH).pixels.astype(int), upright, atol=12)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    pixels = noise(6, 10)
    data = save(pixels, "PNG", exif=exif_orientation(orientation))
    np.testing.assert_array_equal(decode(data, ENOUGH).pixels, pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_orientation_is_applied_in_every_colour_mode(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(noise(6, 10)[:, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise(6, 10)).convert(mode)
    plain = decode(save(image, "PNG"), ENOUGH).pixels
    turned = decode(save(image, "PNG", exif=exif_orientation(3)), ENOUGH).pixels
    np.testing.assert_array_equal(turned, plain[::-1, ::-1])


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0MM\0*\xff\xff\xff\xff\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
        b"Exif\0\0",
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_is_ignored(form: str, exif: bytes) -> None:
    pixels = np.full((16, 24, 3), (200, 120, 40), np.uint8)
    decoded = decode(save(pixels, form, exif=exif), ENOUGH).pixels
    np.testing.assert_allclose(decoded.astype(int), pixels, atol=6)


@pytest.mark.parametrize(
    ("mode", "form", "orientation"),
    [
        ("RGB", "JPEG", 1),
        ("RGB", "JPEG", 6),
        ("RGB", "PNG", 5),
        ("RGB", "TIFF", 6),
        ("L", "JPEG", 8),
        ("L", "PNG", 1),
        ("LA", "PNG", 1),
        ("P", "PNG", 3),
        ("P", "GIF", 1),
        ("RGBA", "PNG", 1),
        ("RGBA", "WEBP", 7),
        ("1", "PNG", 1),
        ("CMYK", "JPEG", 1),
        ("I;16", "PNG", 1),
    ],
)
def test_phash_is_that_of_the_file_as_stored(mode: str, form: str, orientation: int) -> None:
    picture = blocks(3, 5)
    if mode == "I;16":
        image = Image.fromarray(picture[:, :, 0].astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        alpha = Image.fromarray(np.ascontiguousarray(picture[::-1, :, 0]))
        image = Image.fromarray(picture)
        image.putalpha(alpha)
        image = image.convert(mode)
    else:
        image = Image.fromarray(picture).convert(mode)
    options = {} if form == "GIF" else {"exif": exif_orientation(orientation)}
    data = save(image, form, **options)
    assert decode(data, ENOUGH).phash == reference_phash(data)


@pytest.mark.parametrize("form", FORMATS)
def test_the_pixel_limit_is_checked_before_decoding(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save(noise(9, 14), form)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    with pytest.raises(ImageTooLargeError) as caught:
        decode(data, up_to(9 * 14 - 1))
    assert (caught.value.width, caught.value.height, caught.value.max_pixels) == (14, 9, 125)


@pytest.mark.parametrize("form", FORMATS)
def test_as_many_pixels_as_the_limit_are_accepted(form: str) -> None:
    assert decode(save(noise(9, 14), form), up_to(9 * 14)).pixels.shape == (9, 14, 3)


def test_a_header_that_announces_ten_gigapixels_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    with pytest.raises(ImageTooLargeError, match="100000 x 100000"):
        decode(png(100_000, 100_000, 8, 2, b""), DecodeLimits())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_corrupt(form: str, share: float) -> None:
    data = save(noise(40, 60), form)
    with pytest.raises(CorruptImageError):
        decode(data[: int(len(data) * share)], ENOUGH)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello, this is a text and no photo",
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>',
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        bytes(1000),
    ],
    ids=["nothing", "nul", "text", "pdf", "svg", "heic", "zeros"],
)
def test_bytes_of_no_supported_type_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError):
        decode(data, ENOUGH)


@pytest.mark.parametrize("form", ["PPM", "ICO", "TGA", "PCX", "EPS"])
def test_formats_that_pillow_could_read_but_are_not_offered_are_unsupported(form: str) -> None:
    with pytest.raises(UnsupportedImageError):
        decode(save(noise(16, 16), form), ENOUGH)


def test_floating_point_samples_are_unsupported() -> None:
    data = save(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(UnsupportedImageError, match="floating-point"):
        decode(data, ENOUGH)


def test_running_out_of_memory_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: object) -> None:
        raise MemoryError

    data = save(noise(9, 14), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", exhausted)
    with pytest.raises(MemoryError):
        decode(data, ENOUGH)


def test_a_message_says_nothing_of_the_decoder() -> None:
    data = save(noise(40, 60), "PNG")
    with pytest.raises(CorruptImageError) as caught:
        decode(data[: len(data) // 2], ENOUGH)
    assert caught.value.message == "The image is damaged or ends early and cannot be decoded."


def seeds() -> list[bytes]:
    picture, exif = blocks(1, 2), exif_orientation(6)
    plain = Image.fromarray(picture)
    return [
        save(plain, "JPEG", exif=exif),
        save(plain, "JPEG", progressive=True),
        save(plain.convert("CMYK"), "JPEG"),
        save(plain, "PNG", exif=exif),
        save(plain.quantize(8), "PNG", transparency=1),
        save(plain.convert("LA"), "PNG"),
        save(plain, "WEBP", exif=exif),
        save(plain.convert("RGBA"), "WEBP", lossless=True),
        save(plain, "BMP"),
        save(plain.quantize(8), "BMP"),
        save(plain, "TIFF", exif=exif),
        save(plain, "TIFF", compression="tiff_lzw"),
        save(plain, "TIFF", compression="tiff_adobe_deflate"),
        save(plain, "GIF", save_all=True, append_images=[plain.rotate(90)]),
        save(plain, "AVIF", exif=exif),
        encode_heif(plain.convert("RGBA"), "HEIC"),
        write_grid(plain, 16, "HEIC"),
    ]


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from(seeds()),
    flips=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=6),
    near_start=st.booleans(),
    cut=st.one_of(st.none(), st.integers(0)),
)
def test_a_damaged_file_gives_a_photo_or_an_input_error(
    data: bytes, flips: list[tuple[int, int]], near_start: bool, cut: int | None
) -> None:
    damaged = bytearray(data)
    for position, value in flips:
        damaged[position % min(len(data), 64 if near_start else len(data))] = value
    if cut is not None:
        del damaged[cut % len(damaged) :]
    limit = 10_000
    limits = up_to(limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        try:
            photo = decode(bytes(damaged), limits)
        except InputError:
            return
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.ndim == 3
    assert photo.pixels.shape[2] == 3
    assert 0 < photo.pixels.size <= 3 * limit
    assert photo.pixels.flags.c_contiguous
    assert photo.format in {form.name for form in KNOWN} | {"heic", "avif"}
    assert len(photo.phash) == 16


# Names of formats with a mode, and what to save them with.
KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "jpeg": ("JPEG", "RGB", {}),
    "progressive jpeg": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "turned jpeg": ("JPEG", "RGB", {"exif": exif_orientation(6)}),
    "cmyk jpeg": ("JPEG", "CMYK", {}),
    "png": ("PNG", "RGB", {}),
    "png with alpha": ("PNG", "RGBA", {}),
    "grey png with alpha": ("PNG", "LA", {}),
    "png with one colour transparent": ("PNG", "RGB", {"transparency": (1, 2, 3)}),
    "16-bit png": ("PNG", "I;16", {}),
    "black and white png": ("PNG", "1", {}),
    "webp": ("WEBP", "RGB", {}),
    "webp with alpha": ("WEBP", "RGBA", {"lossless": True}),
    "bmp": ("BMP", "RGB", {}),
    "tiff": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "cmyk tiff": ("TIFF", "CMYK", {"compression": "tiff_adobe_deflate"}),
    "32-bit tiff": ("TIFF", "I", {}),
    "gif": ("GIF", "P", {}),
    "avif": ("AVIF", "RGB", {"subsampling": "4:4:4"}),
    "avif with alpha": ("AVIF", "RGBA", {}),
    "heic": ("HEIC", "RGB", {}),
    "heic with alpha": ("HEIC", "RGBA", {}),
}
SIDE = 2000
# Each image is decoded by a process of its own, whose memory's peak is that of this image.
PEAKS = """
import os, sys
from pathlib import Path
from service.vision.decode import blank_png, decode, read_header
from service.vision.formats.base import DecodeLimits

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

limits = DecodeLimits(10**9, 10**9)
decode(blank_png(64), limits)  # imports what only the first call needs
for path in sys.argv[1:]:
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            sys.exit(path)
        continue
    data = Path(path).read_bytes()
    decode(blank_png(64), limits)
    before = peak()
    decode(data, limits)
    print(peak() - before, read_header(data, limits).decoding_bytes)
    break
"""
SLACK_BYTES = 8 << 20


@pytest.mark.parametrize("kinds", [list(KINDS)[n::3] for n in range(3)], ids=lambda kinds: kinds[0])
def test_decoding_takes_no_more_memory_than_the_header_says(
    kinds: list[str], tmp_path: Path
) -> None:
    picture = Image.fromarray(np.tile(blocks(25, 25), (SIDE // 400, SIDE // 400, 1)))
    images = {}
    for kind in kinds:
        form, mode, options = KINDS[kind]
        write = encode_heif if form in ("HEIC", "AVIF") else save
        images[kind] = write(in_mode(picture, mode), form, **options)
    found = measured(images, tmp_path)
    assert {k: both for k, both in found.items() if both[0] > both[1] + SLACK_BYTES} == {}
    # An image takes its pixels at least.
    assert min(taken for taken, _ in found.values()) > SIDE * SIDE


def test_tables_of_a_lossless_webp_count_as_memory(tmp_path: Path) -> None:
    data = webp_of_tables(1024)
    assert len(data) < 300_000
    ((taken, announced),) = measured({"tables": data}, tmp_path).values()
    assert 300 << 20 < taken <= announced + SLACK_BYTES


def measured(images: dict[str, bytes], folder: Path) -> dict[str, tuple[int, int]]:
    """The memory that decoding takes, and the memory that the header announces, in bytes."""
    files = [folder / f"image {number}" for number in range(len(images))]
    for file, data in zip(files, images.values(), strict=True):
        file.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, *map(str, files)], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {
        name: (int(taken), int(announced))
        for name, (taken, announced) in zip(images, lines, strict=True)
    }


def in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)
    return picture.convert(mode)


def tiled_tiff(side: int, *tiles: tuple[int, int]) -> bytes:
    """A grey picture in one tile; tiles: type and value of each entry that says its size."""
    (_, size), *_ = tiles
    body = zlib.compress(bytes(size * size), 9)
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    entries += [(tag, *tile) for tag in (322, 323) for tile in tiles]
    data_at = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(324, 4, data_at), (325, 4, len(body))]
    # In this order of bytes a short number is at the front of its four bytes.
    rows = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<2sHLH", b"II", 42, 8, len(entries)) + rows + bytes(4) + body


def test_the_tile_of_a_small_picture_counts_as_what_it_takes() -> None:
    small = tiled_tiff(64, (4, 64))
    assert decode(small, ENOUGH).pixels.shape == (64, 64, 3)
    assert read_header(small, ENOUGH).decoding_bytes < 64 * 64 * 64
    large = tiled_tiff(64, (4, 4096))
    assert len(large) < 100_000
    assert read_header(large, up_to(1 << 24)).decoding_bytes >= 1 << 24
    for each in (decode, read_header):
        with pytest.raises(ImageTooLargeError):
            each(large, ENOUGH)


@pytest.mark.parametrize(
    "tiles",
    [[(4, 64), (4, 4096)], [(4, 4096), (4, 64)], [(3, 64), (17, 4096)], [(17, 4096), (4, 64)]],
)
def test_no_second_entry_hides_a_large_tile(tiles: list[tuple[int, int]]) -> None:
    with pytest.raises((ImageTooLargeError, CorruptImageError)):
        decode(tiled_tiff(64, *tiles), ENOUGH)


@pytest.mark.parametrize("cut", range(8, 60, 4))
def test_a_tiff_header_that_ends_early_is_refused(cut: int) -> None:
    with pytest.raises((UnsupportedImageError, CorruptImageError)):
        read_header(tiled_tiff(64, (4, 64))[:cut], ENOUGH)


def test_a_header_is_refused_like_its_image() -> None:
    with pytest.raises(UnsupportedImageError):
        read_header(b"no image", ENOUGH)
    with pytest.raises(ImageTooLargeError):
        read_header(save(noise(8, 8), "PNG"), up_to(63))
    assert read_header(save(noise(8, 9), "PNG"), up_to(72)).width == 9

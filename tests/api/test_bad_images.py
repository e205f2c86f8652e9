"""Files that are no usable photo: refused, and nothing of them stays behind."""

from __future__ import annotations

import struct
import zlib

import httpx2 as httpx
import pytest
from PIL import Image

from bench.common.costly_photos import COSTLY
from bench.common.server import ServiceProcess
from tests.support.calls import (
    Photos,
    assert_error,
    call,
    decode,
    encode,
    multipart,
    reviews,
    send,
    stored,
)


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG file whose header may promise more than its data holds."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


NO_IMAGES = {
    "text": b"this is no image",
    "one byte": b"\xff",
    "zeros": bytes(4096),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "zip": b"PK\x03\x04" + bytes(64),
    "html": b"<!doctype html><title>x</title>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "ppm": encode(Image.new("RGB", (9, 9)), "PPM"),
    "ico": encode(Image.new("RGB", (16, 16)), "ICO"),
    "float tiff": encode(Image.new("F", (9, 9)), "TIFF"),
}
DAMAGED = {
    "png without pixels": png(64, 64, b""),
    "png with too few pixels": png(640, 640, bytes(1000)),
}
HARDLY_IMAGES = {
    "png without width": png(0, 64, b""),
    "gif header": b"GIF89a",
    "jpeg header": b"\xff\xd8\xff\xe0",
}
TOO_LARGE = {
    "wide png": png(2**31 - 1, 1, b""),
    "square png": png(60_000, 60_000, b""),
    "bmp": encode(Image.new("L", (8, 8)), "BMP").replace(
        struct.pack("<ii", 8, 8), struct.pack("<ii", 99_999, 99_999)
    ),
    "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"," + bytes(9) + b";",
}
FILES = {**NO_IMAGES, **DAMAGED, **HARDLY_IMAGES, **TOO_LARGE, "empty": b""}


@pytest.mark.parametrize("file", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_supported_image_is_unsupported(
    client: httpx.Client, tenant: str, file: bytes
) -> None:
    assert_error(send(client, tenant, file), 415, "unsupported_image")


@pytest.mark.parametrize("file", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_image_is_refused(client: httpx.Client, tenant: str, file: bytes) -> None:
    assert_error(send(client, tenant, file), 422, "corrupt_image")


@pytest.mark.parametrize("file", HARDLY_IMAGES.values(), ids=HARDLY_IMAGES)
def test_what_is_hardly_an_image_is_refused(client: httpx.Client, tenant: str, file: bytes) -> None:
    answer = send(client, tenant, file)
    assert_error(answer, 415 if answer.status_code == 415 else 422)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_an_image_that_ends_early_is_refused(
    client: httpx.Client, tenant: str, photos: Photos, name: str
) -> None:
    file = encode(decode(photos.hopper), name)
    assert_error(send(client, tenant, file[: len(file) // 2]), 422, "corrupt_image")


@pytest.mark.parametrize("file", TOO_LARGE.values(), ids=TOO_LARGE)
def test_an_image_that_announces_too_many_pixels_is_refused(
    client: httpx.Client, tenant: str, file: bytes
) -> None:
    assert_error(send(client, tenant, file), 422, "image_too_large")


def test_an_image_of_a_thousand_scans_is_too_complex(client: httpx.Client, tenant: str) -> None:
    file = COSTLY["jpeg: a thousand scans"]()
    assert_error(send(client, tenant, file), 422, "image_too_complex")


def test_an_empty_file_is_malformed(client: httpx.Client, tenant: str) -> None:
    assert_error(send(client, tenant, b""), 422, "invalid_parameter")


def test_an_insert_without_a_file_is_malformed(client: httpx.Client, tenant: str) -> None:
    assert_error(call(client, "POST", "/insert-image", tenant_id=tenant), 422, "missing_parameter")


@pytest.mark.parametrize("how", ["query", "urlencoded", "multipart"])
def test_an_image_sent_as_text_is_malformed(client: httpx.Client, tenant: str, how: str) -> None:
    given = {"tenant_id": tenant, "image": "text"}
    options = {
        "query": {"params": given},
        "urlencoded": {"data": given},
        "multipart": {"files": {name: (None, value) for name, value in given.items()}},
    }[how]
    assert_error(client.post("/insert-image", **options), 422, "invalid_parameter")


def test_two_files_are_malformed(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    before = stored(service)
    part = ('name="image"; filename="a.jpg"', photos.nobody)
    form = multipart(('name="tenant_id"', tenant.encode()), part, part)
    assert_error(client.post("/insert-image", **form), 422)
    assert stored(service) == before


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_nothing_of_a_refused_photo_stays_behind(
    client: httpx.Client, tenant: str, service: ServiceProcess, file: bytes
) -> None:
    before = stored(service)
    send(client, tenant, file)
    assert stored(service) == before
    assert reviews(client, tenant) == []
    assert_error(call(client, "DELETE", "/tenant", tenant_id=tenant), 404, "not_found")


def test_a_good_photo_is_served_after_bad_ones(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    for file in FILES.values():
        send(client, tenant, file)
    assert send(client, tenant, photos.astronaut).status_code == 200

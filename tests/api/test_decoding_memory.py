"""Photos that are small files and large pictures: many at once take no more memory than allowed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx2 as httpx
import pytest
from PIL import Image

from tests.support.calls import Photos, decode, encode, metric, send_raw
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess

MIB = 1 << 20
ROOM_MB = 256
PLACES = 6
SIDE = 3000
# What the models keep of it, threads, answers.
SLACK_MB = 150


@pytest.fixture(scope="module")
def narrow(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service with places for many photos, and memory for one or two large ones."""
    settings = {
        "FACETTE_INFERENCE_MAX_PHOTOS_IN_WORK": str(PLACES),
        "FACETTE_INFERENCE_MAX_DECODED_MB": str(ROOM_MB),
    }
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, settings).start()
        yield process
        assert process.stop() == 0


@pytest.fixture
def client(narrow: ServiceProcess) -> Iterator[httpx.Client]:
    """A client of that service."""
    with narrow.client() as found:
        yield found


@pytest.fixture(scope="module")
def bombs() -> list[tuple[str, bytes]]:
    """Files of some kilobytes that are pictures of nine megapixels."""
    blank = Image.new("RGB", (SIDE, SIDE), "gray")
    found = [
        ("image/png", encode(blank, "PNG")),
        ("image/png", encode(blank.convert("RGBA"), "PNG")),
        ("image/tiff", encode(blank, "TIFF", compression="tiff_adobe_deflate")),
    ]
    assert max(len(data) for _, data in found) < 200_000
    return found


def memory_mb(service: ServiceProcess, name: str) -> float:
    """A line of the process's status, as proc(5) has it."""
    lines = Path(f"/proc/{service.pid}/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/embed?input=crop", "/insert-image"])
def test_many_large_photos_at_once_take_no_more_memory_than_allowed(
    narrow: ServiceProcess,
    client: httpx.Client,
    tenant: str,
    photos: Photos,
    bombs: list[tuple[str, bytes]],
    path: str,
) -> None:
    def post(number: int) -> int:
        kind, data = bombs[number % len(bombs)]
        url = f"{path}{'&' if '?' in path else '?'}tenant_id={tenant}-{number}"
        return client.post(url, content=data, headers={"Content-Type": kind}).status_code

    assert send_raw(client, "/v1/embed", photos.astronaut).status_code == 200
    Path(f"/proc/{narrow.pid}/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before_mb = memory_mb(narrow, "VmRSS")
    with ThreadPoolExecutor(PLACES + 2) as callers:
        assert set(callers.map(post, range(PLACES + 2))) == {200}
    assert memory_mb(narrow, "VmHWM") - before_mb < ROOM_MB + SLACK_MB
    assert metric(client, "facette_photos_in_work") == 0


def test_a_photo_larger_than_all_the_memory_allowed_is_taken_alone(
    client: httpx.Client, photos: Photos
) -> None:
    giant = encode(Image.new("RGB", (5600, 5600), "gray"), "PNG")
    with ThreadPoolExecutor(8) as callers:
        small = partial(send_raw, client, "/v1/detect", photos.astronaut)
        large = partial(send_raw, client, "/v1/detect", giant, "image/png")
        answers = [callers.submit(each) for each in (small, large, small, large, small, small)]
        assert [each.result().status_code for each in answers] == [200] * 6


@pytest.fixture
def usual(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service with the memory for photos that two workers get by default."""
    settings = {"FACETTE_INFERENCE_WORKERS": "2"}
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, settings).start()
        yield process
        assert process.stop() == 0


@pytest.mark.slow
def test_eight_photos_of_the_largest_size_at_once_take_600_megabytes(
    usual: ServiceProcess, photos: Photos
) -> None:
    sizes = (4800, 6600), (12_000, 16_600)
    picture = decode(photos.astronaut)
    files = [encode(picture.resize(size), "JPEG") for size in sizes]
    with usual.client() as client:

        def post(number: int) -> int:
            url = f"/insert-image?tenant_id=t{number}"
            headers = {"Content-Type": "image/jpeg"}
            return client.post(url, content=files[number % 2], headers=headers).status_code

        assert send_raw(client, "/v1/embed", photos.astronaut).status_code == 200
        before_mb = memory_mb(usual, "VmRSS")
        Path(f"/proc/{usual.pid}/clear_refs").write_text("5", encoding="ascii")
        with ThreadPoolExecutor(8) as callers:
            assert set(callers.map(post, range(8))) == {200}
        assert memory_mb(usual, "VmHWM") - before_mb < 600

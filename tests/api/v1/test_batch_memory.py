"""A batch of hundreds of photos takes no more memory than a few of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.parts import MAX_PARTS
from tests.support.batches import END, ended_by, part, send_batch, statuses
from tests.support.calls import Photos, metric
from tests.support.folders import open_folder
from tests.support.memory import peak_mb, reset_peak, resident_mb
from tests.support.service import ServiceProcess

PHOTO_BYTES = 2_000_000
# Few photos in work, their decoded pixels, and what the models keep of them.
MOST_MB = 100


@pytest.fixture
def quiet(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service that has done the same kind of work before."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir).start()
        yield process
        assert process.stop() == 0


def growth_mb(service: ServiceProcess, photo: bytes, count: int) -> float:
    """How much the peak is above the memory before, while a batch of that many is stored."""

    def pieces() -> Iterator[bytes]:
        for number in range(count):
            yield part(photo + bytes(PHOTO_BYTES - len(photo)) + number.to_bytes(4, "big"))
        yield END

    with service.client(timeout_s=600) as client:
        reset_peak(service.pid)
        before = resident_mb(service.pid)
        answer = send_batch(client, f"batch-of-{count}", pieces())
        assert ended_by(answer) is None
        assert statuses(answer) == [201] * count
        stored = client.get(f"/v1/tenants/batch-of-{count}").json()
        assert stored["image_count"] == count
        assert metric(client, "facette_bytes_in_flight") == 0
    return peak_mb(service.pid) - before


@pytest.mark.long
def test_a_batch_of_100_photos_takes_the_memory_of_a_few(
    quiet: ServiceProcess, photos: Photos
) -> None:
    growth_mb(quiet, photos.astronaut, 10)
    assert growth_mb(quiet, photos.astronaut, 100) < MOST_MB


@pytest.mark.slow
def test_the_longest_batch_takes_the_memory_of_a_few_photos(
    quiet: ServiceProcess, photos: Photos
) -> None:
    """Two gigabytes go through the same bound."""
    growth_mb(quiet, photos.astronaut, 20)
    assert growth_mb(quiet, photos.astronaut, MAX_PARTS) < MOST_MB

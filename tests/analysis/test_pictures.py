"""Pictures are made on the workers of the analysis, within its limits, in the order of tickets."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from PIL import Image

from bench.common.photos import source
from service.analysis import analyzer as analysis
from service.analysis.analyzer import AnalysisSettings, Analyzer
from service.app.settings import analysis_settings
from service.batching import Ticket, free_ticket
from service.config import AuthConfig, Config
from service.config.sections import ImagesConfig, InferenceConfig
from service.domain.errors import (
    CorruptImageError,
    DeadlineError,
    StoppingError,
    UnsupportedImageError,
    WithdrawnError,
)
from service.domain.types import Box, PhotoFacts
from service.runtime.manifest import ModelName, load_manifest
from service.runtime.sessions import ModelSession, open_sessions
from service.telemetry import Metrics, StageClock
from service.vision.decode import read_header
from service.vision.formats.base import DecodeLimits
from service.vision.pictures import Picture, read_picture_header, render
from tests.support.odd_photos import exif_of, save


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def settings() -> AnalysisSettings:
    config = Config(
        auth=AuthConfig(token="a-token-for-tests"),
        inference=InferenceConfig(provider="cpu", precision="fp32", workers=2),
        images=ImagesConfig(),
    )
    return analysis_settings(config)


@pytest.fixture(scope="module")
def sessions(models_dir: Path, settings: AnalysisSettings) -> dict[ModelName, ModelSession]:
    return open_sessions(models_dir, load_manifest(models_dir), settings.sessions)


@pytest.fixture
async def analyzer(
    models_dir: Path,
    settings: AnalysisSettings,
    sessions: dict[ModelName, ModelSession],
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Analyzer]:
    """An analyzer of each test's own, over sessions that are opened once."""
    monkeypatch.setattr(analysis, "open_sessions", lambda *_: sessions)
    made = Analyzer(models_dir, settings, metrics)
    yield made
    await made.aclose()


class Held:
    """Pictures that wait in their workers until `go_on` is set."""

    def __init__(self) -> None:
        self.running: list[Picture] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def render(self, data: bytes, picture: Picture, limits: DecodeLimits) -> bytes:
        self.running.append(picture)
        self.begun.set()
        self.go_on.wait()
        return render(data, picture, limits)


@pytest.fixture
def held(analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    found = Held()
    monkeypatch.setattr(analysis, "render", found.render)
    yield found
    found.go_on.set()


def photo(width: int = 640, height: int = 480, **options: object) -> bytes:
    return save(Image.new("RGB", (width, height), "orange"), "JPEG", **options)


def size_of(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


async def test_thumbnails_and_crops_are_made(analyzer: Analyzer, metrics: Metrics) -> None:
    read = source(photo(exif=exif_of(6)))
    assert size_of(await analyzer.thumbnail(read, 128, free_ticket())) == (96, 128)
    box = Box(100, 100, 200, 300)
    assert size_of(await analyzer.crop(read, box, 100, 1.2, free_ticket())) == (50, 100)
    for stage in ("queue", "render"):
        labels = {"stage": stage}
        assert metrics.registry.get_sample_value("facette_stage_seconds_count", labels) == 2


async def test_analysed_photos_bring_their_facts(analyzer: Analyzer) -> None:
    found = await analyzer.analyze(source(photo(exif=exif_of(6))), StageClock(), free_ticket())
    assert found.facts == PhotoFacts(orientation=6)


async def test_files_that_are_no_photos_are_input_errors(analyzer: Analyzer) -> None:
    with pytest.raises(UnsupportedImageError):
        await analyzer.thumbnail(source(b"no photo"), 128, free_ticket())
    with pytest.raises(CorruptImageError):
        await analyzer.crop(source(photo()[:-40]), Box(0, 0, 9, 9), 64, 1.0, free_ticket())


async def test_a_ticket_that_failed_makes_no_picture(analyzer: Analyzer) -> None:
    gone, late = free_ticket(), free_ticket()
    gone.withdraw()
    late.deadline = 0.0
    with pytest.raises(WithdrawnError):
        await analyzer.thumbnail(source(photo()), 128, gone)
    with pytest.raises(DeadlineError):
        await analyzer.thumbnail(source(photo()), 128, late)


async def test_no_picture_is_begun_after_the_end(analyzer: Analyzer) -> None:
    await analyzer.aclose()
    with pytest.raises(StoppingError):
        await analyzer.thumbnail(source(photo()), 128, free_ticket())


async def test_closing_finishes_the_pictures_in_work(analyzer: Analyzer, held: Held) -> None:
    making = asyncio.create_task(analyzer.thumbnail(source(photo()), 128, free_ticket()))
    await asyncio.to_thread(held.begun.wait)
    closing = asyncio.create_task(analyzer.aclose())
    held.go_on.set()
    assert size_of(await making) == (128, 96)
    await closing


async def test_costly_pictures_leave_a_worker_for_other_photos(
    analyzer: Analyzer, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both workers would be busy, if a long decoding for a picture were not one for an analysis."""
    usual, costly = photo(), photo(3000, 2000)
    most = read_header(usual, DecodeLimits()).work_us
    assert read_picture_header(costly, Picture(128), DecodeLimits()).work_us > most
    monkeypatch.setattr(analysis, "_LONG_WORK_US", most)
    making = [
        asyncio.create_task(analyzer.thumbnail(source(costly), 128, free_ticket()))
        for _ in range(4)
    ]
    await asyncio.to_thread(held.begun.wait)
    await analyzer.analyze(source(usual), StageClock(), free_ticket())
    assert len(held.running) == 1
    held.go_on.set()
    await asyncio.gather(*making)
    assert len(held.running) == 4


async def test_pictures_take_places_and_memory_of_photos_in_work(
    analyzer: Analyzer, metrics: Metrics, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = analyzer._places.enter

    async def enter(ticket: Ticket, size: int = 0) -> None:
        sizes.append(size)
        await original(ticket, size)

    monkeypatch.setattr(analyzer._places, "enter", enter)
    data = photo(4000, 3000)
    making = asyncio.create_task(analyzer.thumbnail(source(data), 128, free_ticket()))
    await asyncio.to_thread(held.begun.wait)
    assert metrics.registry.get_sample_value("facette_photos_in_work") == 1
    held.go_on.set()
    await making
    assert metrics.registry.get_sample_value("facette_photos_in_work") == 0
    # An eighth of each side: 16 bytes a pixel, and the file.
    assert sizes == [500 * 375 * 16 + len(data)]

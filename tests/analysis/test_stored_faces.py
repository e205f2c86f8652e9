"""Faces that are embedded again by their stored boxes get the vectors that inserting gave them."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from bench.common.photos import source
from service.analysis.analyzer import Analyzer
from service.analysis.stored_faces import StoredFaceEmbedder
from service.app.settings import analysis_settings
from service.batching import free_ticket
from service.config import AuthConfig, Config
from service.config.sections import InferenceConfig
from service.domain.errors import ImageTooLargeError, InputError
from service.domain.types import Box, Detection, FacePlace
from service.runtime.sessions import SessionSettings
from service.telemetry import Metrics, StageClock
from service.vision.formats.base import DecodeLimits

LIMITS = DecodeLimits()


@pytest.fixture(scope="module")
def embedder(models_dir: Path) -> StoredFaceEmbedder:
    return StoredFaceEmbedder(models_dir, SessionSettings("cpu", "fp32"), limits=LIMITS)


def _as_stored(face: Detection) -> FacePlace:
    """Through the columns' real[]."""
    sides = (face.box.x1, face.box.y1, face.box.x2, face.box.y2)
    return FacePlace(
        Box(*map(_single, sides)), tuple((_single(x), _single(y)) for x, y in face.landmarks)
    )


def _single(number: float) -> float:
    return float(np.float32(number))


def _turned(photo: Path, degrees: int) -> bytes:
    """The photo, lying on its side or head."""
    data = io.BytesIO()
    Image.open(photo).convert("RGB").rotate(degrees, expand=True).save(data, "png")
    return data.getvalue()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def analyzer(models_dir: Path) -> AsyncIterator[Analyzer]:
    config = Config(
        auth=AuthConfig(token="a-token-for-tests"),
        inference=InferenceConfig(provider="cpu", precision="fp32", workers=1),
    )
    made = Analyzer(models_dir, analysis_settings(config), Metrics())
    yield made
    await made.aclose()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
async def test_vectors_are_those_of_the_analyzer(
    embedder: StoredFaceEmbedder, analyzer: Analyzer, portraits: list[Path], degrees: int
) -> None:
    assert embedder.facts == analyzer.embedding
    for portrait in portraits:
        data = _turned(portrait, degrees) if degrees else portrait.read_bytes()
        photo = await analyzer.analyze(source(data), StageClock(), free_ticket())
        places = [_as_stored(face.detection) for face in photo.faces]
        assert photo.turned == degrees
        crops = embedder.cut(data, places, photo.turned)
        found = embedder.embed([crop for crop in crops if crop is not None])
        assert len(found) == len(photo.faces) > 0
        for face, embedding in zip(photo.faces, found, strict=True):
            assert float(face.embedding @ embedding) > 0.999999


def test_box_outside_the_photo_has_no_crop(
    embedder: StoredFaceEmbedder, portraits: list[Path]
) -> None:
    data = portraits[0].read_bytes()
    outside, inside = embedder.cut(
        data,
        [
            FacePlace(Box(-90.0, -90.0, -50.0, -50.0), ((-9.0, -9.0),) * 5),
            FacePlace(Box(9.0, 9.0, 99.0, 99.0), ((50.0, 50.0),) * 5),
        ],
        0,
    )
    assert outside is None
    assert inside is not None


def test_file_that_is_no_photo_is_an_input_error(embedder: StoredFaceEmbedder) -> None:
    with pytest.raises(InputError):
        embedder.cut(b"half a photo", [], 0)


def test_a_photo_of_an_archive_takes_no_more_memory_than_one_that_is_sent(
    embedder: StoredFaceEmbedder,
) -> None:
    data = io.BytesIO()
    Image.new("1", (LIMITS.max_decoded_pixels // 4000 + 1, 4000)).save(data, "png")
    assert len(data.getvalue()) < 10_000
    with pytest.raises(ImageTooLargeError):
        embedder.cut(data.getvalue(), [], 0)
